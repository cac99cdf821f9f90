"""Learned search on tiny models: it reaches its speeds, is repeatable, and leaves the model as it was."""

import math

import pytest
import torch

from wordelim import Retention, eliminate_, restore_
from wordelim.data.columns import find_columns
from wordelim.data.encode import encode
from wordelim.graph.cost import cost_of
from wordelim.search.method import Context
from wordelim.search.methods.learned import Learned
from wordelim.tasks import Task
from wordelim.training.teacher import Teacher

QUICK = {"search_epochs": 2.0, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def bert_tokenizer(make_tokenizer):
    return make_tokenizer("bert")


@pytest.fixture(scope="module")
def search(make_model, make_texts, bert_tokenizer):
    """``search(speeds=..., **how)``: the model, and what was found for it."""
    texts = make_texts(96)

    def run(*, speeds=(), seed=0, **how):
        model, teacher = make_model("bert", labels=2, layers=4), make_model("bert", labels=2, layers=4)
        cost = cost_of(eliminate_(model, Retention.keep_all(4)))
        restore_(model)
        train = encode(texts, bert_tokenizer, find_columns(texts), model.config).dataset
        sample, task = train.select(range(24)), Task(model.config, bert_tokenizer)
        found = Learned(**{**QUICK, **how}, seed=seed)(
            Context(
                model=model,
                teacher=Teacher(teacher.requires_grad_(False), task),
                task=task,
                train=train,
                sample=sample,
                texts=train["length"],
                cost=cost,
                flops=cost,
                template=Retention.keep_all(4),
                speeds=speeds,
                batch_size=8,
            )
        )
        return model, teacher, found, cost, train

    return run


def test_speeds_are_reached_and_the_model_stays(search):
    model, teacher, found, cost, train = search(speeds=(1.5, 2.0))
    assert [candidate.flops_ratio >= speed for candidate, speed in zip(found.candidates, (1.5, 2.0), strict=True)]
    for candidate in found.candidates:
        keep = candidate.retention.keep
        assert list(keep) == sorted(keep, reverse=True)
        assert keep[-1] == 0
        assert cost.ratio(train["length"], candidate.retention) == candidate.flops_ratio
        assert math.isfinite(candidate.divergence)
    assert found.candidates[1].flops_ratio < 2.3
    assert not found.warnings
    assert found.history
    assert not hasattr(model.config, "quantization_config")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, teacher.state_dict()[name])
    assert not model.base_model._forward_hooks


def test_a_dearer_word_vector_is_kept_less(search):
    cheap, dear = (search(price=price, search_epochs=1)[2].candidates[0].flops_ratio for price in (1e-4, 1e-1))
    assert dear > 1.2 * cheap


def test_counts_as_in_the_paper(search):
    _, _, found, _, train = search(form="count", price=3e-2, search_epochs=1)
    keep = found.candidates[0].retention
    assert keep.kind == "count"
    assert max(keep.keep) <= max(train["length"])


def test_a_rate_too_low_to_get_anywhere_is_said(search):
    *_, found, _, _ = search(speeds=(2.0,), retention_lr=1e-5, search_epochs=1)
    assert "raise --retention-lr" in found.warnings[0]
    assert found.candidates[0].flops_ratio >= 2.0
