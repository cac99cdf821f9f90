"""What a measurement of speed holds. How fast it is depends on the machine, so no test asserts it."""

import json
import math
from collections import Counter

import pytest
import torch

import wordelim.evaluation.latency as latency
from wordelim import Retention, eliminate_
from wordelim.data import encode, find_columns
from wordelim.evaluation.latency import measure_speed


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer("bert")


@pytest.fixture(scope="module")
def models(make_model):
    return make_model("bert"), eliminate_(make_model("bert"), Retention.fractions([0.6, 0.3, 0.0]))


@pytest.fixture(scope="module")
def encoded(make_model, make_texts, tokenizer):
    texts = make_texts(20)
    return encode(texts, tokenizer, find_columns(texts), make_model("bert").config).dataset


def test_a_measurement_says_how_it_was_made(models, encoded, tokenizer):
    shares = []
    speed = measure_speed(
        *models, encoded, tokenizer, max_length=40, batch_size=8, texts=12, rounds=2, progress=shares.append
    )
    report = speed.to_dict()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    for protocol in ("fixed", "dynamic", "unpadded"):
        assert math.isfinite(report[protocol])
        assert report[protocol] > 0
    expected = {
        "batch_size": 8,
        "max_length": 40,
        "texts": 12,
        "rounds": 2,
        "dtype": "float32",
        "threads": torch.get_num_threads(),
    }
    assert expected.items() <= report.items()
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])


def test_fewer_texts_than_asked_for(models, encoded, tokenizer):
    speed = measure_speed(*models, encoded.select(range(3)), tokenizer, max_length=40, texts=12, rounds=1)
    assert speed.texts == 3


def test_both_models_run_on_the_same_texts_and_ratios_are_medians_of_rounds(models, encoded, tokenizer, monkeypatch):
    """Time is replaced by the number of positions computed; the compressed model is declared twice as fast."""
    dense, _ = models
    calls = []

    def positions(model, inputs):
        calls.append((model, sum(int(batch["attention_mask"].sum()) for batch in inputs)))
        cost = sum(batch["input_ids"].numel() for batch in inputs)
        return cost if model is dense else cost / 2

    monkeypatch.setattr(latency, "_time", positions)
    speed = measure_speed(*models, encoded, tokenizer, max_length=40, batch_size=4, texts=16, rounds=3)
    assert Counter(model is dense for model, _ in calls) == {True: 4 * 3, False: 4 * 2}
    assert len({tokens for _, tokens in calls}) == 1
    assert speed.dynamic == speed.unpadded == 2
    assert speed.fixed > 4  # nearly all of 40 columns are padding
