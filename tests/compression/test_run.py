"""Compression as a whole, on models and texts so small that it takes a second."""

import copy
import errno
import json
import math
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

import wordelim
from wordelim import Retention, Settings
from wordelim.compression.run import compress_model
from wordelim.data.columns import find_columns
from wordelim.data.encode import encode
from wordelim.errors import (
    CheckpointError,
    DataError,
    NotMetError,
    RetentionError,
    UnsupportedModelError,
    WordelimError,
)
from wordelim.evaluation.inference import batches, logits_of
from wordelim.tasks import Task
from wordelim.training.fit import unwrap_
from wordelim.verbs.compress import compress, plan

QUICK = {"measure_speed": False, "batch_size": 16}
KEEP = {**QUICK, "keep": (0.7, 0.4, 0.0), "epochs": 1, "max_drop": 100}
SEARCH = {**QUICK, "search_examples": 24, "epochs": 1, "max_drop": 100}


@pytest.fixture(scope="module")
def sets(make_texts):
    return {"train": make_texts(48), "validation": make_texts(32, 1)}


@pytest.fixture
def bert(make_model):
    return make_model("bert", labels=2)


@pytest.fixture(scope="module")
def bert_tokenizer(make_tokenizer):
    return make_tokenizer("bert")


@pytest.fixture(scope="module")
def learnt(make_model, make_texts, bert_tokenizer):
    """A BERT that tells good from bad. Copy it."""
    torch.manual_seed(0)
    model = make_model("bert", labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    texts = make_texts(256)
    encoded = encode(texts, bert_tokenizer, find_columns(texts), model.config).dataset
    labels, optimizer = torch.tensor(encoded["labels"]), torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(10):
        order = torch.randperm(len(texts))
        for rows, batch in zip(order.split(32), batches(encoded, bert_tokenizer, order.tolist(), 32), strict=True):
            model(**batch, labels=labels[rows]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def answers(make_texts):
    """``answers(model, tokenizer)``: its logits of some texts."""
    texts = make_texts(24, 5)

    def run(model, tokenizer):
        encoded = encode(texts, tokenizer, find_columns(texts), model.config).dataset
        return logits_of(model, encoded, Task(model.config, tokenizer))

    return run


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(state, other):
    assert list(state) == list(other)
    for name, tensor in state.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


# --- what comes out -----------------------------------------------------------------------------------------------


def test_the_dense_model_is_asked_about_the_validation_texts_once(bert, bert_tokenizer, sets, monkeypatch):
    asked = []

    def noted(model, texts, task, *, who, **how):
        asked.append(who)
        return logits_of(model, texts, task, who=who, **how)

    monkeypatch.setattr("wordelim.compression.job.logits_of", noted)
    monkeypatch.setattr("wordelim.compression.trial.has_fast_bf16", lambda device: False)
    compress_model(bert, bert_tokenizer, **sets, **SEARCH)
    assert asked.count("The dense model") == 1
    assert asked.count("The compressed model") > 1


def test_every_family_is_searched_retrained_and_reported(make_model, make_tokenizer, family, sets):
    model = make_model(family, labels=2)
    result = compress_model(model, make_tokenizer(family), **sets, test=sets["validation"], **SEARCH)
    assert result.model is model
    assert result.met
    assert wordelim.retention_of(model) == result.retention
    assert result.report["retention"] == result.retention.told()
    assert json.loads(json.dumps(result.report, allow_nan=False)) == result.report
    ratios = [point["flops_ratio"] for point in result.report["frontier"]]
    assert ratios == sorted(ratios)
    assert result.report["training"]
    assert result.report["test"] == result.report["validation"]
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


# Of the two kinds of layers: each its own, and one that all share.
@pytest.mark.parametrize("family", ["albert", "bert"])
def test_paths_and_live_objects_give_the_same(
    make_model_dir, make_tokenizer, family, sets, answers, tmp_path, monkeypatch
):
    dense = make_model_dir(family, labels=2)
    for name, data in sets.items():
        data.to_csv(tmp_path / f"{name}.csv")
    monkeypatch.chdir(tmp_path)
    written = compress("dense", train="train.csv", validation="validation.csv", output="out", **KEEP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense", "out", "train.csv", "validation.csv"]
    tokenizer = make_tokenizer(family)
    live = compress_model(AutoModelForSequenceClassification.from_pretrained(dense), tokenizer, **sets, **KEEP)
    assert written.output == tmp_path / "out" or str(written.output) == "out"
    assert written.retention == live.retention
    for key in ("validation", "training", "frontier", "settings"):
        assert [_timeless(part) for part in _listed(written.report[key])] == [
            _timeless(part) for part in _listed(live.report[key])
        ]
    assert_same(weights(written.model), weights(live.model))
    loaded = wordelim.load("out")
    assert wordelim.retention_of(loaded) == live.retention
    np.testing.assert_array_equal(answers(loaded, tokenizer), answers(live.model, tokenizer))
    assert json.loads((tmp_path / "out" / "wordelim_report.json").read_text()) == json.loads(json.dumps(written.report))
    assert "compressed with wordelim" in (tmp_path / "out" / "README.md").read_text()


def _listed(part):
    return part if isinstance(part, list) else [part]


def _timeless(entry):
    return {key: value for key, value in entry.items() if "runtime" not in key and "per_second" not in key}


def test_reported_points_are_those_of_the_written_model(make_model_dir, make_tokenizer, sets, tmp_path):
    """Training in bf16 must leave no bf16 behind: what is measured is what users load."""
    result = compress(make_model_dir(labels=2), **sets, output=tmp_path / "out", **KEEP)
    assert "forward" not in vars(result.model)
    model, tokenizer, texts = wordelim.load(tmp_path / "out"), make_tokenizer("bert"), sets["validation"]
    encoded = encode(texts, tokenizer, find_columns(texts), model.config).dataset
    points = 100 * np.mean(
        logits_of(model, encoded, Task(model.config, tokenizer)).argmax(1) == np.array(texts["label"])
    )
    assert result.report["validation"]["compressed"] == pytest.approx(points, abs=1e-3)


def test_a_model_that_was_trained_in_bf16_is_measured_in_fp32(bert, bert_tokenizer, sets, tmp_path, answers):
    columns = find_columns(sets["train"])
    encoded = encode(sets["train"], bert_tokenizer, columns, bert.config).dataset.remove_columns("length")
    arguments = TrainingArguments(
        tmp_path, max_steps=1, bf16=True, use_cpu=True, save_strategy="no", report_to="none", disable_tqdm=True
    )
    collate = lambda rows: bert_tokenizer.pad(rows, return_tensors="pt")  # noqa: E731
    Trainer(bert, arguments, train_dataset=encoded, data_collator=collate).train()
    assert "forward" in vars(bert)
    plain = copy.deepcopy(bert)
    unwrap_(plain)
    compress_model(bert, bert_tokenizer, **sets, **QUICK, keep=(1, 1, 1), retrain=False)
    np.testing.assert_allclose(answers(bert, bert_tokenizer), answers(plain, bert_tokenizer), atol=1e-5)


def test_stored_dtype_stays(make_model, make_tokenizer, sets, tmp_path):
    make_model("bert", labels=2).to(torch.float16).save_pretrained(tmp_path / "dense")
    make_tokenizer("bert").save_pretrained(tmp_path / "dense")
    result = compress(tmp_path / "dense", **sets, output=tmp_path / "out", **KEEP)
    assert result.model.dtype == torch.float16
    assert wordelim.load(tmp_path / "out").dtype == torch.float16


def test_learnt_model_gets_faster_and_stays_good(learnt, bert_tokenizer, make_texts):
    model = copy.deepcopy(learnt)
    sets = {"train": make_texts(128), "validation": make_texts(96, 1), "test": make_texts(96, 2)}
    settings = {**SEARCH, "epochs": 4, "learning_rate": 1e-3, "max_drop": 2, "search_examples": 64}
    report = compress_model(model, bert_tokenizer, **sets, **settings).report
    assert report["validation"]["dense"] > 90
    assert report["met"]
    assert report["validation"]["drop"] <= 2
    assert report["test"]["drop"] < 10
    assert report["validation"]["flops_ratio"] > 1.5
    assert report["validation"]["flips"]["total"] == 96


def test_retraining_that_ruins_the_model_is_taken_back(learnt, bert_tokenizer, make_texts):
    model = copy.deepcopy(learnt)
    sets = {"train": make_texts(64), "validation": make_texts(96, 1)}
    settings = {**SEARCH, "epochs": 2, "learning_rate": 0.1, "max_drop": 2, "search_examples": 64, "confidence": 0.5}
    report = compress_model(model, bert_tokenizer, **sets, **settings).report
    assert report["met"]
    assert max(row["drop"] for row in report["tried"] if row["stage"] != "found") > 2
    assert any("Retraining won nothing back" in warning for warning in report["warnings"])
    wordelim.restore_(model)
    for name, weights in learnt.state_dict().items():
        assert torch.equal(model.state_dict()[name], weights), name


# --- tasks --------------------------------------------------------------------------------------------------------


def test_regression(make_model, bert_tokenizer, sets):
    scores = {
        name: data.map(lambda row: {"score": row["label"] * 0.7}, remove_columns="label") for name, data in sets.items()
    }
    model = make_model("bert", labels=1, problem_type="regression")
    report = compress_model(model, bert_tokenizer, **scores, **KEEP).report
    assert report["metric"] == "spearman"
    assert report["validation"]["flips"] is None
    json.dumps(report, allow_nan=False)


def test_multi_label(make_model, bert_tokenizer, sets):
    several = {
        name: data.map(lambda row: {"labels": [float(row["label"]), 1.0, 0.0]}, remove_columns="label")
        for name, data in sets.items()
    }
    model = make_model("bert", labels=3, problem_type="multi_label_classification")
    report = compress_model(model, bert_tokenizer, **several, **KEEP, metric="accuracy").report
    assert report["metric"] == "accuracy"
    json.dumps(report, allow_nan=False)


# BERT tells the two texts by token types, RoBERTa by two separators.
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pairs(make_model, make_tokenizer, family, sets):
    pairs = {
        name: data.rename_column("text", "premise").add_column("hypothesis", data["text"][::-1])
        for name, data in sets.items()
    }
    report = compress_model(make_model(family, labels=2), make_tokenizer(family), **pairs, **KEEP).report
    assert report["data"]["columns"] == {"text": "premise", "text_pair": "hypothesis", "label": "label"}
    json.dumps(report, allow_nan=False)


# --- choices ------------------------------------------------------------------------------------------------------


def test_target_speedup_is_reached(bert, bert_tokenizer, sets):
    report = compress_model(bert, bert_tokenizer, **sets, **SEARCH, target_speedup=2).report
    assert report["met"]
    assert report["frontier"][-1]["flops_ratio"] >= 2
    assert report["validation"]["flops_ratio"] >= 2 * 0.98


def test_target_speedup_out_of_reach(bert, bert_tokenizer, sets):
    with pytest.raises(NotMetError, match=r"FLOPs ratio of 50 is out of reach.*gives \d+\.\d\d on these texts"):
        compress_model(bert, bert_tokenizer, **sets, **SEARCH, target_speedup=50)


def test_one_layer_is_cut_to_what_the_head_reads(make_model, bert_tokenizer, sets, answers):
    model = make_model("bert", labels=2, layers=1)
    dense = answers(model, bert_tokenizer)
    result = compress_model(model, bert_tokenizer, **sets, **SEARCH, retrain=False)
    assert result.retention.keep == (0.0,)
    assert result.report["validation"]["flops_ratio"] > 1.25
    np.testing.assert_allclose(answers(model, bert_tokenizer), dense, atol=1e-5)


@pytest.mark.parametrize(
    ("keep", "kind"),
    [((0.5, 0.25, 0), "fraction"), ((8, 4, 1), "count"), ((8.0, 4.0, 1.0), "count")],
)
def test_keep_is_taken_as_it_is(bert, bert_tokenizer, sets, keep, kind):
    result = compress_model(bert, bert_tokenizer, **sets, **{**KEEP, "keep": keep, "retrain": False})
    maps = result.retention.significance
    assert result.retention == Retention(keep, kind, package=True, significance=maps)
    assert len(maps) == len(keep)
    bare = compress_model(
        wordelim.restore_(bert),
        bert_tokenizer,
        **sets,
        **{**KEEP, "keep": keep, "retrain": False},
        package=False,
        significance="attention",
    )
    assert bare.retention == Retention(keep, kind)
    assert result.report["frontier"][0]["divergence"] is None


def test_without_retraining_the_weights_stay(bert, bert_tokenizer, sets):
    before = weights(bert)
    result = compress_model(bert, bert_tokenizer, **sets, **{**SEARCH, "retrain": False})
    assert_same(before, weights(bert))
    assert result.report["training"] == []


def test_unmet_drop_leaves_the_report_alone(make_model, bert_tokenizer, sets, tmp_path):
    dense, texts = make_model("bert", labels=2), sets["train"]
    encoded = encode(texts, bert_tokenizer, find_columns(texts), dense.config).dataset
    # Labels on which the dense model is always right, half of each kind, so that changes are losses.
    dense.classifier.bias.data -= torch.from_numpy(
        np.median(logits_of(dense, encoded, Task(dense.config, bert_tokenizer)), axis=0)
    )
    labels = logits_of(dense, encoded, Task(dense.config, bert_tokenizer)).argmax(1).tolist()
    validation = datasets.Dataset.from_dict({"text": texts["text"], "label": labels})
    dense.save_pretrained(tmp_path / "dense")
    bert_tokenizer.save_pretrained(tmp_path / "dense")
    hopeless = {**QUICK, "keep": (0, 0, 0), "retrain": False, "max_drop": 0}
    output = f"{tmp_path}/new/out/"
    result = compress(tmp_path / "dense", train=texts, validation=validation, output=output, **hopeless)
    assert not result.met
    assert result.output == tmp_path / "new" / "out.wordelim_report.json"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out.report.html", result.output.name]
    report = json.loads(result.output.read_text())
    assert report["met"] is False
    assert "points of accuracy are lost on validation, more than 0" in report["unmet"]


def test_same_seed_gives_the_same_and_the_test_texts_choose_nothing(
    make_model, bert_tokenizer, sets, make_texts, answers
):
    test = make_texts(20, 8)
    turned = test.map(lambda row: {"label": 1 - row["label"]})
    first, second = (
        compress_model(make_model("bert", labels=2), bert_tokenizer, **sets, test=data, **{**SEARCH, "max_drop": 5})
        for data in (test, turned)
    )
    assert first.retention == second.retention
    assert first.met == second.met
    assert_same(weights(first.model), weights(second.model))
    np.testing.assert_array_equal(*[answers(result.model, bert_tokenizer) for result in (first, second)])
    points = [result.report["test"]["compressed"] for result in (first, second)]
    assert sum(points) == pytest.approx(100, abs=1e-2)


def test_cut_texts_are_counted(bert, bert_tokenizer, sets):
    report = compress_model(bert, bert_tokenizer, **sets, **KEEP, max_length=10).report
    for name, data in sets.items():
        assert report["data"][name]["truncated"] == sum(len(text.split()) + 2 > 10 for text in data["text"]) > 0
        assert report["data"][name]["longest"] == 10


# --- nothing is left behind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("search: confirming", RuntimeError),
        ("screening", KeyboardInterrupt),
        ("retrain", KeyboardInterrupt),
        ("verify: validation", RuntimeError),
    ],
)
def test_a_failure_gives_back_the_dense_model(bert, bert_tokenizer, sets, answers, stage, error):
    bert.to(torch.bfloat16).train()
    dense, before, hooks = copy.deepcopy(bert), weights(bert), len(bert.base_model._forward_hooks)

    def fail(name, share):
        if name.startswith(stage):
            raise error

    with pytest.raises(error):
        compress_model(bert, bert_tokenizer, **sets, **SEARCH, progress=fail)
    assert_same(before, weights(bert))
    assert bert.training
    assert bert.config.to_dict() == dense.config.to_dict()
    assert set(vars(bert)) == set(vars(dense))
    assert len(bert.base_model._forward_hooks) == hooks
    assert type(bert.bert.encoder) is type(dense.bert.encoder)
    assert all(parameter.grad is None for parameter in bert.parameters())
    np.testing.assert_array_equal(answers(bert, bert_tokenizer), answers(dense, bert_tokenizer))


def test_a_failure_writes_nothing(make_model_dir, sets, tmp_path):
    def fail(name, share):
        raise KeyboardInterrupt

    dense = make_model_dir(labels=2)
    with pytest.raises(KeyboardInterrupt):
        compress(dense, **sets, output=tmp_path / "new" / "out", progress=fail, **KEEP)
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_a_full_disk_leaves_nothing(make_model_dir, sets, tmp_path, monkeypatch):
    def fail(self, directory, **options):
        (Path(directory) / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    dense = make_model_dir(labels=2)
    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    with pytest.raises(CheckpointError, match=r"can't be written \(No space left on device\).*make room"):
        compress(dense, **sets, output=tmp_path / "new" / "out", **KEEP)
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_a_disk_that_is_too_small_is_noticed_first(make_model_dir, sets, tmp_path, monkeypatch):
    class Usage:
        free = 1000

    dense = make_model_dir(labels=2)
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(CheckpointError, match=r"0\.001 MB left, but the model takes 0"):
        compress(dense, **sets, output=tmp_path / "out", **KEEP)


def test_data_that_is_missing_is_named(make_model_dir, sets, tmp_path):
    with pytest.raises(DataError, match="There is no validation data: give a file"):
        compress(make_model_dir(labels=2), train=sets["train"], validation=None, output=tmp_path / "out", **KEEP)


def test_a_plan_runs_and_writes_nothing(make_model_dir, sets, tmp_path):
    planned = plan(make_model_dir(labels=2), **sets, output=tmp_path / "out", **SEARCH)
    assert planned["layers"] == 3
    assert planned["train"].startswith("48 texts, ")
    assert planned["search"] == "calibrated, on 24 texts"
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "magic"}, "'magic' is unknown: use 'calibrated'"),
        ({"keep": [1, 1, 1], "target_speedup": 2}, "give one of them"),
        ({"max_drop": -1}, "max_drop is -1: give 0 or more"),
        ({"max_drop": math.nan}, "max_drop is nan"),
        ({"max_drop": math.inf}, "max_drop is inf"),
        ({"target_speedup": 1}, "target_speedup is 1: give a ratio above 1"),
        ({"target_speedup": math.inf}, "target_speedup is inf"),
        ({"epochs": 0}, "epochs is 0: give a number above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"temperature": "hot"}, "temperature is hot"),
        ({"batch_size": 2.5}, "batch_size is 2.5: give a whole number"),
        ({"search_examples": 0}, "search_examples is 0"),
        ({"max_length": 2.5}, "max_length is 2.5"),
        ({"seed": -1}, "seed is -1: give a whole number from 0"),
        ({"seed": True}, "seed is True"),
        ({"keep": "0.5"}, "keep is '0.5': give one number for each layer"),
        ({"keep": [0.5, "x"]}, "keep is .*: give one number for each layer"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(WordelimError, match=message):
        Settings(**settings)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"keep": (0.5, 0.2)}, RetentionError, "keep has 2 values, but the model has 3 layers"),
        ({"keep": (0.5, 1.4, 0)}, RetentionError, r"keep\[1\] = 1.4 is outside 0..1"),
        ({"keep": (8, 4, -1)}, RetentionError, r"keep\[2\] = -1 is not a whole number"),
        ({"keep": (0.5, 0.2, -0.1)}, RetentionError, r"keep\[2\] = -0.1 is outside 0..1"),
        ({"keep": (math.nan, 0, 0)}, RetentionError, r"keep\[0\] = nan is not a number"),
        ({"keep": (math.inf, 0, 0)}, RetentionError, r"keep\[0\] = inf is not a number"),
        ({"metric": "bleu"}, WordelimError, "no metric 'bleu' for single label classification; choose one of accuracy"),
        ({"max_length": 65}, DataError, "In the train data: .*65 tokens is more than the 64"),
        ({"label": "stars"}, DataError, "In the train data: There is no column 'stars'"),
    ],
)
def test_settings_that_dont_fit_are_refused_before_anything_runs(bert, bert_tokenizer, sets, settings, error, message):
    before = weights(bert)
    with pytest.raises(error, match=message):
        compress_model(bert, bert_tokenizer, **sets, **settings, progress=lambda *stage: pytest.fail("it ran"))
    assert_same(before, weights(bert))
    with pytest.raises(UnsupportedModelError):
        wordelim.retention_of(bert)


