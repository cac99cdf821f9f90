"""Which rows stay is known before attention: those alone ask, and no row is scored for its own sake."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from ..attention import Attention, merge_heads, split_heads
from ..packed import PackagedRuns, Packed
from ..padded import Packaged, Padded
from ..rows import gather
from ..significance import by_map
from ..traced import Traced
from . import padded, positional, traced
from .runs import ByRuns, joined

__all__ = ["Mapped", "MappedRuns"]


class Mapped(NamedTuple):
    """Keeps the rows that a linear map of value vectors ranks highest; padded or traced. Gradients flow.

    A package asks as the mean of the rows that it is made of. It is for layers that drop: ``left`` is never None.

    Args:
        numbers: of the map, [heads * head size].
    """

    numbers: Tensor

    def extract(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tokens: Padded | Traced,
        left: Any,
        attention: Attention,
        *extras: Tensor,
    ) -> tuple[Tensor, Tensor | Packaged, Tensor | None]:
        scores = by_map(value, self.numbers, tokens.mask)
        rows, alive = tokens.keep(scores, left, log=True)
        query = gather(query.transpose(1, 2), rows).transpose(1, 2)
        if attention.position is None:
            return self.first(query, key, value, tokens, attention), rows, alive
        stand = positional.stand(tokens, rows)
        return positional.attend_from(stand, query, key, value, tokens, attention, *extras), rows, alive

    def first(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tokens: Padded | Traced,
        attention: Attention,
        *extras: Tensor,
    ) -> Tensor:
        """Context of whatever rows the query has, without positions."""
        if isinstance(tokens, Traced):
            return traced.first(query, key, value, tokens, attention)
        return padded.first(query, key, value, tokens, attention)


class MappedRuns(NamedTuple):
    """The same of packed rows: those of all texts are chosen at once, and attend run by run.

    Args:
        one: for a run.
    """

    one: Mapped

    def extract(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tokens: Packed,
        left: tuple[int, ...],
        attention: Attention,
        *extras: Tensor,
    ) -> tuple[Tensor, Tensor | PackagedRuns, None]:
        rows = tokens.together(query.device).keep(by_map(value, self.one.numbers, None), left)
        after = tokens.take(rows, left, None)
        queries = after.split(split_heads(gather(merge_heads(query), rows), query))
        keys, values = tokens.split(key), tokens.split(value)
        contexts = []
        for q, k, v, own, kept in zip(queries, keys, values, tokens.apart(), after.apart(), strict=True):
            if attention.position is None:
                contexts.append(padded.first(q, k, v, own, attention))
            else:
                contexts.append(positional.attend_from(kept.positions(), q, k, v, own, attention, *extras))
        return joined(contexts), rows, None

    def first(
        self, query: Tensor, key: Tensor, value: Tensor, tokens: Packed, attention: Attention, *extras: Tensor
    ) -> Tensor:
        """As run by run."""
        return ByRuns(self.one).first(query, key, value, tokens, attention, *extras)
