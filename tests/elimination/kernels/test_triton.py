"""The GPU kernels against plain attention in float64, run by Triton's interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton isn't installed: it comes with torch builds for CUDA")

from wordelim.elimination.kernels.triton import Segments, context_of, received_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
SCALING = 0.2


def packed(lengths, heads, size, dtype, seed=0):
    """Query, key and value [rows, heads, size] as projections leave them, and where each text lies."""
    generator = torch.Generator().manual_seed(seed)
    rows = sum(lengths)
    parts = [torch.randn(rows, heads * size, generator=generator).to(DEVICE, dtype).unflatten(1, (heads, size))]
    parts += [torch.randn(rows, heads * size, generator=generator).to(DEVICE, dtype).view(rows, heads, size)]
    parts += [torch.randn(rows, heads * size, generator=generator).to(DEVICE, dtype).view(rows, heads, size)]
    return parts, segments(lengths)


def segments(lengths):
    counts = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    return Segments((counts.cumsum(0) - counts).to(torch.int32), counts, max(lengths), sum(lengths))


def reference(query, key, value, lengths):
    """Significance [rows] and context [rows, heads * size] in float64, example by example."""
    significance, context, start = [], [], 0
    for length in lengths:
        q, k, v = (part[start : start + length].double().transpose(0, 1) for part in (query, key, value))
        probabilities = (q @ k.transpose(1, 2) * SCALING).softmax(-1)
        significance.append(probabilities.sum((0, 1)))
        context.append((probabilities @ v).transpose(0, 1).flatten(1))
        start += length
    return torch.cat(significance), torch.cat(context)


@pytest.mark.parametrize(
    ("lengths", "heads", "size", "dtype"),
    [
        ((1,), 2, 32, torch.float32),
        ((512, 3), 1, 64, torch.float32),
        ((130, 64, 65, 1), 2, 64, torch.float16),
        ((100, 17), 2, 32, torch.bfloat16),
        ((33, 5), 3, 24, torch.float32),
    ],
)
def test_kernels_are_plain_attention(lengths, heads, size, dtype):
    (query, key, value), texts = packed(lengths, heads, size, dtype)
    significance, context = reference(query, key, value, lengths)
    got = received_attention(query, key, texts, SCALING)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), significance, rtol=TOLERANCE[dtype] / 2, atol=1e-5)
    # Every other row of each example, the first included.
    places = [torch.arange(0, length, 2) + start for length, start in zip(lengths, texts.starts.tolist(), strict=True)]
    rows, asked = torch.cat(places).to(DEVICE), segments([len(place) for place in places])
    got = context_of(rows, asked, query, key, value, texts, SCALING)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), context[rows], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_values_may_lie_apart():
    # Rows taken out of a wider tensor, as one projection for query, key and value leaves them.
    (query, key, value), texts = packed((40, 9), 2, 32, torch.float32)
    wide = torch.stack((query, key, value), 2)
    significance, context = reference(query, key, value, (40, 9))
    query, key, value = wide.unbind(2)
    got = received_attention(query, key, texts, SCALING)
    torch.testing.assert_close(got.double(), significance, rtol=1e-5, atol=1e-5)
    every = torch.arange(49, device=DEVICE)
    got = context_of(every, texts, query, key, value, texts, SCALING)
    torch.testing.assert_close(got.double(), context, rtol=1e-5, atol=1e-5)
