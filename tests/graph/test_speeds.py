"""One directory, several speeds: chosen when it is loaded, or while it runs."""

import copy
import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import wordelim
from wordelim import Retention, retention_of, set_speed_, speeds_of
from wordelim.checkpoint.directory import save
from wordelim.compression.run import compress_model
from wordelim.data.columns import Columns
from wordelim.data.encode import encode
from wordelim.errors import NotMetError, RetentionError, WordelimError
from wordelim.graph.cost import cost_of
from wordelim.graph.protect import sizes_of
from wordelim.graph.speeds import offer_speeds_
from wordelim.report.kinds import brief_of
from wordelim.search.method import Context
from wordelim.search.methods.calibrated import Calibrated
from wordelim.tasks import Task
from wordelim.verbs.compress import compress

SLOW, FAST = Retention.fractions([0.9, 0.7, 0.0]), Retention.fractions([0.4, 0.2, 0.0])
RUN = {"speeds": (1.5, 2), "epochs": 1, "batch_size": 8, "search_examples": 16, "max_drop": 100, "measure_speed": False}


@pytest.fixture(scope="module")
def bert_tokenizer(make_tokenizer):
    return make_tokenizer("bert")


@pytest.fixture
def model(make_model):
    model = wordelim.eliminate_(make_model("bert"), FAST)
    offer_speeds_(model, {2.0: FAST, 1.5: SLOW})
    return model


@pytest.fixture
def out(model, bert_tokenizer, tmp_path):
    return save(model, bert_tokenizer, tmp_path / "out")


def test_speeds_are_chosen_at_run_time(model, make_batch, logits):
    batch = make_batch(model, (20, 9))
    fast = logits(model, batch)
    assert set_speed_(model, 1.5) is model
    assert retention_of(model) == SLOW
    assert not torch.equal(logits(model, batch), fast)
    set_speed_(model, 2)
    assert torch.equal(logits(model, batch), fast)
    assert speeds_of(model) == {1.5: SLOW, 2.0: FAST}


def test_speeds_are_chosen_when_loaded(out, bert_tokenizer, tmp_path):
    assert json.loads((out / "config.json").read_text())["quantization_config"]["speeds"] == {
        "1.5": [0.9, 0.7, 0.0],
        "2": [0.4, 0.2, 0.0],
    }
    assert retention_of(wordelim.load(out)) == FAST
    assert retention_of(wordelim.load(out, speed=1.5)) == SLOW
    usual = AutoModelForSequenceClassification.from_pretrained(out)
    assert retention_of(copy.deepcopy(set_speed_(usual, 1.5))) == SLOW
    again = save(usual, bert_tokenizer, tmp_path / "again")
    assert retention_of(wordelim.load(again)) == SLOW
    assert speeds_of(wordelim.load(again)) == {1.5: SLOW, 2.0: FAST}


def test_a_speed_that_isnt_there_is_refused(out, make_model):
    with pytest.raises(RetentionError, match=r"no speed 3: choose one of 1.5, 2\."):
        wordelim.load(out, speed=3)
    with pytest.raises(RetentionError, match="no speed 2: it was compressed for one alone"):
        set_speed_(wordelim.eliminate_(make_model("bert"), FAST), 2)


@pytest.mark.parametrize("speeds", [[1], {"fast": [1, 1, 0]}, {"2": [1, 0]}, {"2": [0, 1, 0]}, {"2": "all"}])
def test_damaged_speeds_are_refused(out, edit_json, speeds):
    edit_json(out / "config.json", lambda data: data["quantization_config"].update(speeds=speeds))
    with pytest.raises(RetentionError):
        wordelim.load(out)


