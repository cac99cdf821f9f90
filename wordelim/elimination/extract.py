"""The modules that stand in a rewritten graph where attention stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ..errors import RetentionError
from ..retention import Retention
from .attention import attend, merge_heads
from .keep import CountRule
from .kernels import traced as symbolic
from .kernels import varlen
from .kernels.packed import scored_attention
from .rows import Run, Tokens, gather, run_starts
from .significance import highest, keep_highest, received_attention

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

    Context is made for the kept rows alone; queries of dropped rows serve only to score. Has no parameters. How many
    word vectors it keeps comes with each batch, in its tokens.

    Args:
        layer: the layer that this is.
        scaling: factor of the scores before the softmax.
        dropout: attention dropout of the layer, used in training.
    """

    def __init__(self, layer: int, scaling: float, dropout: float) -> None:
        super().__init__()
        self.layer = layer
        self.scaling = scaling
        self.dropout = dropout

    def extra_repr(self) -> str:
        return f"layer={self.layer}"

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens) -> Extracted:
        """All three: padded [batch, heads, tokens, head size] or packed [1, heads, rows, head size]."""
        if tokens.runs is None:
            return self._extract(query, key, value, tokens)
        if varlen.serves(query) and tokens.protected is None:
            return self._extract_at_once(query, key, value, tokens, tokens.runs)
        contexts, kept, runs, start = [], [], [], 0
        parts = (_runs(rows, tokens.runs) for rows in (query, key, value))
        for run, queries, keys, values in zip(tokens.runs, *parts, strict=True):
            end = start + run.examples * run.alive
            protected = None if tokens.protected is None else tokens.protected[start:end].view(run.examples, run.alive)
            context, rows, alive = self._extract_run(queries, keys, values, run, protected, tokens.kept)
            contexts.append(context)
            kept.append(rows)
            runs.append(run._replace(alive=alive))
            start = end
        context = contexts[0] if len(contexts) == 1 else torch.cat(contexts)
        after = tuple(runs)
        index = None if after == tokens.runs else _packed_index(tokens.runs, kept, query.device)
        protected = tokens.protected
        if protected is not None and index is not None:
            protected = protected.index_select(0, index)
        return Extracted(context[None], index, tokens._replace(runs=after, protected=protected))

    def _extract_at_once(
        self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens, runs: tuple[Run, ...]
    ) -> Extracted:
        kept = tokens.kept
        after = tuple(run._replace(alive=kept.count(self.layer, run.length, run.alive)) for run in runs)
        first = kept.protected_first
        context, rows = varlen.extract(query, key, value, runs, after, first, self.scaling)
        return Extracted(context, None if after == runs else rows, tokens._replace(runs=after))

    def _extract_run(
        self, query: Tensor, key: Tensor, value: Tensor, run: Run, protected: Tensor | None, kept: Retention
    ) -> tuple[Tensor, Tensor | None, int]:
        """One run, [examples, heads, alive, head size] each: context [examples * kept, width], rows kept, how many."""
        count = kept.count(self.layer, run.length, run.alive, run.protected)
        dropout = self.dropout if self.training else 0.0
        if count == run.alive:
            context = attend(query, key, value, None, self.scaling, dropout)
            return merge_heads(context).flatten(0, 1), None, count

        def choose(significance: Tensor) -> Tensor:
            return highest(significance, count, kept.protected_first, protected)

        # scored_attention chooses for a few examples at a time, without saying for which.
        scores_once = query.device.type == "cpu" and not dropout and not torch.is_grad_enabled()
        if scores_once and protected is None:
            return *scored_attention(query, key, value, self.scaling, choose), count
        rows = choose(received_attention(query, key, None, self.scaling))
        queries = gather(query.transpose(1, 2), rows).transpose(1, 2)
        context = attend(queries, key, value, None, self.scaling, dropout)
        return merge_heads(context).flatten(0, 1), rows, count

    def counts(self, tokens: Tokens) -> tuple[int, ...]:
        """How many word vectors of each example this layer leaves, in the padded layout."""
        guarded = tokens.guarded or (0,) * len(tokens.lengths)
        alive = zip(tokens.lengths, tokens.counts, guarded, strict=True)
        return tuple(tokens.kept.count(self.layer, *example) for example in alive)

    def rule(self, tokens: Tokens) -> CountRule:
        """The same as a rule for compilers; RetentionError where there is none."""
        assert tokens.symbolic is not None
        rule = tokens.symbolic.rules[self.layer]
        if rule is None:
            raise RetentionError(
                f"keep[{self.layer}] = {tokens.kept.keep[self.layer]!r} can't be compiled or exported, for no "
                "fraction of small whole numbers rounds as it does: round it to six digits."
            )
        return rule

    def _extract(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens) -> Extracted:
        dropout = self.dropout if self.training else 0.0
        if tokens.symbolic is not None:
            return self._extract_symbolic(query, key, value, tokens, dropout)
        counts = self.counts(tokens)
        if counts == tokens.counts:
            context = attend(query, key, value, tokens.mask, self.scaling, dropout)
            return Extracted(merge_heads(context), None, tokens)
        significance = received_attention(query, key, tokens.mask, self.scaling)
        rows, alive = keep_highest(significance, tokens, counts, tokens.kept.protected_first)
        kept = gather(query.transpose(1, 2), rows).transpose(1, 2)
        context = attend(kept, key, value, tokens.mask, self.scaling, dropout)
        return Extracted(merge_heads(context), rows, alive)

    def _extract_symbolic(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens, dropout: float) -> Extracted:
        rule = self.rule(tokens)
        assert tokens.mask is not None
        if not rule.drops:
            additive = symbolic.bias(tokens.mask, query.dtype)
            context = scaled_dot_product_attention(query, key, value, additive, dropout, scale=self.scaling)
            return Extracted(merge_heads(context), None, tokens)
        context, significance = symbolic.scored_attention(query, key, value, tokens.mask, self.scaling, dropout)
        rows, alive = symbolic.keep_highest(significance, tokens, rule, tokens.kept.protected_first)
        return Extracted(gather(merge_heads(context), rows), rows, alive)


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
            alive = tokens._replace(mask=None, counts=(1,) * len(tokens.lengths), protected=None, guarded=None)
            return Extracted(merge_heads(context), rows, alive)
        ones = tuple(run._replace(alive=1) for run in tokens.runs)
        if varlen.serves(query):
            context = varlen.attend_first(query, key, value, tokens.runs, self.scaling)
        else:
            parts = zip(_runs(query, ones), _runs(key, tokens.runs), _runs(value, tokens.runs), strict=True)
            contexts = [merge_heads(attend(*own, None, self.scaling, dropout)).flatten(0, 1) for own in parts]
            context = torch.cat(contexts)[None]
        index = run_starts(tokens.runs, query.device)
        return Extracted(context, index, tokens._replace(runs=ones))


def _packed_index(runs: tuple[Run, ...], kept: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """Rows kept of each run's examples, [examples, kept] or None for all, as rows among all packed ones."""
    parts, start = [], 0
    for run, rows in zip(runs, kept, strict=True):
        end = start + run.examples * run.alive
        if rows is None:
            parts.append(torch.arange(start, end, device=device))
        else:
            parts.append((rows + torch.arange(start, end, run.alive, device=device)[:, None]).flatten())
        start = end
    return torch.cat(parts)


def _runs(values: Tensor, runs: tuple[Run, ...]) -> list[Tensor]:
    """Packed rows [1, heads, rows, head size] run by run, as views [examples, heads, alive, head size]."""
    rows = values[0].transpose(0, 1).split([run.examples * run.alive for run in runs])
    return [part.unflatten(0, (run.examples, run.alive)).transpose(1, 2) for part, run in zip(rows, runs, strict=True)]
