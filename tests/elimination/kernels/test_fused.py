"""The GPU kernels against plain attention in float64, run by Triton's interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton isn't installed: it comes with torch builds for CUDA")

from wordelim import Retention
from wordelim.elimination.extract import FirstToken, HardExtract
from wordelim.elimination.kernels import varlen
from wordelim.elimination.kernels.fused import context_of, received_attention
from wordelim.elimination.rows import Run, Tokens

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
SCALING = 0.2


def packed(lengths, heads, size, dtype, seed=0):
    """Query, key and value [rows, heads, size] as projections leave them, and where each example lies."""
    generator = torch.Generator().manual_seed(seed)
    rows = sum(lengths)
    parts = [torch.randn(rows, heads * size, generator=generator).to(DEVICE, dtype).unflatten(1, (heads, size))]
    parts += [torch.randn(rows, heads * size, generator=generator).to(DEVICE, dtype).view(rows, heads, size)]
    parts += [torch.randn(rows, heads * size, generator=generator).to(DEVICE, dtype).view(rows, heads, size)]
    counts = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    return parts, (counts.cumsum(0) - counts).to(torch.int32), counts


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
    (query, key, value), starts, counts = packed(lengths, heads, size, dtype)
    significance, context = reference(query, key, value, lengths)
    got = received_attention(query, key, starts, counts, max(lengths), SCALING)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), significance, rtol=TOLERANCE[dtype] / 2, atol=1e-5)
    # Every other row of each example, the first included.
    places = [torch.arange(0, length, 2) + start for length, start in zip(lengths, starts.tolist(), strict=True)]
    asked = torch.cat(places).to(DEVICE)
    asked_counts = torch.tensor([len(place) for place in places], dtype=torch.int32, device=DEVICE)
    asked_starts = (asked_counts.cumsum(0) - asked_counts).to(torch.int32)
    most = int(asked_counts.max())
    got = context_of(asked, asked_starts, asked_counts, most, query, key, value, starts, counts, SCALING)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), context[asked], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_values_may_lie_apart():
    # Rows taken out of a wider tensor, as one projection for query, key and value leaves them.
    (query, key, value), starts, counts = packed((40, 9), 2, 32, torch.float32)
    wide = torch.stack((query, key, value), 2)
    significance, context = reference(query, key, value, (40, 9))
    query, key, value = wide.unbind(2)
    got = received_attention(query, key, starts, counts, 40, SCALING)
    torch.testing.assert_close(got.double(), significance, rtol=1e-5, atol=1e-5)
    every = torch.arange(49, device=DEVICE)
    got = context_of(every, starts, counts, 40, query, key, value, starts, counts, SCALING)
    torch.testing.assert_close(got.double(), context, rtol=1e-5, atol=1e-5)


def test_a_layer_at_once_is_the_layer_example_by_example(monkeypatch):
    runs = (Run(1, 70, 70), Run(2, 9, 9), Run(1, 2, 1))
    (query, key, value), _, _ = packed((70, 9, 9, 1), 2, 32, torch.float32)
    rows = [part.transpose(0, 1)[None] for part in (query, key, value)]
    tokens = Tokens(None, (), (), runs, torch.arange(4, device=DEVICE))
    for keep in (1.0, 0.5, 0.0):
        tokens = tokens._replace(retention=Retention.fractions([keep], protect=("first:2",)))
        extract = HardExtract(0, SCALING, 0.0).eval()
        found = []
        with torch.no_grad():
            for at_once in (False, True):
                monkeypatch.setattr(varlen, "serves", lambda query, at_once=at_once: at_once)
                found.append(extract(*rows, tokens))
        apart, together = found
        assert together.tokens.runs == apart.tokens.runs
        assert (together.rows is None) == (apart.rows is None)
        assert together.rows is None or together.rows.tolist() == apart.rows.tolist()
        torch.testing.assert_close(together.context, apart.context, rtol=1e-4, atol=1e-5)
    queries = rows[0][:, :, [0, 70, 79, 88]]
    first = FirstToken(SCALING, 0.0).eval()
    found = []
    with torch.no_grad():
        for at_once in (False, True):
            monkeypatch.setattr(varlen, "serves", lambda query, at_once=at_once: at_once)
            found.append(first(queries, *rows[1:], tokens).context)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
