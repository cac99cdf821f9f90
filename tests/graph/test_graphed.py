"""Whole models by graphs, replayed on a CPU: what a replay shows is computed by the same work on the same buffers."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import wordelim
from wordelim import Retention
from wordelim.elimination.card import plain
from wordelim.graph import card
from wordelim.graph.graphed import Graphed
from wordelim.graph.splice import eliminating_encoder

SOME = Retention.fractions([0.7, 0.4, 0.0])


@pytest.fixture
def on_a_card(monkeypatch):
    """What is asked of a card is computed here."""
    monkeypatch.setattr(card.OnACard, "is_card", staticmethod(lambda device: True))
    monkeypatch.setattr(card.OnACard, "ops", staticmethod(lambda: plain))
    monkeypatch.setattr(card.OnACard, "capture", None)
    monkeypatch.setattr(card, "triton_serves", lambda dtype, size: True)


@pytest.fixture
def captured():
    """Makes no graphs, and counts those asked for: ``captured.made``."""

    def capture(work, pool):
        capture.made.append(work)
        return work

    capture.made = []
    return capture


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "albert"])
@pytest.mark.parametrize("compressed", [None, "attention", "linear"])
def test_it_answers_as_the_model(make_model, make_batch, logits, captured, family, compressed, request, random_maps):
    model = make_model(family)
    if compressed is not None:
        linear = {"significance": random_maps(3), "package": True} if compressed == "linear" else {}
        wordelim.eliminate_(model, replace(SOME, **linear))
    batches = [make_batch(model, lengths, seed=len(lengths)) for lengths in ([30, 4, 11], [29, 5, 11], [7], [60, 60])]
    expected = [logits(model, batch) for batch in batches]
    request.getfixturevalue("on_a_card")
    graphed = Graphed(model, captured)
    with torch.no_grad():
        for _ in range(3):
            for batch, answer in zip(batches, expected, strict=True):
                found = graphed(**batch).logits
                assert found.shape == answer.shape
                same(found, answer)
    assert len(captured.made) == (3 if compressed else 4)  # of a dense model, one a shape


def test_an_answer_stays_as_it_is_when_the_next_comes(bert, make_batch, on_a_card, captured):
    graphed = Graphed(wordelim.eliminate_(bert, SOME), captured)
    batches = [make_batch(bert, [9, 5], seed=seed) for seed in range(4)]
    with torch.no_grad():
        answers = [graphed(**batch).logits for batch in batches]
        for batch, answer in zip(batches, answers, strict=True):
            same(bert(**batch).logits, answer)


def test_weights_that_have_moved_are_noticed(bert, make_batch, on_a_card, captured, make_model):
    graphed = Graphed(wordelim.eliminate_(bert, SOME), captured)
    batch = make_batch(bert, [9, 5])
    with torch.no_grad():
        for change in (
            lambda: None,
            lambda: bert.load_state_dict(make_model("bert", seed=3).state_dict(), assign=True),
            lambda: bert.classifier.weight.data.zero_(),
            lambda: setattr(bert, "classifier", torch.nn.Linear(32, 3).eval()),
            lambda: wordelim.eliminate_(bert, Retention.fractions([0.3, 0.1, 0.0])),
        ):
            change()
            for _ in range(3):
                same(graphed(**batch).logits, bert(**batch).logits)
    assert len(captured.made) == 4  # what changes in place is read where it lies


def test_what_it_cannot_replay_is_called_as_ever(bert, make_batch, on_a_card, captured):
    graphed = Graphed(wordelim.eliminate_(bert, SOME), captured)
    batch = make_batch(bert, [9, 5])
    for _ in range(3):
        assert graphed(**batch).logits.requires_grad
    labels = torch.tensor([0, 1])
    with torch.no_grad():
        for _ in range(3):
            assert graphed(**batch, labels=labels).loss is not None
            bert.train()
            graphed(**batch)
            bert.eval()
            eliminating_encoder(bert).layout = "packed"
            graphed(**batch)
            eliminating_encoder(bert).layout = "auto"
    assert not captured.made


class Waiting(TorchDispatchMode):
    """Refuses what waits for a device, which no graph can hold."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default), func
        return func(*args, **(kwargs or {}))


class Aside:
    """Launches, of which the mode sees nothing."""

    def __getattr__(self, name):
        def launch(*args):
            with _disable_current_modes():
                return getattr(plain, name)(*args)

        return launch


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "albert", "electra"])
def test_nothing_that_is_captured_waits(make_model, make_batch, monkeypatch, on_a_card, family, compressed):
    def capture(work, pool):
        with Waiting():
            work()
        return work

    monkeypatch.setattr(card.OnACard, "ops", staticmethod(Aside))
    model = make_model(family)
    if compressed:
        wordelim.eliminate_(model, SOME)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # transformers asks whether a graph is being made
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    graphed, batch = Graphed(model, capture), make_batch(model, [9, 5])
    with torch.no_grad():
        for _ in range(2):
            graphed(**batch)
    assert len(graphed._graphs) == 1
