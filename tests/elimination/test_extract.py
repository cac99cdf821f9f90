"""What stands in the graph in attention's place, against plain attention in float64."""

import math

import pytest
import torch
from torch import nn

import wordelim
from wordelim import Retention
from wordelim.elimination.attention import Attention, attend, merge_heads, split_heads
from wordelim.elimination.enter import Enter
from wordelim.elimination.extract import FirstToken, HardExtract
from wordelim.elimination.padded import Padded
from wordelim.elimination.rows import Entered, gather
from wordelim.elimination.significance import received_attention

SCALING = 0.35
PLAIN = Attention(SCALING, 0.0)


def padded(mask, lengths, retention=None):
    return Padded(mask, lengths, lengths, Entered(len(lengths), max(lengths) if mask is None else 9, retention))


def vectors(batch, heads, tokens, size, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, heads, tokens, size, generator=generator).to(dtype) for _ in range(3)]


def naive(query, key, value, mask):
    """[batch, tokens, heads * size] in float64."""
    scores = query.double() @ key.double().transpose(-1, -2) * SCALING
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
    return (scores.softmax(-1) @ value.double()).transpose(1, 2).flatten(2)


MASKS = {
    "no padding": (None, (9, 9)),
    "padding": (torch.arange(9) < torch.tensor([[9], [4]]), (9, 4)),
    "padding in all": (torch.arange(9) < torch.tensor([[6], [4]]), (6, 4)),
}


@pytest.mark.parametrize("case", MASKS)
@pytest.mark.parametrize("keep", [1.0, 0.5, 0.0])
def test_hard_extract_gives_the_context_of_the_kept_rows(case, keep):
    mask, lengths = MASKS[case]
    query, key, value = vectors(2, 3, 9, 4)
    tokens = padded(mask, lengths, Retention.fractions([keep]))
    extract = HardExtract(0, PLAIN)
    context, rows, alive = extract(query, key, value, tokens)
    expected = naive(query, key, value, mask)
    if keep == 1.0:
        assert rows is None
        assert alive is tokens
    else:
        counts = tuple(max(1, math.ceil(keep * n)) for n in lengths)
        assert alive.counts == counts
        significance = received_attention(query, key, mask, SCALING)
        index, real = tokens.keep(significance, counts)
        assert torch.equal(rows, index)
        assert alive.mask is None if real is None else torch.equal(alive.mask, real)
        expected = gather(expected, rows)
        assert context.shape[1] == max(counts)
    real = torch.ones(2, context.shape[1], dtype=torch.bool) if alive.mask is None else alive.mask
    if rows is None and mask is not None:
        real = mask
    torch.testing.assert_close(context[real].double(), expected[real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", MASKS)
def test_first_token_gives_the_context_of_the_first_row(case):
    mask, lengths = MASKS[case]
    query, key, value = vectors(2, 3, 9, 4)
    tokens = padded(mask, lengths)
    context, index, alive = FirstToken(PLAIN)(query[:, :, :1], key, value, tokens)
    assert index.tolist() == [[0], [0]]
    assert alive == Padded(None, lengths, (1, 1), tokens.entered)
    torch.testing.assert_close(context.double(), naive(query, key, value, mask)[:, :1], rtol=1e-5, atol=1e-5)


def test_a_text_short_enough_to_be_kept_whole_is_dropped_from_by_nobody():
    query, key, value = vectors(2, 3, 9, 4)
    tokens = padded(*MASKS["padding"], Retention.counts([5]))
    extract = HardExtract(0, PLAIN)
    context, rows, alive = extract(query, key, value, tokens)
    assert alive.counts == (5, 4)
    assert rows[1, :4].tolist() == [0, 1, 2, 3]
    assert alive.mask.tolist() == [[True] * 5, [True] * 4 + [False]]
    assert context.shape == (2, 5, 12)


def test_dropout_is_for_training():
    query, key, value = vectors(1, 2, 6, 4)
    for keep in (1.0, 0.5):
        tokens = padded(None, (6,), Retention.fractions([keep]))
        extract = HardExtract(0, Attention(SCALING, 0.5)).eval()
        first = extract(query, key, value, tokens)
        assert torch.equal(extract(query, key, value, tokens).context, first.context)
        extract.train()
        dropped = extract(query, key, value, tokens)
        assert not torch.equal(dropped.context, first.context)
        # What is kept is decided before dropout.
        assert dropped.rows is None if first.rows is None else torch.equal(dropped.rows, first.rows)


def test_what_is_dropped_gets_no_gradient_as_a_query_but_does_as_a_key():
    query, key, value = (tensor.requires_grad_() for tensor in vectors(1, 2, 6, 4))
    extract = HardExtract(0, PLAIN)
    context, rows, _ = extract(query, key, value, padded(None, (6,), Retention.fractions([0.5])))
    context.square().sum().backward()
    kept = torch.zeros(6, dtype=torch.bool)
    kept[rows[0]] = True
    assert query.grad[:, :, kept].abs().sum((0, 1, 3)).gt(0).all()
    assert not query.grad[:, :, ~kept].any()
    assert key.grad.abs().sum((0, 1, 3)).gt(0).all()
    assert value.grad.abs().sum((0, 1, 3)).gt(0).all()


def test_gradients_of_a_compressed_model_reach_every_weight(make_model, family, make_batch):
    model = wordelim.eliminate_(make_model(family), Retention.fractions([0.6, 0.3, 0.0]))
    model(**make_batch(model, [12, 7]), labels=torch.tensor([0, 1])).loss.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == set()
    # A key's bias adds the same to all scores of a query: no model learns it.
    still = {name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 1e-7}
    assert all(name.endswith(("key.bias", "k_lin.bias")) for name in still)


def test_gradients_are_those_of_the_dense_model_where_all_is_kept(make_model, family, make_batch):
    gradients = []
    for compressed in (False, True):
        model = make_model(family)
        if compressed:
            wordelim.eliminate_(model, Retention.keep_all(3))
        model(**make_batch(model, [12, 7]), labels=torch.tensor([0, 1])).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)


def test_gather_takes_rows_text_by_text():
    values = torch.arange(24).view(2, 4, 3)
    index = torch.tensor([[0, 3], [1, 0]])
    assert gather(values, None) is values
    assert torch.equal(gather(values, index), torch.stack([values[0, [0, 3]], values[1, [1, 0]]]))


def test_heads_are_split_and_merged():
    values = torch.randn(2, 5, 12)
    split = split_heads(values, like=torch.empty(2, 3, 5, 4))
    assert split.shape == (2, 3, 5, 4)
    assert torch.equal(split[:, 1], values[:, :, 4:8])
    assert torch.equal(merge_heads(split), values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_attention_keeps_the_dtype(dtype):
    query, key, value = vectors(1, 2, 6, 4, dtype=dtype)
    assert attend(query, key, value, None, SCALING, 0.0).dtype == dtype


def test_modules_have_no_parameters_and_say_what_they_keep():
    modules = HardExtract(1, PLAIN), Enter(retention=Retention.fractions([0.5, 0.25]))
    for module, said in zip(modules, ("layer=1", "keep=(0.5, 0.25)"), strict=True):
        assert isinstance(module, nn.Module)
        assert not module.state_dict()
        assert said in repr(module)
