"""The packed layout as some batches without padding: one for each run of texts of equal length."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..attention import Attention
from ..packed import PackagedRuns, Packed
from ..padded import Packaged
from ..rows import text_rows

__all__ = ["ByRuns", "joined"]


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
            contexts.append(context)
            kept.append(rows)
        return joined(contexts), None if left is None else _index(tokens, kept, query.device), None

    def first(
        self, query: Tensor, key: Tensor, value: Tensor, tokens: Packed, attention: Attention, *extras: Tensor
    ) -> Tensor:
        parts = zip(tokens.cut().split(query), *map(tokens.split, (key, value)), tokens.apart(), strict=True)
        return joined([self.one.first(*part, attention, *extras) for part in parts])


def joined(contexts: list[Tensor]) -> Tensor:
    """Of each run [examples, rows, width] as packed rows [1, rows, width]."""
    flat = [context.flatten(0, 1) for context in contexts]
    return (flat[0] if len(flat) == 1 else torch.cat(flat))[None]


def _index(tokens: Packed, kept: list[Tensor | Packaged | None], device: torch.device) -> Tensor | PackagedRuns:
    """Rows kept of each run's texts, [examples, kept] or None for all, as rows among all packed ones."""
    parts, shares, starts, places, start, terms, sums = [], [], [], [], 0, 0, 0
    for run, size, rows in zip(tokens.runs, tokens.sizes(), kept, strict=True):
        every = torch.arange(start, start + size, device=device).view(run.examples, -1)
        index = every if rows is None else every[:, :1] + text_rows(rows)
        counts = index.shape[1]
        share = torch.ones_like(index, dtype=torch.float32)
        if isinstance(rows, Packaged):
            # Behind the rows that a text keeps all that it has, with shares of 0 where they are kept.
            index, share = torch.cat([index, every], 1), torch.cat([share, rows.shares], 1)
            counts += 1
            places.append(torch.arange(sums + counts - 1, sums + run.examples * counts, counts, device=device))
        first = torch.arange(terms, terms + index.numel(), index.shape[1], device=device)[:, None]
        starts.append(first + torch.arange(counts, device=device))
        parts.append(index)
        shares.append(share)
        start, terms, sums = start + size, terms + index.numel(), sums + run.examples * counts
    rows = torch.cat([part.flatten() for part in parts])
    if not places:
        return rows
    return PackagedRuns(rows, *(torch.cat([each.flatten() for each in every]) for every in (shares, starts, places)))
