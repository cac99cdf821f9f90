"""Word vectors that are alive as padded texts, as compilers and exporters see them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import RetentionError
from .keep import CountRule
from .padded import Packaged, all_taken, highest_rows, mean_rows
from .rows import Entered, text_rows

__all__ = ["Traced"]


class Traced(NamedTuple):
    """As :class:`Padded`, for compilers and exporters: shapes follow the width, and nothing is known on the host.

    What leaves a layer is as wide as a text that fills the whole width would be; shorter texts are masked.

    Args:
        mask: [batch, tokens] bool, true on real rows.
        lengths: [batch], real word vectors of each text when it entered the encoder.
        rules: how many word vectors leave each layer; None where no rule says it.
        origin: [batch, tokens].
        package: as of :class:`Padded`.
    """

    mask: Tensor
    lengths: Tensor
    rules: tuple[CountRule | None, ...]
    entered: Entered
    origin: Tensor | None = None
    package: bool = False

    def left(self, layer: int) -> CountRule | None:
        """As a rule; RetentionError where there is none."""
        rule = self.rules[layer]
        if rule is None:
            raise RetentionError(
                f"keep[{layer}] = {self.entered.kept.keep[layer]!r} can't be compiled or exported, for no "
                "fraction of small whole numbers rounds as it does: round it to six digits."
            )
        return rule if rule.drops else None

    @property
    def protected(self) -> None:
        """Nothing: rules that name tokens aren't served."""

    def keep(
        self, significance: Tensor, left: CountRule, *, log: bool = False
    ) -> tuple[Tensor | Packaged, Tensor | None]:
        """As of :class:`Padded`."""
        most, limit = left.width(self.entered.width), left.counts(self.lengths)
        return highest_rows(self, significance, most, limit, None, log)

    def take(self, rows: Any, left: CountRule, alive: Tensor | None) -> Traced:
        if rows is None:
            return self
        rows, package = text_rows(rows), isinstance(rows, Packaged)
        some = left.counts(self.lengths) < self.lengths if package else None
        _, origin, mask = all_taken(self, rows, alive, some, package)
        assert mask is not None
        return self._replace(mask=mask, origin=origin, package=package)

    def cut(self) -> Traced:
        return self._replace(mask=self.mask[:, :1], origin=None, package=False)

    def starts(self, device: torch.device) -> Tensor:
        return torch.zeros(self.entered.batch, 1, dtype=torch.long, device=device)

    def first(self, values: Tensor) -> Tensor:
        return values[:, :1]

    def positions(self) -> Tensor:
        assert self.origin is not None
        # A remainder by a number that isn't known yet can't be exported; by a tensor it can.
        return self.origin % torch.full((), self.entered.width, dtype=self.origin.dtype, device=self.origin.device)

    def mean(self, hidden_states: Tensor) -> Tensor:
        return mean_rows(hidden_states, self.mask)

    def leave(self, hidden_states: Tensor) -> Tensor:
        return hidden_states
