"""What decides which word vectors stay may be set, as the layout may be."""

import copy
import io

import pytest
import torch

from wordelim import Retention, eliminate_
from wordelim.elimination.significance import received_attention
from wordelim.errors import UnsupportedModelError
from wordelim.graph.splice import eliminating_encoder

HALF = Retention.fractions([0.5, 0.25, 0.1])


def last(query, key, mask, scaling):
    """The later in the text, the more significant."""
    return torch.arange(key.shape[2], dtype=torch.float32).expand(key.shape[0], -1)


def by_pickle(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.every_family
def test_the_selector_decides_in_every_layout(make_model, family, make_batch, logits):
    model = eliminate_(make_model(family), HALF)
    encoder = eliminating_encoder(model)
    batch = make_batch(model, [12, 5, 12, 1])
    by_attention, kept = logits(model, batch), []
    encoder.extract_0.register_forward_hook(lambda module, args, out: kept.append(out.rows))
    encoder.selector, found = last, []
    for encoder.layout in ("padded", "packed"):
        found.append(logits(model, batch))
    assert kept[0][0].tolist() == [0, 7, 8, 9, 10, 11]
    assert kept[0][1, :3].tolist() == [0, 3, 4]
    assert kept[1].tolist() == [0, *range(7, 12), 12, *range(19, 24), 24, 27, 28, 29]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found[0], by_attention, atol=1e-6)
    encoder.selector, encoder.layout = received_attention, "auto"
    assert torch.equal(logits(model, batch), by_attention)


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle])
def test_a_copy_has_the_same(make_model, make_batch, logits, copied):
    model = eliminate_(make_model("bert"), HALF)
    eliminating_encoder(model).selector = last
    batch = make_batch(model, [12, 5])
    other = copied(model)
    assert eliminating_encoder(other).selector is last
    assert torch.equal(logits(other, batch), logits(model, batch))
    eliminate_(model, Retention.keep_all(3))
    assert eliminating_encoder(model).selector is last


def test_one_that_is_set_between_two_layers_is_for_the_next_call(make_model, make_batch, logits):
    model = eliminate_(make_model("bert"), HALF)
    encoder, batch = eliminating_encoder(model), make_batch(model, [12, 5])
    before = logits(model, batch)
    handle = encoder.extract_0.register_forward_pre_hook(lambda *_: setattr(encoder, "selector", last))
    assert torch.equal(logits(model, batch), before)
    handle.remove()
    assert not torch.equal(logits(model, batch), before)


def test_another_than_attention_is_for_neither_compilers_nor_exporters(make_model, make_batch):
    model = eliminate_(make_model("bert"), HALF)
    eliminating_encoder(model).selector = last
    batch = make_batch(model, [12, 5])
    with pytest.raises(UnsupportedModelError, match=r"selector 'last' can't be compiled or exported: set .* back"):
        torch.export.export(model, (), batch, strict=False)
