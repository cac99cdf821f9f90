"""The regression gate: what it catches, what it lets pass, and what it refuses."""

import json
from functools import partial

import datasets
import numpy as np
import pytest
import torch
from transformers import BertConfig

import wordelim
from wordelim.checkpoint.directory import save, write_report
from wordelim.checkpoint.loading import load_tokenizer
from wordelim.data.columns import Columns
from wordelim.data.encode import encode
from wordelim.errors import DataError, WordelimError
from wordelim.evaluation.examples import pose
from wordelim.evaluation.inference import logits_of
from wordelim.tasks import Task
from wordelim.testing import assert_accuracy_drop
from wordelim.verbs.check import CheckSettings, check
from wordelim.verbs.gate import judge, suspicions

EXAMPLES = 1000


@pytest.fixture
def planted(make_tokenizer, make_texts):
    """1,000 labelled texts, and ``judge`` of answers to them."""
    config = BertConfig(id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1})
    posed = partial(pose, "BertForSequenceClassification", config, make_tokenizer("bert"), make_texts(EXAMPLES))
    examples = posed()
    return examples, lambda *answers, metric=None, **bounds: judge(
        posed(metric=metric) if metric else examples, *answers, CheckSettings(**bounds)
    )


def plant(examples, seed, net):
    """A base that is right on about 90 %, and answers that break ``net`` more of them than they mend."""
    random = np.random.default_rng(seed)
    truth = np.array(examples.rows["label"])
    base = np.where(random.random(EXAMPLES) < 0.9, truth, 1 - truth)
    compressed, noise = base.copy(), int(random.integers(0, 15))
    right, wrong = np.flatnonzero(base == truth), np.flatnonzero(base != truth)
    compressed[random.choice(right, net + noise, replace=False)] ^= 1
    compressed[random.choice(wrong, noise, replace=False)] ^= 1
    return base, compressed


def test_a_drop_of_two_points_is_caught_and_none_is_not(planted):
    examples, judged = planted
    verdicts = []
    for seed in range(20):
        base, compressed = plant(examples, seed, 20)
        caught, same = judged(base, compressed), judged(base, base, strict=True)
        verdicts.append((caught.failure, same.failure, caught.result["drop"]))
    assert verdicts == [("the drop is 2.00 points of accuracy, more than 1", None, 2.0)] * 20


def test_strict_judges_the_end_of_the_interval(planted):
    examples, judged = planted
    base, compressed = plant(examples, 0, 8)
    assert judged(base, compressed).failure is None
    strict = judged(base, compressed, strict=True)
    assert strict.failure.startswith("the upper end of the 95 % interval is")
    assert strict.drop == strict.result["drop_interval_95"][1] > 1
    wide, narrow = (judged(base, compressed, strict=True, confidence=c).drop for c in (0.99, 0.5))
    assert wide > strict.drop > narrow


def test_the_same_inputs_give_the_same_verdict(planted):
    examples, judged = planted
    base, compressed = plant(examples, 3, 10)
    first, second = (judged(base, compressed, metric="f1") for _ in range(2))
    assert first == second
    assert (first.failure is None) is (first.drop <= 1.0)


def test_a_drop_of_just_the_bound_passes(planted):
    examples, judged = planted
    assert judged(*plant(examples, 1, 10)).failure is None
    assert judged(*plant(examples, 1, 11)).failure is not None


def test_data_of_another_task_is_suspected(planted):
    examples, _ = planted
    (found,) = suspicions(examples, 1 - np.array(examples.rows["label"]))
    assert found.endswith("see that this data is of its task")


# --- real models ------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(make_model, make_tokenizer, make_texts, tmp_path):
    """A dense directory, about half of whose answers are yes, and it compressed: keeping everything, and hardly any."""
    model, tokenizer = make_model("bert", labels=2), make_tokenizer("bert")
    encoded = encode(make_texts(40), tokenizer, Columns("text"), model.config).dataset
    model.classifier.bias.data -= torch.from_numpy(
        np.median(logits_of(model, encoded, Task(model.config, tokenizer)), axis=0)
    )
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "dense")
    for name, keep in {"same": [1.0, 1.0, 0.0], "dropped": [0.0, 0.0, 0.0]}.items():
        save(wordelim.eliminate_(model, wordelim.Retention.fractions(keep)), tokenizer, tmp_path / name)
    return tmp_path / "dense", tmp_path / "same", tmp_path / "dropped"


def test_models_on_disk(pair, make_texts, tmp_path):
    dense, same, dropped = pair
    texts = make_texts(40)
    kept = check(dense, same, data=texts, min_speedup=1e-6)
    assert kept.passed
    assert kept.report["result"]["flips"]["changed"] == 0
    assert kept.report["answers"]["base"] == kept.report["answers"]["compressed"]
    assert kept.report["speed"]["dynamic"] > 0
    assert kept.report["result"]["retention"]["keep"] == [1.0, 1.0, 0.0]
    slow = check(dense, dropped, data=texts, max_drop=100, min_speedup=1e6)
    assert list(slow.report["failures"]) == ["speed"]
    assert slow.report["result"]["flops_ratio"] > kept.report["result"]["flops_ratio"]
    shown = slow.report["result"]["worst_flips"]
    assert len(shown) == min(20, slow.report["result"]["flips"]["broken"]) > 0
    assert all(row["texts"] == [texts["text"][row["row"] - 1]] for row in shown)
    between = check(same, dropped, data=texts, max_drop=100).report  # the base may be compressed
    assert between["answers"] == slow.report["answers"]
    assert "flops_ratio" not in between["result"]

    # A stored report stands for the model that it judged.
    stored = write_report(kept.report, tmp_path / "baseline.json")
    again = check(None, dropped, data=texts, baseline_report=stored, max_drop=100).report
    assert again["answers"] == slow.report["answers"]
    assert "worst_flips" not in again["result"]
    for name in ("drop", "drop_interval_95", "flips", "slices"):
        assert again["result"][name] == slow.report["result"][name]


