"""The modules that stand in a rewritten graph where attention stood."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import RetentionError
from ..retention import Retention
from . import symbolic
from .attention import attend, merge_heads
from .significance import keep_highest, received_attention
from .tokens import Run, Tokens, gather, run_starts

__all__ = ["Extracted", "FirstToken", "HardExtract"]


class Extracted(NamedTuple):
    """What leaves an eliminating attention.

    Args:
        context: attention output of the kept rows, padded [batch, kept, width] or packed [1, kept, width].
        rows: which rows were kept, padded [batch, kept] or packed [kept], or None when all were.
        tokens: what is alive after.
    """

    context: Tensor
    rows: Tensor | None
    tokens: Tokens


class HardExtract(nn.Module):
    """Attention that drops the word vectors of least significance (PoWER-BERT, section 3.3).

    Context is made for the kept rows alone; queries of dropped rows serve only to score. Has no parameters.

    Args:
        retention: how many word vectors each layer keeps.
        layer: the layer that this is.
        scaling: factor of the scores before the softmax.
        dropout: attention dropout of the layer, used in training.
    """

    def __init__(self, retention: Retention, layer: int, scaling: float, dropout: float) -> None:
        super().__init__()
        self.layer = layer
        self.scaling = scaling
        self.dropout = dropout
        self.retention = retention

    @property
    def retention(self) -> Retention:
        """How many word vectors each layer keeps; may be set."""
        return self._retention

    @retention.setter
    def retention(self, retention: Retention) -> None:
        self._retention = retention
        self._rule = symbolic.CountRule.of(retention, self.layer)

    def extra_repr(self) -> str:
        return f"layer={self.layer}, keep={self.retention.keep[self.layer]}"

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens) -> Extracted:
        """All three: padded [batch, heads, tokens, head size] or packed [1, heads, rows, head size]."""
        if tokens.runs is None:
            return self._extract(query, key, value, tokens)
        contexts, kept, runs, start = [], [], [], 0
        for run in tokens.runs:
            end = start + run.examples * run.alive
            lengths, counts = (run.length,) * run.examples, (run.alive,) * run.examples
            context, rows, alive = self._extract(
                _examples(query[0, :, start:end], run),
                _examples(key[0, :, start:end], run),
                _examples(value[0, :, start:end], run),
                Tokens(None, lengths, counts),
            )
            contexts.append(context.flatten(0, 1))
            if rows is not None:
                first = torch.arange(start, end, run.alive, device=rows.device)
                kept.append((rows + first[:, None]).flatten())
            else:
                kept.append(torch.arange(start, end, device=query.device))
            runs.append(Run(run.examples, run.length, alive.counts[0]))
            start = end
        context = contexts[0] if len(contexts) == 1 else torch.cat(contexts)
        after = tuple(runs)
        rows = None if after == tokens.runs else torch.cat(kept)
        return Extracted(context[None], rows, tokens._replace(runs=after))

    def _extract(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens) -> Extracted:
        dropout = self.dropout if self.training else 0.0
        if tokens.symbolic is not None:
            return self._extract_symbolic(query, key, value, tokens, dropout)
        counts = tuple(
            self.retention.count(self.layer, length, entered)
            for length, entered in zip(tokens.lengths, tokens.counts, strict=True)
        )
        if counts == tokens.counts:
            context = attend(query, key, value, tokens.mask, self.scaling, dropout)
            return Extracted(merge_heads(context), None, tokens)
        significance = received_attention(query, key, tokens.mask, self.scaling)
        rows, alive = keep_highest(significance, tokens, counts, self.retention.protected_first)
        kept = gather(query.transpose(1, 2), rows).transpose(1, 2)
        context = attend(kept, key, value, tokens.mask, self.scaling, dropout)
        return Extracted(merge_heads(context), rows, alive)

    def _extract_symbolic(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens, dropout: float) -> Extracted:
        if self._rule is None:
            raise RetentionError(
                f"keep[{self.layer}] = {self.retention.keep[self.layer]!r} can't be compiled or exported, for no "
                "fraction of small whole numbers rounds as it does: round it to six digits."
            )
        if not self._rule.drops:
            return Extracted(merge_heads(attend(query, key, value, tokens.mask, self.scaling, dropout)), None, tokens)
        assert tokens.mask is not None
        significance = symbolic.received_attention(query, key, tokens.mask, self.scaling)
        rows, alive = symbolic.keep_highest(significance, tokens, self._rule, self.retention.protected_first)
        kept = gather(query.transpose(1, 2), rows).transpose(1, 2)
        context = attend(kept, key, value, tokens.mask, self.scaling, dropout)
        return Extracted(merge_heads(context), rows, alive)


class FirstToken(nn.Module):
    """The last layer's attention where the head reads the first token alone: one query row, and nothing is lost.

    Args:
        scaling: factor of the scores before the softmax.
        dropout: attention dropout of the layer, used in training.
    """

    def __init__(self, scaling: float, dropout: float) -> None:
        super().__init__()
        self.scaling = scaling
        self.dropout = dropout

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens) -> Extracted:
        """Attention of each example's first row.

        Args:
            query: these rows' queries, padded [batch, heads, 1, head size] or packed [1, heads, batch, head size].
            key, value: padded [batch, heads, tokens, head size] or packed [1, heads, rows, head size].
        """
        dropout = self.dropout if self.training else 0.0
        if tokens.runs is None:
            context = attend(query, key, value, tokens.mask, self.scaling, dropout)
            rows = torch.zeros(query.shape[0], 1, dtype=torch.long, device=query.device)
            alive = Tokens(None, tokens.lengths, (1,) * len(tokens.lengths), symbolic=tokens.symbolic)
            return Extracted(merge_heads(context), rows, alive)
        contexts, start, example = [], 0, 0
        for run in tokens.runs:
            end = start + run.examples * run.alive
            first = _examples(query[0, :, example : example + run.examples], run._replace(alive=1))
            keys, values = (_examples(rows[0, :, start:end], run) for rows in (key, value))
            contexts.append(merge_heads(attend(first, keys, values, None, self.scaling, dropout)).flatten(0, 1))
            start, example = end, example + run.examples
        runs = tuple(run._replace(alive=1) for run in tokens.runs)
        return Extracted(torch.cat(contexts)[None], run_starts(tokens.runs, query.device), tokens._replace(runs=runs))


def _examples(values: Tensor, run: Run) -> Tensor:
    """One run's packed rows [heads, rows, head size] as [examples, heads, alive, head size]."""
    heads, _, size = values.shape
    return values.reshape(heads, run.examples, run.alive, size).transpose(0, 1)
