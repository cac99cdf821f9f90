"""Word vectors that are alive as padded texts: as models are given them, and as compilers and exporters see them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import RetentionError
from .keep import CountRule, highest, shares_of
from .rows import Entered, gather, on_device, text_rows

__all__ = ["Packaged", "Padded", "Traced"]


class Packaged(NamedTuple):
    """Rows that are kept of padded texts, and behind them a package of all others.

    Args:
        rows: [batch, kept], for each text.
        shares: [batch, tokens] fp32, what each row is of its text's package.
    """

    rows: Tensor
    shares: Tensor

    @property
    def of_text(self) -> Tensor:
        return self.rows

    def of(self, values: Tensor) -> Tensor:
        """Of [batch, tokens, ...]: [batch, kept + 1, ...]."""
        package = self.shares[:, None].to(values.dtype) @ values.flatten(2)
        return torch.cat([gather(values, self.rows), package.view(values.shape[0], 1, *values.shape[2:])], 1)


class Padded(NamedTuple):
    """[batch, tokens, ...], shorter texts masked. Counts are known on the host: no layer waits for the device.

    Args:
        mask: [batch, tokens] bool, true on real rows; None when every row is real. Behind soft extraction fp32: what is
            added to the scores of a key.
        lengths: real word vectors of each text when it entered the encoder.
        counts: word vectors of each text that are alive now.
        protected: which rows are never dropped, [batch, tokens] bool; None where no rule names tokens.
        guarded: how many these are of each text; None where no rule names tokens.
        origin: [batch, tokens].
        package: whether the last row of each text is its package, which isn't counted; masked where it has none yet.
    """

    mask: Tensor | None
    lengths: tuple[int, ...]
    counts: tuple[int, ...]
    entered: Entered
    protected: Tensor | None = None
    guarded: tuple[int, ...] | None = None
    origin: Tensor | None = None
    package: bool = False

    def left(self, layer: int) -> tuple[int, ...] | None:
        """Of each text."""
        kinds = list(zip(self.lengths, self.counts, self.guarded or (0,) * len(self.counts), strict=True))
        kept = {kind: self.entered.kept.count(layer, *kind) for kind in set(kinds)}
        left = tuple(kept[kind] for kind in kinds)
        return None if left == self.counts else left

    def keep(
        self, significance: Tensor, left: tuple[int, ...], weights: Tensor | None = None
    ) -> tuple[Tensor | Packaged, Tensor | None]:
        """:func:`highest` of so many, with packages where the retention wants them.

        Args:
            weights: [batch, tokens] of rows in packages; None for the significance itself.
        """
        most = max(left)
        limit = None if min(left) == most else on_device(list(left), significance.device)
        return _highest(self, significance, most, limit, self.protected, weights)

    def take(self, rows: Any, left: tuple[int, ...], alive: Tensor | None) -> Padded:
        if rows is None:
            return self
        rows, package = text_rows(rows), isinstance(rows, Packaged)
        some = [kept < length for kept, length in zip(left, self.lengths, strict=True)]
        packed = None if not package or all(some) else on_device(some, rows.device)
        protected, origin, alive = _all_taken(self, rows, alive, packed, package)
        return self._replace(mask=alive, counts=left, protected=protected, origin=origin, package=package)

    def cut(self) -> Padded:
        return Padded(None, self.lengths, (1,) * len(self.lengths), self.entered)

    def starts(self, device: torch.device) -> Tensor:
        return torch.zeros(self.entered.batch, 1, dtype=torch.long, device=device)

    def first(self, values: Tensor) -> Tensor:
        return values[:, :1]

    def positions(self) -> Tensor:
        assert self.origin is not None
        return self.origin % self.entered.width

    def mean(self, hidden_states: Tensor) -> Tensor:
        return _mean(hidden_states, self.mask)

    def leave(self, hidden_states: Tensor) -> Tensor:
        return hidden_states


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
        self, significance: Tensor, left: CountRule, weights: Tensor | None = None
    ) -> tuple[Tensor | Packaged, Tensor | None]:
        """As of :class:`Padded`."""
        most, limit = left.width(self.entered.width), left.counts(self.lengths)
        return _highest(self, significance, most, limit, None, weights)

    def take(self, rows: Any, left: CountRule, alive: Tensor | None) -> Traced:
        if rows is None:
            return self
        rows, package = text_rows(rows), isinstance(rows, Packaged)
        some = left.counts(self.lengths) < self.lengths if package else None
        _, origin, mask = _all_taken(self, rows, alive, some, package)
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
        return _mean(hidden_states, self.mask)

    def leave(self, hidden_states: Tensor) -> Tensor:
        return hidden_states


def _highest(
    tokens: Padded | Traced,
    significance: Tensor,
    most: Any,
    limit: Tensor | None,
    protected: Tensor | None,
    weights: Tensor | None,
) -> tuple[Tensor | Packaged, Tensor | None]:
    """:func:`highest` of the rows that aren't packages, and what the new packages are made of."""
    parts, fixed = (significance, tokens.mask, protected), tokens.entered.kept.protected_first
    own, mask, guarded = ((part if part is None or not tokens.package else part[:, :-1]) for part in parts)
    assert own is not None
    rows, alive = highest(own, most, fixed, limit=limit, mask=mask, protected=guarded)
    if not tokens.entered.kept.package:
        return rows, alive
    return Packaged(rows, shares_of(significance if weights is None else weights, rows, alive, tokens.mask)), alive


def _all_taken(
    tokens: Padded | Traced, rows: Tensor, alive: Tensor | None, some: Tensor | None, package: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """What is protected, where it stood, and what is real, when some rows are kept; behind them perhaps packages.

    Args:
        some: [batch] bool, which texts have a package; None when all do.
    """
    beyond = tokens.entered.batch * tokens.entered.width
    protected, origin = _taken(tokens.protected, rows, alive, False), _taken(tokens.origin, rows, alive, beyond)
    if package:
        # Added and not padded with, which would make a constant of the first batch's size where a graph is traced.
        protected, origin = (
            None if each is None else torch.cat([each, torch.zeros_like(each[:, :1]) + value], 1)
            for each, value in ((protected, False), (origin, beyond))
        )
        if some is not None or alive is not None:
            alive = torch.ones_like(rows, dtype=torch.bool) if alive is None else alive
            last = torch.ones_like(alive[:, :1]) if some is None else some[:, None]
            alive = torch.cat([alive, last], 1)
    return protected, origin, alive


def _taken(values: Tensor | None, rows: Tensor, alive: Tensor | None, beyond: bool | int) -> Tensor | None:
    """Of [batch, tokens] values those of ``rows``, and ``beyond`` where a row isn't alive."""
    if values is None:
        return None
    taken = values.gather(1, rows)
    return taken if alive is None else torch.where(alive, taken, beyond)


def _mean(hidden_states: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return hidden_states.mean(1)
    real = mask[..., None].to(hidden_states.dtype)
    return (hidden_states * real).sum(1) / real.sum(1)