def test_broken_weights_are_refused(bert, bert_tokenizer, sets):
    bert.classifier.bias.data[0] = torch.nan
    with pytest.raises(WordelimError, match=r"The weight classifier\.bias holds NaN or infinity"):
        compress_model(bert, bert_tokenizer, **sets, **KEEP)


def test_diverging_training_gives_back_the_model(bert, bert_tokenizer, sets):
    before = weights(bert)
    with pytest.raises(WordelimError, match=r"lower --learning-rate"):
        compress_model(bert, bert_tokenizer, **sets, **{**KEEP, "learning_rate": 1e30})
    assert_same(before, weights(bert))


def test_a_compressed_model_is_refused(bert, bert_tokenizer, sets):
    wordelim.eliminate_(bert, Retention.keep_all(3))
    with pytest.raises(UnsupportedModelError, match="is compressed already"):
        compress_model(bert, bert_tokenizer, **sets, **KEEP)


def test_tokenizers_that_dont_fit_are_refused(make_model, make_tokenizer, sets):
    left = make_tokenizer("bert")
    left.padding_side = "left"
    with pytest.raises(DataError, match=r"pads on the left, .* set padding_side to 'right'"):
        compress_model(make_model("bert", labels=2), left, **sets, **KEEP)
    unpadded = make_tokenizer("bert")
    unpadded.pad_token = None
    with pytest.raises(DataError, match="no padding token"):
        compress_model(make_model("bert", labels=2), unpadded, **sets, **KEEP)
    small = make_model("bert", labels=2, vocab_size=8)
    with pytest.raises(DataError, match=r"In the train data: .*token id \d+, but the model knows 8 tokens"):
        compress_model(small, make_tokenizer("bert"), **sets, **KEEP)


