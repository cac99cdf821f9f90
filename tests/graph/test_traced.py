"""An encoder is traced once for all of its structure, and anew where anything differs that may decide the graph."""

import copy

import pytest
import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertIntermediate, BertLayer

from wordelim import Retention, eliminate_, restore_
from wordelim.graph import trace as tracing

KEEP = Retention.fractions([0.6, 0.0])


@pytest.fixture
def traces(monkeypatch):
    """``traces()``: how often something was traced since the last call."""
    made, real = [], tracing._traced
    monkeypatch.setattr(tracing, "_traced", lambda *args: made.append(args) or real(*args))

    def count():
        found = len(made)
        made.clear()
        return found

    return count


def answers(model, batch, logits):
    """What a model that keeps everything answers, and with some dropped."""
    kept = eliminate_(copy.deepcopy(model), Retention.keep_all(2))
    torch.testing.assert_close(logits(kept, batch), logits(model, batch), atol=1e-5, rtol=1e-5)
    return logits(eliminate_(kept, KEEP), batch)


def test_one_structure_is_traced_once(make_model, make_batch, logits, traces):
    size = {"intermediate_size": 41}  # of no other test
    first, second = (make_model("bert", layers=2, seed=seed, **size) for seed in (0, 1))
    second.config.id2label = {0: "a", 1: "b", 2: "c"}
    batch = make_batch(first, [9, 4, 1])
    for model in (first, second):
        eliminate_(model, KEEP)
        logits(model, batch)
        restore_(model)
    assert traces() == 1
    assert not torch.equal(answers(first, batch, logits), answers(second, batch, logits))
    copied = copy.deepcopy(eliminate_(first, KEEP))
    torch.testing.assert_close(logits(copied, batch), logits(first, batch))
    assert traces() == 0


class Twice(BertIntermediate):
    def forward(self, hidden_states):
        return 2 * super().forward(hidden_states)


def an_attribute(layer):
    layer.attention.self.scaling *= 3


def a_class(layer):
    layer.intermediate.__class__ = Twice


def a_method(layer):
    layer.output.dropout.forward = lambda values: 2 * values


def a_method_of_a_closure(layer):
    twice = 2.0
    layer.output.dropout.forward = lambda values: twice * values


def a_module(layer):
    layer.intermediate.intermediate_act_fn = nn.Tanh()


def a_hook(layer):
    layer.intermediate.register_forward_hook(lambda module, args, output: 2 * output)


@pytest.mark.parametrize("change", [an_attribute, a_class, a_method, a_method_of_a_closure, a_module, a_hook])
def test_what_differs_is_traced_anew(change, make_model, make_batch, logits, traces):
    model = make_model("bert", layers=2)
    batch = make_batch(model, [9, 4, 1])
    before = answers(model, batch, logits)
    traces()
    change(model.bert.encoder.layer[0])
    assert not torch.allclose(answers(model, batch, logits), before, atol=1e-3)
    assert traces() > 0


def test_a_class_that_was_changed_is_traced_anew(make_model, make_batch, logits, traces, monkeypatch):
    model = make_model("bert", layers=2)
    batch = make_batch(model, [9, 4, 1])
    before = answers(model, batch, logits)
    chunk = BertLayer.feed_forward_chunk
    monkeypatch.setattr(BertLayer, "feed_forward_chunk", lambda layer, rows: 2 * chunk(layer, rows))
    traces()
    assert not torch.allclose(answers(model, batch, logits), before, atol=1e-3)
    assert traces() > 0


def test_a_config_that_differs_is_traced_anew(make_model, traces):
    model = make_model("bert", layers=2, hidden_act="gelu")
    restore_(eliminate_(model, KEEP))
    traces()
    model.config.layer_norm_eps = 1e-3
    eliminate_(model, KEEP)
    assert traces() == 1
