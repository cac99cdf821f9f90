"""Which rows stay is known before attention: those alone ask, and no row is scored for its own sake."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from ..attention import Attention
from ..padded import Packaged, Padded
from ..rows import gather
from ..significance import by_map
from ..traced import Traced
from . import padded, positional, traced

__all__ = ["Mapped"]


class Mapped(NamedTuple):
    """Keeps the rows that a linear map of value vectors ranks highest; padded or traced. Gradients flow.

    A package asks as the mean of the rows that it is made of.

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
    ) -> tuple[Tensor, Tensor | Packaged | None, Tensor | None]:
        rows = alive = None
        if left is not None:
            scores = by_map(value, self.numbers, tokens.mask)
            rows, alive = tokens.keep(scores, left, scores.softmax(1))
            query = gather(query.transpose(1, 2), rows).transpose(1, 2)
        if attention.position is None:
            return self.first(query, key, value, tokens, attention), rows, alive
        where = None if rows is None else positional.stand(tokens, rows)
        return positional.attend_from(where, query, key, value, tokens, attention, *extras), rows, alive

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
