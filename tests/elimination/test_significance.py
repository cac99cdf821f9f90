"""Significance against a naive reference in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from wordelim.elimination import significance as module
from wordelim.elimination.significance import received_attention

HEADS, SIZE = 3, 8


def vectors(lengths, width, seed, dtype=torch.float32):
    """Query and key [batch, heads, width, size] and the mask; what stands in the padding is large."""
    generator = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(len(lengths), HEADS, width, SIZE, generator=generator) for _ in range(2))
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    for values in (query, key):
        values.masked_fill_(~mask[:, None, :, None], 7.0)
    return query.to(dtype), key.to(dtype), mask


def naive(query, key, lengths, scaling):
    """Attention received, one number at a time: a sum over heads and over real query rows."""
    received = []
    for b, length in enumerate(lengths):
        total = torch.zeros(length, dtype=torch.float64)
        for head in range(HEADS):
            for row in range(length):
                scores = torch.stack([query[b, head, row].double() @ key[b, head, k].double() for k in range(length)])
                total += (scores * scaling).softmax(0)
        received.append(total)
    return received


CASES = [[1], [6], [6, 6], [5, 1, 7], [3, 2]]


@pytest.mark.parametrize("lengths", CASES)
@pytest.mark.parametrize("padding", [0, 4])
def test_it_is_the_attention_received_by_real_rows_from_real_rows(lengths, padding):
    query, key, mask = vectors(lengths, max(lengths) + padding, seed=1)
    significance = received_attention(query, key, None if mask.all() else mask, 0.3)
    assert significance.dtype == torch.float32
    for row, (length, expected) in enumerate(zip(lengths, naive(query, key, lengths, 0.3), strict=True)):
        torch.testing.assert_close(significance[row, :length].double(), expected, rtol=1e-5, atol=1e-5)
        # Padding receives nothing.
        assert not significance[row, length:].any()


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), padding=st.integers(0, 6), seed=st.integers(0, 99))
def test_the_significance_of_a_text_sums_to_heads_times_its_length(lengths, padding, seed):
    query, key, mask = vectors(lengths, max(lengths) + padding, seed)
    sums = received_attention(query, key, mask, 0.3).sum(1)
    torch.testing.assert_close(sums, HEADS * torch.tensor(lengths, dtype=torch.float32), rtol=1e-5, atol=1e-5)


def test_padding_never_votes():
    # The first text's significance is the same alone, padded, and beside a longer one.
    query, key, mask = vectors([4, 9], 9, seed=3)
    alone = received_attention(query[:1, :, :4], key[:1, :, :4], None, 0.3)
    torch.testing.assert_close(received_attention(query, key, mask, 0.3)[:1, :4], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_fp32(dtype):
    lengths = [300]
    query, key, _ = vectors(lengths, 300, seed=4, dtype=dtype)
    significance = received_attention(query, key, None, 0.3)
    assert significance.dtype == torch.float32
    # 900 probabilities are added up: a sum in bf16 would stop growing at 1 part in 256 of its size.
    expected = (query.double() @ key.double().transpose(-1, -2) * 0.3).softmax(-1).sum((1, 2))
    assert float((significance.double() - expected).abs().max() / expected.max()) < 5e-3
    assert float(significance.sum()) == pytest.approx(HEADS * 300, rel=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("block", [1, 2 * HEADS * 49, 3 * HEADS * 49 + 1])
def test_block_by_block_is_the_same_as_at_once(monkeypatch, masked, block):
    lengths = [7, 3, 5, 1, 6] if masked else [7] * 5
    query, key, mask = vectors(lengths, 7, seed=5)
    mask = mask if masked else None
    at_once = received_attention(query, key, mask, 0.3)
    seen = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(
        torch.Tensor, "softmax", lambda self, *a, **k: (seen.append(len(self)), softmax(self, *a, **k))[1]
    )
    monkeypatch.setattr(module, "_BLOCK", block)
    torch.testing.assert_close(received_attention(query, key, mask, 0.3), at_once, rtol=1e-6, atol=1e-6)
    step = max(1, block // (HEADS * 49))
    assert seen == [step] * (5 // step) + [5 % step] * bool(5 % step)


def test_a_card_takes_many_examples_at_a_time():
    # The meta device stands for whatever isn't a CPU, whose caches alone ask for small blocks.
    products = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            products.extend([function] * (function.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.matmul)))
            return function(*args, **(kwargs or {}))

    for device, times in (("cpu", 4), ("meta", 1)):
        products.clear()
        query = torch.zeros(4, 4, 512, 8, device=device)
        with Count():
            found = received_attention(query, query, None, 1.0)
        assert (found.shape, len(products)) == ((4, 512), times)


def test_no_gradient_flows_through_the_choice():
    query, key, _ = vectors([5], 5, seed=6)
    assert not received_attention(query.requires_grad_(), key, None, 0.3).requires_grad
