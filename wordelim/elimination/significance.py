"""How significant each word vector is: what decides who stays."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

__all__ = ["Selector", "by_map", "from_text", "maps_on", "received_attention", "to_text"]

Selector: TypeAlias = Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
"""From query and key [batch, heads, tokens, head size], mask [batch, tokens] (None when all rows are real) and scaling
to the significance of each word vector, [batch, tokens]. Of the packed layout it is given texts of equal length, and
where scores depend on positions query and key are turned by them. A text's significance mustn't depend on the others.
"""

# Attention probabilities are made for as many examples at a time as fit this many numbers, so the whole batch's [batch,
# heads, tokens, tokens] never exists: on a CPU they are summed while they are still in cache; on a card more at a time
# keep it busy, 256 MiB in fp32.
_BLOCK = 1 << 20
_BLOCK_ON_A_CARD = 1 << 26


@torch.no_grad()
def received_attention(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Significance of each word vector: the attention that it receives (PoWER-BERT, section 3.1).

    The probabilities before dropout, summed in fp32 over all heads and all real query rows: a padded row neither votes
    nor receives.

    Args:
        query, key: [batch, heads, tokens, head size].
        mask: [batch, tokens] bool, true on real rows, or None when all are.
        scaling: factor of the scores before the softmax.

    Returns:
        [batch, tokens] fp32. The sum over an example's real rows is its heads times its length.
    """
    batch, heads, tokens, _ = query.shape
    block = _BLOCK if query.device.type == "cpu" else _BLOCK_ON_A_CARD
    step = max(1, block // (heads * tokens * tokens))
    blocks = []
    for start in range(0, batch, step):
        rows = slice(start, start + step)
        scores = query[rows] @ key[rows].transpose(-1, -2) * scaling
        if mask is None:
            blocks.append(scores.softmax(-1, dtype=torch.float32).sum((1, 2)))
            continue
        real = mask[rows]
        scores = scores.masked_fill(~real[:, None, None, :], float("-inf"))
        probabilities = scores.softmax(-1, dtype=torch.float32)
        voters = real[:, None, None, :].to(probabilities.dtype)
        blocks.append((voters @ probabilities).sum((1, 2)))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


@torch.no_grad()
def by_map(value: Tensor, numbers: Tensor, mask: Tensor | None) -> Tensor:
    """Significance of each word vector: a linear map of its value vectors.

    A value vector is itself a linear map of the word vector that enters the layer, so this may be any of that.

    Args:
        value: [batch, heads, tokens, head size].
        numbers: [heads * head size], of the map.
        mask: [batch, tokens] bool, true on real rows, or None when all are.

    Returns:
        [batch, tokens] fp32, on any scale: for shares of a package take the softmax. Minus infinity on padding.
    """
    scores = value.transpose(1, 2).flatten(2).float() @ numbers.float()
    return scores if mask is None else scores.masked_fill(~mask, float("-inf"))


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def maps_on(maps: Sequence[str], device: torch.device) -> Tensor:
    """:func:`from_text` on a device, made once."""
    return from_text(maps).to(device)


def to_text(numbers: Tensor) -> str:
    """A linear map as a retention has it."""
    return base64.b64encode(numbers.detach().cpu().numpy().astype("<f2").tobytes()).decode()


def from_text(maps: Sequence[str]) -> Tensor:
    """The linear maps of a retention, [layers, numbers] fp32; zeros where a layer has none."""
    rows = [np.frombuffer(base64.b64decode(text), "<f2") for text in maps]
    width = max(map(len, rows))
    return torch.from_numpy(np.stack([row if len(row) else np.zeros(width, "<f2") for row in rows]).astype("f4"))
