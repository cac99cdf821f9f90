"""The probe: its verdict on planted findings, and its measurements on a model."""

import json

import datasets
import numpy as np
import pytest
import torch

from wordelim import Retention, eliminate_
from wordelim.data.columns import Columns
from wordelim.data.encode import encode
from wordelim.errors import DataError, WordelimError
from wordelim.evaluation.inference import logits_of
from wordelim.tasks import Task
from wordelim.verbs.probe import ProbeSettings, probe_model
from wordelim.verbs.worth import RECOVERABLE, judge

QUICK = ProbeSettings(examples=24, texts=8, rounds=1, batch_size=8)


def point(speedup, drop):
    return {"speedup": speedup, "drop": drop}


LADDER = [point(1.6, 0.2), point(2.2, 0.9), point(3.0, 1.0 + RECOVERABLE), point(4.0, 15.0)]


def test_worth_it_is_judged_by_what_is_in_reach():
    found, because = judge(200, 1.3, LADDER, 1.0)
    assert found == "worth it"
    assert because.startswith("about 3.00x is in reach with retraining, 2.20x without retraining")
    assert "none of it without" in judge(200, 1.3, [point(2.0, 2.0)], 1.0)[1]


def test_no_on_very_short_texts():
    found, because = judge(14.2, 1.05, LADDER, 1.0)
    assert found == "no"
    assert because.startswith("your inputs average 14 tokens")


@pytest.mark.parametrize(("packing", "answer"), [(1.9, "pack only"), (1.0, "no")])
def test_where_dropping_costs_too_much_or_wins_too_little(packing, answer):
    assert judge(40, packing, [point(3 * packing, 30.0)], 1.0)[0] == answer
    assert judge(40, packing, [point(1.1 * packing, 0.0)], 1.0)[0] == answer
    assert judge(40, packing, [], 1.0)[0] == answer


@pytest.fixture
def probed(make_model, make_tokenizer, make_texts):
    model, tokenizer, texts = make_model("bert", labels=2), make_tokenizer("bert"), make_texts(40)
    return model, tokenizer, texts


def test_what_is_measured_is_what_eliminating_gives(probed):
    model, tokenizer, texts = probed
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = json.loads(json.dumps(probe_model(model, tokenizer, texts, QUICK)))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not hasattr(model.base_model.encoder, "retention")
    assert report["verdict"] == "no"  # 4 to 16 words
    assert report["data"] | {"columns": 0, "fingerprint": 0} == {
        "columns": 0,
        "examples": 40,
        "measured": 24,
        "truncated": 0,
        "fingerprint": 0,
    }
    assert 1 < report["padding"]["dynamic"] <= report["padding"]["fixed"]
    ratios = [found["flops_ratio"] for found in report["headroom"]]
    assert ratios == sorted(ratios)
    assert len(ratios) > 2
    assert all(found["speedup"] > 0 for found in report["headroom"])
    # The drop at the fastest point, computed by hand on the same texts.
    encoded = encode(texts, tokenizer, Columns("text", label="label"), model.config).dataset
    rows = sorted(np.random.default_rng(0).permutation(40)[:24].tolist())
    sample, metric = encoded.select(rows), Task(model.config, None).metric()
    points = [metric(logits_of(model, sample, Task(model.config, tokenizer)), sample["labels"])]
    retention = Retention.from_dict(report["headroom"][-1]["retention"])
    assert retention.package
    assert retention.significance != "attention"  # as compress does it unless told otherwise
    eliminate_(model, retention)
    points.append(metric(logits_of(model, sample, Task(model.config, tokenizer)), sample["labels"]))
    assert report["headroom"][-1]["drop"] == pytest.approx(points[0] - points[1], abs=1e-3)


def test_what_cant_be_probed_is_refused(probed):
    model, tokenizer, texts = probed
    with pytest.raises(DataError, match="No column has a standard label name"):
        probe_model(model, tokenizer, texts.remove_columns("label"), QUICK)
    with pytest.raises(DataError, match="Row 1 has a text of special tokens alone"):
        probe_model(model, tokenizer, datasets.Dataset.from_dict({"text": ["[SEP]"], "label": [0]}), QUICK)
    with pytest.raises(WordelimError, match="examples is 0: give a whole number of at least 1"):
        ProbeSettings(examples=0)
    with pytest.raises(WordelimError, match="is compressed already: probe the dense model"):
        probe_model(eliminate_(model, Retention.keep_all(3)), tokenizer, texts, QUICK)