def test_compress_for_several_speeds(make_model_dir, make_texts, tmp_path, capsys):
    sets = {"train": make_texts(48), "validation": make_texts(16, 1), "test": make_texts(16, 2)}
    result = compress(make_model_dir(labels=2), **sets, output=tmp_path / "out", seeds=2, **RUN)
    model = wordelim.load(tmp_path / "out")
    assert list(speeds_of(model)) == [1.5, 2.0]
    assert retention_of(model) == speeds_of(model)[2.0]  # any drop is allowed here, so the fastest comes first
    report = json.loads((tmp_path / "out" / "wordelim_report.json").read_text())
    for speed, retention in speeds_of(model).items():
        part = report["speeds"][f"{speed:g}"]
        assert part["keep"] == list(retention.keep)
        assert part["validation"]["flops_ratio"] >= 0.9 * speed
        assert part["test"]["examples"] == 16
    assert report["test"] == report["speeds"]["2"]["test"]
    assert "The same weights serve several speeds" in (tmp_path / "out" / "README.md").read_text()
    assert {entry["stage"] for entry in report["training"]} == {"retrain, seed 0", "retrain, seed 1"}
    assert result.met
    assert "The same weights at each speed" in [section.title for section in brief_of(result.report)]


def test_a_speed_out_of_reach_is_reported(make_model_dir, make_texts, tmp_path):
    sets = {"train": make_texts(48), "validation": make_texts(16, 1)}
    with pytest.raises(NotMetError, match="FLOPs ratio of 50 is out of reach"):
        compress(make_model_dir(labels=2), **sets, output=tmp_path / "out", **{**RUN, "speeds": (2, 50)})
    report = json.loads((tmp_path / "out.wordelim_report.json").read_text())
    assert report["met"] is False
    assert report["best"]["retention"]["keep"] == [0.0, 0.0, 0.0]
    assert 1 < report["best"]["flops_ratio"] < 50
    assert not (tmp_path / "out").exists()
    page = (tmp_path / "out.report.html").read_text(encoding="utf-8")
    assert "Not met: A FLOPs ratio of 50 is out of reach" in page


@pytest.mark.parametrize("speeds", [(), "2", (1, 2), ("2",)])
def test_speeds_that_are_none_are_refused(speeds):
    with pytest.raises(WordelimError, match="speeds is"):
        wordelim.Settings(speeds=speeds)


@pytest.mark.parametrize(
    ("method", "seed"), [("calibrated", 0), pytest.param("calibrated", 1, marks=pytest.mark.long), ("learned", 0)]
)
def test_whatever_speed_is_possible_is_reached(make_model, bert_tokenizer, make_texts, method, seed):
    """Alone and together, on a sample that isn't the whole of the training texts."""
    sets = {"train": make_texts(24, seed), "validation": make_texts(8, seed + 9)}
    run = {**RUN, "retrain": False, "search_examples": 16, "method": method, "search_epochs": 0.5, "seed": seed}

    def speeds_found(speeds):
        model = make_model("bert", labels=2, seed=seed)
        return compress_model(model, bert_tokenizer, **sets, **{**run, "speeds": speeds}).report["speeds"]

    with pytest.raises(NotMetError) as caught:
        speeds_found((1000,))
    most = caught.value.best["flops_ratio"]
    asked = [1 + share * (most - 1) for share in (0.4, 1.0)]
    for speeds in (asked, *([speed] for speed in asked)):
        keeps = [found["keep"] for found in speeds_found(speeds).values()]
        assert len(keeps) == len(speeds)
        assert keeps == sorted(keeps, reverse=True)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_schedule_is_never_slower_than_asked(make_model, bert_tokenizer, make_texts, seed):
    model = make_model("bert", labels=2, seed=seed)
    task = Task(model.config, bert_tokenizer)
    sample = encode(make_texts(16, seed), bert_tokenizer, Columns("text"), model.config).dataset
    texts = sizes_of(sample, Retention.keep_all(3))
    wordelim.eliminate_(model, Retention.keep_all(3))
    cost = cost_of(model)
    wordelim.restore_(model)
    for speed in torch.linspace(1.3, cost.ratio(texts, Retention((0.0,) * 3)) - 1e-6, 6).tolist():
        (found,) = Calibrated()(Context.of(model, task, sample, speeds=(speed,))).candidates
        assert found.flops_ratio >= speed
