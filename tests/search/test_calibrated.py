"""The calibrated search on a tiny model: what it returns, and what it leaves behind."""

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import wordelim
from wordelim import Retention
from wordelim.errors import UnsupportedModelError
from wordelim.evaluation.inference import logits_of
from wordelim.graph.cost import cost_of
from wordelim.search.method import METHODS, Candidate, Context, frontier
from wordelim.search.methods import calibrated
from wordelim.system.machine import has_fast_bf16
from wordelim.tasks import Task
from wordelim.tasks.divergence import divergence

SPEEDS = (1.5, 2.0, 3.0)
LAYERS = 3


def calibrated_search(*given, **options):
    return METHODS["calibrated"]()(Context.of(*given, **options)).candidates


@pytest.fixture(scope="session")
def make_sample(make_tokenizer):
    """``make_sample(family)``: encoded texts of 3 to 40 tokens."""

    def make(family):
        tokenizer = make_tokenizer(family)
        generator = torch.Generator().manual_seed(11)
        rows = [torch.randint(4, 58, (n,), generator=generator).tolist() for n in (40, 12, 25, 3, 33, 18, 40, 8)]
        rows = [[tokenizer.cls_token_id, *row[:-2], tokenizer.sep_token_id] for row in rows]
        return datasets.Dataset.from_dict(
            {"input_ids": rows, "attention_mask": [[1] * len(r) for r in rows], "length": [len(r) for r in rows]}
        )

    return make


@pytest.fixture(scope="session")
def searched(make_model, make_tokenizer, make_sample, family):
    """A model that was searched, a copy of its weights before, its sample, what was found and what was reported."""
    model, sample, stages = make_model(family), make_sample(family), []
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = calibrated_search(
        model,
        Task(model.config, make_tokenizer(family)),
        sample,
        speeds=SPEEDS,
        batch_size=3,
        progress=lambda *now: stages.append(now),
    )
    return model, before, sample, found, stages


def test_the_model_is_dense_afterwards_and_not_a_bit_of_it_is_changed(searched, make_model, family, make_batch, logits):
    model, before, *_ = searched
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert model.config.to_dict() == make_model(family).config.to_dict()
    assert not model.training
    batch = make_batch(model, [9, 4])
    assert torch.equal(logits(model, batch), logits(make_model(family), batch))
    with pytest.raises(UnsupportedModelError, match="isn't compressed"):
        wordelim.retention_of(model)


def test_the_frontier_is_monotone_and_reaches_the_speeds(searched):
    found = searched[3]
    assert 1 <= len(found) <= len(SPEEDS)
    ratios = [candidate.flops_ratio for candidate in found]
    divergences = [candidate.divergence for candidate in found]
    assert ratios == sorted(ratios)
    assert len(set(ratios)) == len(ratios)
    assert divergences == sorted(divergences)
    # The fastest is never beaten on speed. Fractions are rounded to three digits: that may cost a little of the speed.
    assert ratios[-1] >= 0.98 * SPEEDS[-1]
    for ratio in ratios:
        assert any(0.98 * speed <= ratio <= 1.3 * speed for speed in SPEEDS)


def test_ratio_and_divergence_are_those_of_the_retention(searched, make_model, make_tokenizer, family):
    _, _, sample, found, _ = searched
    model, tokenizer = make_model(family), make_tokenizer(family)
    bf16 = has_fast_bf16("cpu")
    wordelim.eliminate_(model, Retention.keep_all(LAYERS))
    dense = logits_of(model, sample, Task(model.config, tokenizer), batch_size=3, bf16=bf16)
    for candidate in found:
        wordelim.eliminate_(model, candidate.retention)
        assert candidate.flops_ratio == cost_of(model).ratio(sample["length"], candidate.retention)
        other = logits_of(model, sample, Task(model.config, tokenizer), batch_size=3, bf16=bf16)
        assert candidate.divergence == divergence(dense, other, "single_label_classification")
        assert len(candidate.retention.keep) == LAYERS
        assert candidate.retention.keep[-1] == 0.0


def test_it_is_deterministic(searched, make_model, make_tokenizer, family):
    _, _, sample, found, _ = searched
    model = make_model(family)
    task = Task(model.config, make_tokenizer(family))
    assert calibrated_search(model, task, sample, speeds=SPEEDS[::-1], batch_size=3) == found


def test_progress_goes_from_nothing_to_all(searched):
    stages = searched[4]
    for name in ("measuring layers", "confirming"):
        shares = [share for stage, share in stages if stage == name]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)