def test_pytest_helper(pair, make_texts):
    dense, same, dropped = pair
    texts = make_texts(40)
    assert assert_accuracy_drop(dense, same, texts)["passed"]
    answers = check(dense, same, data=texts).report["answers"]["base"]
    right = datasets.Dataset.from_dict({"text": texts["text"], "label": answers})
    with pytest.raises(AssertionError, match=r"^Failed: the drop is .* points of accuracy, more than 0\.$"):
        assert_accuracy_drop(dense, dropped, right, max_drop=0)


def test_models_that_cant_be_compared_are_refused(pair, make_model_dir, make_texts, edit_json):
    dense, same, _ = pair
    texts = make_texts(8)
    with pytest.raises(WordelimError, match=r"answers LABEL_0, LABEL_1, LABEL_2 .*compare two models"):
        check(make_model_dir(name="three", labels=3), same, data=texts)
    with pytest.raises(WordelimError, match="read row 1 differently: compare two models with the same tokenizer"):
        check(make_model_dir("roberta", "other", labels=2), same, data=texts)
    short = make_model_dir(name="short", labels=2)
    edit_json(short / "tokenizer_config.json", lambda data: data.update(model_max_length=8))
    with pytest.raises(WordelimError, match=r"read row . differently.*the same greatest length"):
        check(short, same, data=texts)
    bare = wordelim.load(same)
    wordelim.restore_(bare).bert.save_pretrained(dense.parent / "bare")
    load_tokenizer(same).save_pretrained(dense.parent / "bare")
    with pytest.raises(WordelimError, match=r"is a BertModel, but .* with one head"):
        check(dense.parent / "bare", same, data=texts)


ROWS = {
    "empty text": ({"text": ["good film", " "], "label": [1, 0]}, "Row 2 has a blank text"),
    "special tokens": ({"text": ["good film", "[CLS] [SEP]"], "label": [1, 0]}, "Row 2 has a text of special tokens"),
    "scores": ({"text": ["good film", "bad film"], "label": [0.25, 3.5]}, "Row 1 has the label 0.25"),
    "other labels": ({"text": ["good film"], "label": ["entailment"]}, "the label 'entailment'"),
    "other columns": ({"tokens": [["good"]], "tags": [[0]]}, "No column has a standard label name"),
}


@pytest.mark.parametrize("name", ROWS)
def test_data_that_doesnt_fit_is_refused(pair, name):
    rows, message = ROWS[name]
    with pytest.raises(DataError, match=message):
        check(*pair[:2], data=datasets.Dataset.from_dict(rows))


DAMAGE = {
    "no JSON": (lambda report: "{", "is not valid JSON"),
    "no report": (lambda report: "[]", "is no report of wordelim check"),
    "a compression's": (lambda report: '{"wordelim_report": 1}', "is no report of wordelim check"),
    "newer": (lambda report: {**report, "wordelim_check": 9}, "has version 9, which is unknown"),
    "no answers": (lambda report: {**report, "answers": {}}, "a part is missing"),
    "cut": (lambda report: {**report, "answers": {"compressed": [1]}}, "its answers don't fit the data"),
    "words": (lambda report: {**report, "answers": {"compressed": ["x"] * 8}}, "its answers don't fit the data"),
    "no class": (lambda report: {**report, "answers": {"compressed": [7] * 8}}, "its answers don't fit the data"),
    "other labels": (lambda report: {**report, "labels": ["a", "b"]}, "answers a, b, but the model LABEL_0, LABEL_1"),
    "other texts": (lambda report: {**report, "data": {"inputs": "0"}}, "was made on other texts or labels"),
}


def test_a_damaged_report_is_refused(pair, make_texts, tmp_path):
    dense, same, _ = pair
    texts, path = make_texts(8), tmp_path / "baseline.json"
    report = check(dense, same, data=texts).report
    with pytest.raises(DataError, match=r"baseline\.json doesn't exist"):
        check(None, same, data=texts, baseline_report=path)
    for damage, message in DAMAGE.values():
        damaged = damage(report)
        path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
        with pytest.raises(DataError, match=message):
            check(None, same, data=texts, baseline_report=path)


def test_nothing_to_compare_with_is_refused(pair, make_texts):
    with pytest.raises(WordelimError, match="name the base model, or give a baseline report"):
        check(None, pair[1], data=make_texts(8))
    with pytest.raises(WordelimError, match="name the base model too"):
        check(None, pair[1], data=make_texts(8), baseline_report="any", min_speedup=1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_drop": -1}, "max_drop is -1"),
        ({"confidence": 95}, "confidence is 95: give a share between 0 and 1"),
        ({"min_speedup": 0}, "min_speedup is 0: give a ratio above 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(WordelimError, match=message):
        CheckSettings(**setting)
