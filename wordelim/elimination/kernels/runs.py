"""The packed layout as some batches without padding: one for each run of texts of equal length."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..attention import Attention
from ..packed import PackagedRuns, Packed
from ..padded import Packaged
from ..rows import text_rows

__all__ = ["ByRuns"]


class ByRuns(NamedTuple):
    """Computes packed rows run by run.

    Args:
        one: the kernel that is given a run, as :class:`.rows.Padded`.
    """

    one: Any

    def extract(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tokens: Packed,
        left: tuple[int, ...] | None,
        attention: Attention,
        *extras: Tensor,
    ) -> tuple[Tensor, Tensor | PackagedRuns | None, None]:
        contexts, kept = [], []
        parts = zip(*map(tokens.split, (query, key, value)), tokens.apart(), strict=True)
        for (*vectors, own), count in zip(parts, left or (None,) * len(tokens.runs), strict=True):
            counts = None if count in (None, own.counts[0]) else (count,) * len(own.counts)
            context, rows, _ = self.one.extract(*vectors, own, counts, attention, *extras)
            contexts.append(context.flatten(0, 1))
            kept.append(rows)
        return _joined(contexts), None if left is None else _index(tokens, kept, query.device), None

    def first(
        self, query: Tensor, key: Tensor, value: Tensor, tokens: Packed, attention: Attention, *extras: Tensor
    ) -> Tensor:
        parts = zip(tokens.cut().split(query), *map(tokens.split, (key, value)), tokens.apart(), strict=True)
        return _joined([self.one.first(*part, attention, *extras).flatten(0, 1) for part in parts])


def _joined(contexts: list[Tensor]) -> Tensor:
    return (contexts[0] if len(contexts) == 1 else torch.cat(contexts))[None]


def _index(tokens: Packed, kept: list[Tensor | Packaged | None], device: torch.device) -> Tensor | PackagedRuns:
    """Rows kept of each run's texts, [examples, kept] or None for all, as rows among all packed ones."""
    parts, shares, places, start, end = [], [], [], 0, 0
    for run, size, rows in zip(tokens.runs, tokens.sizes(), kept, strict=True):
        if rows is None:
            parts.append(torch.arange(start, start + size, device=device))
        else:
            firsts = torch.arange(start, start + size, tokens.each(run), device=device)[:, None]
            index = firsts + text_rows(rows)
            if isinstance(rows, Packaged):
                index = torch.cat([index, firsts], 1)
                shares.append((start, rows.shares))
                each = index.shape[1]
                places.append(torch.arange(end + each - 1, end + index.numel(), each, device=device))
            parts.append(index.flatten())
        start, end = start + size, end + parts[-1].numel()
    return PackagedRuns(torch.cat(parts), torch.cat(places), tuple(shares)) if places else torch.cat(parts)
