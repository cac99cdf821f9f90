"""Where the rows of a batch lie in front of a layer, on the device."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Level"]


class Level(NamedTuple):
    """The rows of all texts, one behind the other. Only the sizes are known to the host.

    Args:
        ends: where each text begins, and the last one ends, [texts + 1] int32.
        kept: how many of each text's rows are word vectors of its own, [texts] int32; a row more is its package.
        rows: the most rows that there may be; those beyond the last text's hold anything.
        longest: the most rows that a text may have.
    """

    ends: Tensor
    kept: Tensor
    rows: int
    longest: int

    @property
    def texts(self) -> int:
        return len(self.kept)