def test_speeds_out_of_reach_are_left_out(make_model, make_tokenizer, make_sample):
    model, sample = make_model("bert"), make_sample("bert")
    task = Task(model.config, make_tokenizer("bert"))
    assert len(calibrated_search(model, task, sample, speeds=(2.0, 1000.0))) == 1
    assert calibrated_search(model, task, sample, speeds=(1000.0,)) == ()


def test_a_search_that_fails_leaves_the_model_dense(make_model, make_tokenizer, make_sample, monkeypatch):
    model = make_model("bert")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrated, "_schedules", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrated_search(model, Task(model.config, make_tokenizer("bert")), make_sample("bert"), speeds=SPEEDS)
    assert model.config.to_dict() == make_model("bert").config.to_dict()


def test_texts_of_one_token_are_no_reason_to_fail(make_model, make_tokenizer):
    sample = datasets.Dataset.from_dict({"input_ids": [[2]] * 3, "attention_mask": [[1]] * 3, "length": [1] * 3})
    model = make_model("bert")
    assert calibrated_search(model, Task(model.config, make_tokenizer("bert")), sample, speeds=(2.0,)) == ()


# --- divergence --------------------------------------------------------------------------------------------------

LOGITS = st.lists(st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3), min_size=2, max_size=4)


@given(rows=LOGITS, seed=st.integers(0, 99))
def test_divergence_is_nothing_from_itself_and_never_negative(rows, seed):
    dense = np.array(rows, dtype=np.float32)
    other = dense + np.random.default_rng(seed).normal(size=dense.shape).astype(np.float32)
    for kind in ("single_label_classification", "multi_label_classification"):
        assert divergence(dense, dense, kind) == pytest.approx(0.0, abs=1e-12)
        assert divergence(dense, other, kind) >= -1e-12


def test_divergence_by_hand():
    p, q = np.array([0.7, 0.3]), np.array([0.4, 0.6])
    dense, other = (np.log(x)[None].astype(np.float32) for x in (p, q))
    assert divergence(dense, other, "single_label_classification") == pytest.approx(
        float((p * np.log(p / q)).sum()), 1e-5
    )
    # Two labels of their own: each is a choice between yes and no.
    dense, other = (np.log(x / (1 - x))[None].astype(np.float32) for x in (p, q))
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert divergence(dense, other, "multi_label_classification") == pytest.approx(float(each.sum()), 1e-5)
    # A regression: squared differences over the variance of the dense scores.
    scores = np.array([[1.0], [3.0], [5.0]], dtype=np.float32)
    assert divergence(scores, scores + 2, "regression") == pytest.approx(4 / 4)


@pytest.mark.parametrize(("labels", "kind"), [(1, None), (3, "multi_label_classification")])
def test_other_kinds_of_heads_are_searched_too(make_model, make_tokenizer, make_sample, labels, kind):
    model = make_model("bert", labels=labels, problem_type=kind)
    (found,) = calibrated_search(model, Task(model.config, make_tokenizer("bert")), make_sample("bert"), speeds=(2.0,))
    assert found.flops_ratio >= 0.98 * 2.0
    assert np.isfinite(found.divergence)


# --- frontier ----------------------------------------------------------------------------------------------------


@given(points=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=8))
def test_the_frontier_holds_what_no_other_beats(points):
    candidates = [Candidate(Retention((1.0,)), float(ratio), float(lost)) for ratio, lost in points]
    best = frontier(candidates)
    kept = {(c.flops_ratio, c.divergence) for c in best}
    beaten = {
        (c.flops_ratio, c.divergence)
        for c in candidates
        for d in candidates
        if d.flops_ratio >= c.flops_ratio and d.divergence <= c.divergence
        and (d.flops_ratio, d.divergence) != (c.flops_ratio, c.divergence)
    }  # fmt: skip
    assert kept == {(float(r), float(d)) for r, d in points} - beaten
    assert [c.flops_ratio for c in best] == sorted(c.flops_ratio for c in best)


def test_the_frontier_is_in_the_measure_that_speeds_are_asked_in():
    slow, fast = (Candidate(Retention((1.0,)), ratio, lost) for ratio, lost in ((3.0, 0.1), (2.0, 0.2)))
    assert frontier([slow, fast]) == (slow,)
    assert frontier([slow, fast], lambda candidate: {3.0: 1.5, 2.0: 2.5}[candidate.flops_ratio]) == (slow, fast)


def test_a_candidate_is_plain_data_for_a_report():
    candidate = Candidate(Retention((0.5, 0.0)), 2.0, 0.1)
    assert candidate.to_dict() == {
        "retention": Retention((0.5, 0.0)).to_dict(),
        "flops_ratio": 2.0,
        "divergence": 0.1,
    }