def test_a_directory_without_its_tokenizer_is_refused(make_model_dir, family, sets, tmp_path):
    dense = make_model_dir(family, labels=2)
    for path in dense.glob("*token*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        compress(dense, **sets, output=tmp_path / "out", **KEEP)


@pytest.mark.parametrize("device", ["nonsense", "cuda:7", "meta"])
def test_devices_that_arent_there_are_refused(device, sets, make_model_dir):
    with pytest.raises(WordelimError, match=f"Device '{device}' (is unknown|isn't available|can't be chosen)"):
        compress(make_model_dir(labels=2), **sets, device=device, **KEEP)


def test_the_model_itself_is_no_output(make_model_dir, sets, tmp_path, monkeypatch):
    dense = make_model_dir(labels=2)
    with pytest.raises(CheckpointError, match="is the model itself"):
        compress(dense, **sets, output=dense.parent / "." / dense.name, force=True, **KEEP)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds the model, .*, which would be deleted"):
        compress("dense", **sets, output=".", force=True, **KEEP)


def test_outputs_that_cant_be_made_are_refused_first(make_model_dir, sets, tmp_path):
    (tmp_path / "file").touch()
    dense = make_model_dir(labels=2)
    for output, message in (("file", "is a file"), ("file/out", "can't be made: .*file is a file")):
        with pytest.raises(CheckpointError, match=message):
            compress(dense, **sets, output=tmp_path / output, **KEEP, progress=lambda *stage: pytest.fail("it ran"))


def test_one_text_is_enough(bert, bert_tokenizer):
    one = datasets.Dataset.from_dict({"text": ["good film"], "label": [1]})
    json.dumps(compress_model(bert, bert_tokenizer, train=one, validation=one, **KEEP).report, allow_nan=False)
