"""Scored attention on a CPU against plain attention in float64, and what it never has in memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wordelim.elimination.kernels import packed as module
from wordelim.elimination.kernels.packed import scored_attention
from wordelim.elimination.significance import highest

SCALING = 0.2


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
    monkeypatch, dtype, examples, heads, tokens, size, block
):
    monkeypatch.setattr(module, "_BLOCK", block)
    query, key, value = packed(examples, heads, tokens, size, dtype)
    significance, context = reference(query, key, value)
    count = (tokens + 1) // 2
    seen = []

    def choose(received):
        assert received.dtype == torch.float32
        seen.append(received)
        return highest(received, count, 1)

    with torch.no_grad():
        got, rows = scored_attention(query, key, value, SCALING, choose)
    half = dtype in (torch.bfloat16, torch.float16)
    tolerance = 2e-2 if half else 1e-5
    assert got.dtype == dtype
    torch.testing.assert_close(torch.cat(seen).double(), significance, rtol=tolerance, atol=tolerance)
    assert torch.equal(rows, highest(torch.cat(seen), count, 1))
    expected = torch.cat([context[example, rows[example]] for example in range(examples)])
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("block", [1, 1 << 18])
def test_where_the_cpu_has_units_for_bf16_it_multiplies_in_bf16_and_sums_in_fp32(monkeypatch, block):
    monkeypatch.setattr(module, "has_fast_bf16", lambda device: True)
    monkeypatch.setattr(module, "_BLOCK", block)
    query, key, value = packed(2, 3, 40, 32, torch.bfloat16)
    significance, context = reference(query, key, value)
    seen = []
    with torch.no_grad():
        got, rows = scored_attention(query, key, value, SCALING, lambda s: (seen.append(s), highest(s, 9, 1))[1])
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
    with torch.no_grad(), Largest() as largest:
        scored_attention(query, key, value, SCALING, lambda received: highest(received, tokens // 2, 1))
    context = examples * (tokens // 2) * heads * size
    assert largest.numbers <= max(heads * tokens * tokens, module._BLOCK, context)
