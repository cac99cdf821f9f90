"""How much attention each word vector receives, and which word vectors are kept for it."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import Tokens, on_device

__all__ = ["highest", "keep_highest", "received_attention"]

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


def highest(significance: Tensor, count: int, protected_first: int, protected: Tensor | None = None) -> Tensor:
    """Rows of highest significance, in text order; of equals the earlier.

    Args:
        significance: [examples, tokens], all of them real.
        count: how many are kept of each example.
        protected_first: how many of the first rows are kept whatever their significance.
        protected: [examples, tokens] bool, true on rows that are kept whatever their significance, or None.

    Returns:
        [examples, count].
    """
    order = significance.clone()
    order[:, :protected_first] = float("inf")
    if protected is not None:
        order = order.masked_fill(protected, float("inf"))
    ranked = order.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return ranked.sort(dim=1).values


def keep_highest(
    significance: Tensor, tokens: Tokens, counts: tuple[int, ...], protected_first: int
) -> tuple[Tensor, Tokens]:
    """Choose each example's most significant word vectors, in text order.

    Equal significance is decided for the earlier word vector.

    Args:
        significance: [batch, tokens].
        tokens: what is alive now, and what of it is protected.
        counts: how many each example keeps; at least 1 and never more than are alive.
        protected_first: how many of the first real rows are kept whatever their significance.

    Returns:
        Index of the kept rows [batch, max(counts)] (rows beyond an example's own count point at its row 0 and are
        masked), and what is alive after.
    """
    width = significance.shape[1]
    kept = max(counts)
    if tokens.mask is None and min(counts) == kept:
        index = highest(significance, kept, protected_first, tokens.protected)
        return index, _alive(tokens, None, counts, index)
    mask = torch.ones_like(significance, dtype=torch.bool) if tokens.mask is None else tokens.mask
    order = significance.masked_fill(~mask, float("-inf"))
    order = order.masked_fill(mask & (mask.cumsum(1) <= protected_first), float("inf"))
    if tokens.protected is not None:
        order = order.masked_fill(tokens.protected, float("inf"))
    ranked = order.sort(dim=1, descending=True, stable=True).indices[:, :kept]
    if min(counts) == kept:
        index = ranked.sort(dim=1).values
        return index, _alive(tokens, None, counts, index)
    limit = on_device(list(counts), ranked.device)[:, None]
    beyond = torch.arange(kept, device=ranked.device) >= limit
    index = ranked.masked_fill(beyond, width).sort(dim=1).values
    index = index.masked_fill(beyond, 0)
    return index, _alive(tokens, ~beyond, counts, index)


def _alive(tokens: Tokens, mask: Tensor | None, counts: tuple[int, ...], index: Tensor) -> Tokens:
    protected = tokens.protected
    if protected is not None:
        protected = protected.gather(1, index) if mask is None else protected.gather(1, index) & mask
    return tokens._replace(mask=mask, counts=counts, protected=protected)
