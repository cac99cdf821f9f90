"""Word vectors that are alive as padded texts, as models are given them."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .keep import highest, shares_of
from .rows import Entered, gather, on_device, text_rows

__all__ = ["Packaged", "Padded", "all_taken", "highest_rows", "mean_rows"]


class _OfPadded(Protocol):
    """What :class:`Padded` and :class:`.traced.Traced` have in common."""

    @property
    def mask(self) -> Tensor | None: ...
    @property
    def entered(self) -> Entered: ...
    @property
    def protected(self) -> Tensor | None: ...
    @property
    def origin(self) -> Tensor | None: ...
    @property
    def package(self) -> bool: ...


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
        self, significance: Tensor, left: tuple[int, ...], *, log: bool = False
    ) -> tuple[Tensor | Packaged, Tensor | None]:
        """:func:`highest` of so many, with packages where the retention wants them.

        Args:
            log: as in :func:`shares_of`.
        """
        most = max(left)
        limit = None if min(left) == most else on_device(list(left), significance.device)
        return highest_rows(self, significance, most, limit, self.protected, log)

    def take(self, rows: Any, left: tuple[int, ...], alive: Tensor | None) -> Padded:
        if rows is None:
            return self
        rows, package = text_rows(rows), isinstance(rows, Packaged)
        some = [kept < length for kept, length in zip(left, self.lengths, strict=True)]
        packed = None if not package or all(some) else on_device(some, rows.device)
        protected, origin, alive = all_taken(self, rows, alive, packed, package)
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
        return mean_rows(hidden_states, self.mask)

    def leave(self, hidden_states: Tensor) -> Tensor:
        return hidden_states


def highest_rows(
    tokens: _OfPadded,
    significance: Tensor,
    most: Any,
    limit: Tensor | None,
    protected: Tensor | None,
    log: bool,
) -> tuple[Tensor | Packaged, Tensor | None]:
    """:func:`highest` of the rows that aren't packages, and what the new packages are made of."""
    parts, fixed = (significance, tokens.mask, protected), tokens.entered.kept.protected_first
    own, mask, guarded = ((part if part is None or not tokens.package else part[:, :-1]) for part in parts)
    assert own is not None
    rows, alive = highest(own, most, fixed, limit=limit, mask=mask, protected=guarded)
    if not tokens.entered.kept.package:
        return rows, alive
    return Packaged(rows, shares_of(significance, rows, alive, tokens.mask, log=log)), alive


def all_taken(
    tokens: _OfPadded, rows: Tensor, alive: Tensor | None, some: Tensor | None, package: bool
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


def mean_rows(hidden_states: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return hidden_states.mean(1)
    real = mask[..., None].to(hidden_states.dtype)
    return (hidden_states * real).sum(1) / real.sum(1)
