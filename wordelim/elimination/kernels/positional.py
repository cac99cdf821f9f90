"""Attention whose scores depend on where two word vectors stood in the text.

Positions are those at which word vectors entered, however many between them have been dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from ..attention import merge_heads
from ..extract import Extracted, FirstToken, HardExtract
from ..rows import Tokens, gather, run_starts
from ..significance import keep_highest
from . import traced as symbolic

__all__ = ["Position", "PositionalExtract", "PositionalFirstToken"]

Position: TypeAlias = Callable[..., tuple[Tensor, Tensor, Tensor | None]]
"""What positions do to scores. Called with query [batch, heads, rows, head size], key [batch, heads, tokens, head
size], the positions of both ([batch, rows] and [batch, tokens]) and the tensors that the family adds; returns query and
key, turned by their positions, and what is added to the scaled scores, [batch, heads, rows, tokens] or what broadcasts
to it."""


class PositionalExtract(HardExtract):
    """:class:`HardExtract` for scores that depend on positions.

    Args:
        position: what positions do to scores.
    """

    def __init__(self, layer: int, scaling: float, dropout: float, position: Position) -> None:
        super().__init__(layer, scaling, dropout)
        self.position = position

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens, *extras: Tensor) -> Extracted:
        """As :meth:`HardExtract.forward`; ``extras`` go to ``position``."""
        if tokens.runs is None:
            context, rows, alive = self._one(query, key, value, _positions(tokens), tokens, extras)
            return Extracted(merge_heads(context), rows, alive)
        contexts, kept, runs, protected, start = [], [], [], [], 0
        positions = _positions(tokens)
        for run in tokens.runs:
            end, shape = start + run.examples * run.alive, (run.examples, run.alive)
            own = Tokens(
                None,
                (run.length,) * run.examples,
                (run.alive,) * run.examples,
                protected=None if tokens.protected is None else tokens.protected[start:end].view(shape),
                guarded=None if tokens.protected is None else (run.protected,) * run.examples,
                retention=tokens.retention,
            )
            q, k, v = (part[0, :, start:end].unflatten(1, shape).transpose(0, 1) for part in (query, key, value))
            context, rows, alive = self._one(q, k, v, positions[start:end].view(shape), own, extras)
            contexts.append(merge_heads(context).flatten(0, 1))
            first = torch.arange(start, end, run.alive, device=query.device)[:, None]
            kept.append((first + (torch.arange(run.alive, device=query.device) if rows is None else rows)).flatten())
            if alive.protected is not None:
                protected.append(alive.protected.flatten())
            runs.append(run._replace(alive=alive.counts[0]))
            start = end
        after = tuple(runs)
        index = None if after == tokens.runs else torch.cat(kept)
        alive = tokens._replace(runs=after, protected=torch.cat(protected) if protected else None)
        return Extracted(torch.cat(contexts)[None], index, alive)

    def _one(
        self, query: Tensor, key: Tensor, value: Tensor, positions: Tensor, tokens: Tokens, extras: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor | None, Tokens]:
        query, key, bias = self.position(query, key, positions, positions, *extras)
        probabilities = _probabilities(query, key, bias, tokens.mask, self.scaling)
        rows, alive = self._choose(probabilities, tokens)
        if rows is not None:
            # [batch, tokens, heads, tokens], so that rows can be gathered.
            probabilities = gather(probabilities.transpose(1, 2), rows).transpose(1, 2)
        return _context(probabilities, value, self.dropout if self.training else 0.0), rows, alive

    def _choose(self, probabilities: Tensor, tokens: Tokens) -> tuple[Tensor | None, Tokens]:
        received = probabilities.detach()
        if tokens.mask is not None:
            received = received * tokens.mask[:, None, :, None]
        significance = received.sum((1, 2))
        if tokens.symbolic is not None:
            rule = self.rule(tokens)
            if not rule.drops:
                return None, tokens
            return symbolic.keep_highest(significance, tokens, rule, tokens.kept.protected_first)
        counts = self.counts(tokens)
        if counts == tokens.counts:
            return None, tokens
        return keep_highest(significance, tokens, counts, tokens.kept.protected_first)


class PositionalFirstToken(FirstToken):
    """:class:`FirstToken` for scores that depend on positions.

    Args:
        position: what positions do to scores.
    """

    def __init__(self, scaling: float, dropout: float, position: Position) -> None:
        super().__init__(scaling, dropout)
        self.position = position

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens, *extras: Tensor) -> Extracted:
        """As :meth:`FirstToken.forward`; ``extras`` go to ``position``."""
        positions = _positions(tokens)
        if tokens.runs is None:
            context = self._one(query, key, value, positions, tokens.mask, extras)
            rows = torch.zeros(query.shape[0], 1, dtype=torch.long, device=query.device)
            alive = tokens._replace(mask=None, counts=(1,) * len(tokens.lengths), protected=None, guarded=None)
            return Extracted(merge_heads(context), rows, alive)
        contexts, start, example = [], 0, 0
        for run in tokens.runs:
            end, shape = start + run.examples * run.alive, (run.examples, run.alive)
            first = query[0, :, example : example + run.examples].unflatten(1, (run.examples, 1)).transpose(0, 1)
            keys, values = (rows[0, :, start:end].unflatten(1, shape).transpose(0, 1) for rows in (key, value))
            context = self._one(first, keys, values, positions[start:end].view(shape), None, extras)
            contexts.append(merge_heads(context).flatten(0, 1))
            start, example = end, example + run.examples
        runs = tuple(run._replace(alive=1) for run in tokens.runs)
        return Extracted(torch.cat(contexts)[None], run_starts(tokens.runs, query.device), tokens._replace(runs=runs))

    def _one(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        extras: tuple[Tensor, ...],
    ) -> Tensor:
        query, key, bias = self.position(query, key, positions[:, :1], positions, *extras)
        probabilities = _probabilities(query, key, bias, mask, self.scaling)
        return _context(probabilities, value, self.dropout if self.training else 0.0)


def _positions(tokens: Tokens) -> Tensor:
    """Where each alive row stood in its own text: padded [batch, rows], packed [rows]."""
    assert tokens.origin is not None and tokens.entered is not None
    origin, width = tokens.origin, tokens.entered[1]
    if tokens.symbolic is None:
        return origin % width
    # A remainder by a number that isn't known yet can't be exported; by a tensor it can.
    return origin % torch.full((), width, dtype=origin.dtype, device=origin.device)


def _probabilities(query: Tensor, key: Tensor, bias: Tensor | None, mask: Tensor | None, scaling: float) -> Tensor:
    scores = query @ key.transpose(-1, -2) * scaling
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
    return scores.softmax(-1, dtype=torch.float32)


def _context(probabilities: Tensor, value: Tensor, dropout: float) -> Tensor:
    return functional.dropout(probabilities.to(value.dtype), dropout) @ value
