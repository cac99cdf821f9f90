"""Scored attention on a CPU against plain attention in float64, and what it never has in memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wordelim import Retention
from wordelim.elimination import padded as layouts
from wordelim.elimination.attention import Attention
from wordelim.elimination.keep import highest
from wordelim.elimination.kernels import packed as module
from wordelim.elimination.padded import Padded
from wordelim.elimination.rows import Entered

SCALING = 0.2


@pytest.fixture
def seen(monkeypatch):
    """Every significance that rows are chosen by."""
    noted = []
    monkeypatch.setattr(
        layouts, "highest", lambda received, *args, **named: noted.append(received) or highest(received, *args, **named)
    )
    return noted


def scored_attention(query, key, value, count):
    """Context [examples * kept, width] and rows [examples, kept] of texts of equal length."""
    examples, length = query.shape[0], query.shape[2]
    entered = Entered(examples, length, Retention.counts([count]))
    tokens = Padded(None, (length,) * examples, (length,) * examples, entered)
    with torch.no_grad():
        context, rows, alive = module.extract(query, key, value, tokens, (count,) * examples, Attention(SCALING, 0.0))
    assert alive is None
    return context.flatten(0, 1), rows


def packed(examples, heads, tokens, size, dtype=torch.float32, seed=0):
    """Query, key and value [examples, heads, tokens, head size] as views into packed rows."""
    generator = torch.Generator().manual_seed(seed)
    shape = (examples, tokens, heads, size)
    return [torch.randn(shape, generator=generator).to(dtype).transpose(1, 2) for _ in range(3)]


def reference(query, key, value):
    query, key, value = query.double(), key.double(), value.double()
    probabilities = (query @ key.transpose(2, 3) * SCALING).softmax(-1)
    return probabilities.sum((1, 2)), (probabilities @ value).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("examples", "heads", "tokens", "size", "block"),
    # Several at a time with a rest of one; one at a time; heads of one example by parts with a rest; length 1.
    [(4, 2, 9, 32, 500), (2, 3, 20, 64, 1200), (2, 3, 20, 32, 800), (3, 2, 1, 32, 1 << 18)],
)
def test_it_keeps_by_significance_and_attends_from_what_is_kept(
    monkeypatch, seen, dtype, examples, heads, tokens, size, block
):
    monkeypatch.setattr(module, "_BLOCK", block)
    query, key, value = packed(examples, heads, tokens, size, dtype)
    significance, context = reference(query, key, value)
    count = (tokens + 1) // 2
    got, rows = scored_attention(query, key, value, count)
    assert {received.dtype for received in seen} == {torch.float32}
    half = dtype in (torch.bfloat16, torch.float16)
    tolerance = 2e-2 if half else 1e-5
    assert got.dtype == dtype
    torch.testing.assert_close(torch.cat(seen).double(), significance, rtol=tolerance, atol=tolerance)
    assert torch.equal(rows, highest(torch.cat(seen), count, 1)[0])
    expected = torch.cat([context[example, rows[example]] for example in range(examples)])
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("block", [1, 1 << 18])
def test_where_the_cpu_has_units_for_bf16_it_multiplies_in_bf16_and_sums_in_fp32(monkeypatch, seen, block):
    monkeypatch.setattr(module, "has_fast_bf16", lambda device: True)
    monkeypatch.setattr(module, "_BLOCK", block)
    query, key, value = packed(2, 3, 40, 32, torch.bfloat16)
    significance, context = reference(query, key, value)
    got, rows = scored_attention(query, key, value, 9)
    torch.testing.assert_close(torch.cat(seen).double(), significance, rtol=2e-2, atol=2e-2)
    # Rounded to bf16 after the sum, each text's total would not come out.
    torch.testing.assert_close(torch.cat(seen).sum(1), torch.full((2,), 3 * 40.0), rtol=1e-5, atol=0)
    expected = torch.cat([context[example, rows[example]] for example in range(2)])
    torch.testing.assert_close(got.double(), expected, rtol=2e-2, atol=2e-2)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = [
            leaf.untyped_storage().nbytes() // leaf.itemsize for leaf in tree_leaves(result) if torch.is_tensor(leaf)
        ]
        self.numbers = max(self.numbers, *made, 0)
        return result


@pytest.mark.parametrize(("examples", "tokens"), [(6, 128), (2, 300), (64, 20)])
def test_probabilities_exist_for_one_long_or_some_short_examples_alone(examples, tokens):
    heads, size = 4, 32
    query, key, value = packed(examples, heads, tokens, size)
    with Largest() as largest:
        scored_attention(query, key, value, tokens // 2)
    context = examples * (tokens // 2) * heads * size
    assert largest.numbers <= max(heads * tokens * tokens, module._BLOCK, context)
