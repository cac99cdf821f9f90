"""What a measurement of speed does and holds. How fast it is depends on the machine, so no test asserts it."""

import json

import numpy as np
import pytest
import torch
import transformers

from wordelim import Retention, eliminate_
from wordelim.data.columns import find_columns
from wordelim.data.encode import encode
from wordelim.evaluation import timing
from wordelim.evaluation.timing import forward_of, interleave, measure_speed, workload

TEXTS = 20


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer("bert")


@pytest.fixture(scope="module")
def models(make_model):
    return make_model("bert"), eliminate_(make_model("bert"), Retention.fractions([0.6, 0.3, 0.0]))


@pytest.fixture(scope="module")
def encoded(make_model, make_texts, tokenizer):
    texts = make_texts(TEXTS)
    return encode(texts, tokenizer, find_columns(texts), make_model("bert").config).dataset


@pytest.fixture(scope="module")
def work(encoded, tokenizer):
    return workload(encoded, tokenizer, max_length=40, batch_size=8, texts=14)


def rows_of(batches):
    """Every text's own tokens, in order."""
    return [ids[mask.bool()].tolist() for batch in batches for ids, mask in zip(*_inputs(batch), strict=True)]


def _inputs(batch):
    return batch["input_ids"], batch["attention_mask"]


def test_fixed_and_dynamic_hold_the_same_texts_in_the_same_batches(work, encoded):
    texts = rows_of(work.dynamic)
    assert rows_of(work.fixed) == texts
    assert [len(text) for text in texts] == list(work.lengths)
    assert [len(batch["input_ids"]) for batch in work.fixed] == [8, 6]
    known = encoded["input_ids"]
    assert all(text in known for text in texts)
    assert len({tuple(text) for text in texts}) == 14


def test_fixed_pads_to_the_length_asked_for_and_dynamic_to_the_longest(work):
    assert {batch["input_ids"].shape[1] for batch in work.fixed} == {40}
    longest = [max(work.lengths[:8]), max(work.lengths[8:])]
    assert [batch["input_ids"].shape[1] for batch in work.dynamic] == longest


def test_unpadded_has_no_padding_and_as_many_tokens(work, tokenizer):
    for batch in work.unpadded:
        assert batch["attention_mask"].all()
        assert not (batch["input_ids"] == tokenizer.pad_token_id).any()
        assert batch.keys() == work.dynamic[0].keys()
    tokens = sum(batch["input_ids"].numel() for batch in work.unpadded)
    assert tokens == pytest.approx(sum(work.lengths), abs=sum(len(batch["input_ids"]) / 2 for batch in work.unpadded))


def test_no_more_texts_than_there_are(encoded, tokenizer):
    work = workload(encoded, tokenizer, max_length=40, batch_size=8, texts=1000)
    assert len(work.lengths) == TEXTS
    other = workload(encoded, tokenizer, max_length=40, batch_size=8, texts=1000, seed=1)
    assert sorted(other.lengths) == sorted(work.lengths)
    assert other.lengths != work.lengths


def test_runs_are_interleaved_batch_by_batch(work, monkeypatch):
    """Each run advances a clock of the test's own by a time that is its own."""
    clock, calls, shares = [0.0], [], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def forward(name, seconds):
        def run(batch):
            calls.append((name, batch["input_ids"].shape[1]))
            clock[0] += seconds

        return run

    runs = {"slow": (forward("slow", 3.0), work.fixed), "fast": (forward("fast", 1.0), work.dynamic)}
    seconds = interleave(runs, 2, progress=shares.append)
    first, second = (batch["input_ids"].shape[1] for batch in work.dynamic)
    assert calls == [("slow", 40), ("fast", first), ("slow", 40), ("fast", second)] * 3
    np.testing.assert_array_equal(seconds["slow"], np.full((2, 2), 3.0))
    np.testing.assert_array_equal(seconds["fast"], np.ones((2, 2)))
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])


def test_what_is_timed_is_inference(models, work):
    seen = []
    dense, _ = models
    handle = dense.register_forward_hook(lambda *_: seen.append(torch.is_inference_mode_enabled()))
    try:
        forward_of(dense)(work.dynamic[0])
    finally:
        handle.remove()
    assert seen == [True]


def test_a_measurement_says_how_it_was_made(models, encoded, tokenizer):
    report = measure_speed(*models, encoded, tokenizer, max_length=40, batch_size=8, texts=12, rounds=2)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    expected = {
        "batch_size": 8,
        "max_length": 40,
        "texts": 12,
        "rounds": 2,
        "dtype": "float32",
        "threads": torch.get_num_threads(),
    }
    assert expected.items() <= report.items()
    assert all(report[protocol] > 0 for protocol in ("fixed", "dynamic", "unpadded"))


def test_a_model_that_chooses_is_given_one_choice_a_text(work):
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model, seen = transformers.BertForMultipleChoice(config).eval(), []
    model.register_forward_hook(lambda module, given, output: seen.append(tuple(output.logits.shape)))
    forward_of(model)(work.dynamic[0])
    assert seen == [(8, 1)]


def test_what_is_run_from_graphs_answers_the_same(bert, make_batch, logits):
    batch = make_batch(bert, [7, 3])
    assert torch.equal(forward_of(bert, mode="graphed")(batch).logits, logits(bert, batch))
