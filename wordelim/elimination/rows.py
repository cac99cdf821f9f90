"""Which rows of a batch are word vectors that are alive, in layouts of one protocol; :mod:`.packed` has the third."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from ..errors import RetentionError
from ..retention import Retention
from .keep import CountRule, highest
from .significance import Selector, received_attention

__all__ = ["Entered", "Padded", "Tokens", "Traced", "first_rows", "gather", "leave", "on_device"]


class Entered(NamedTuple):
    """What holds for a batch since it entered, whatever is set meanwhile.

    Args:
        batch, width: texts and tokens of it.
        retention: how many word vectors each layer keeps; None where no layer asks.
        selector: what decides which.
    """

    batch: int
    width: int
    retention: Retention | None = None
    selector: Selector = received_attention

    @property
    def kept(self) -> Retention:
        """The retention, which every batch has that an eliminating layer is given."""
        assert self.retention is not None
        return self.retention

    @property
    def by_attention(self) -> bool:
        """Whether received attention decides, for which there are ways to compute of its own."""
        return self.selector is received_attention


class Tokens(Protocol):
    """The word vectors of a batch that are alive, however they lie: :class:`Padded`, :class:`Traced` or packed.

    Each is a named tuple. "origin" says where each row stood when it entered, as its place among the batch * width of
    the batch, and batch * width for a row that isn't real; it is None where nothing asks.
    """

    @property
    def entered(self) -> Entered: ...
    @property
    def origin(self) -> Tensor | None: ...

    def left(self, layer: int) -> Any:
        """How many word vectors leave a layer, in a form of the layout's own; None when it drops nothing."""

    def take(self, rows: Tensor | None, left: Any, alive: Tensor | None) -> Self:
        """What is alive when ``rows`` alone are kept (None for all), of which ``alive`` are real (None for all)."""

    def cut(self) -> Self:
        """What is alive when the first row of each text alone is kept."""

    def starts(self, device: torch.device) -> Tensor:
        """Which rows are the first of each text, as :func:`gather` takes them."""

    def first(self, values: Tensor) -> Tensor:
        """Each text's first row."""

    def positions(self) -> Tensor:
        """Where each row stood in its own text; of the shape of "origin"."""

    def mean(self, hidden_states: Tensor) -> Tensor:
        """The mean of each text's rows [batch, width], in the batch's order."""

    def leave(self, hidden_states: Tensor) -> Tensor:
        """All rows as [batch, rows, width], in the batch's order; missing ones are zeros."""


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
    """

    mask: Tensor | None
    lengths: tuple[int, ...]
    counts: tuple[int, ...]
    entered: Entered
    protected: Tensor | None = None
    guarded: tuple[int, ...] | None = None
    origin: Tensor | None = None

    def left(self, layer: int) -> tuple[int, ...] | None:
        """Of each text."""
        kinds = list(zip(self.lengths, self.counts, self.guarded or (0,) * len(self.counts), strict=True))
        kept = {kind: self.entered.kept.count(layer, *kind) for kind in set(kinds)}
        left = tuple(kept[kind] for kind in kinds)
        return None if left == self.counts else left

    def keep(self, significance: Tensor, left: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """:func:`highest` of so many."""
        most = max(left)
        limit = None if min(left) == most else on_device(list(left), significance.device)
        first = self.entered.kept.protected_first
        return highest(significance, most, first, limit=limit, mask=self.mask, protected=self.protected)

    def take(self, rows: Tensor | None, left: tuple[int, ...], alive: Tensor | None) -> Padded:
        if rows is None:
            return self
        protected = _taken(self.protected, rows, alive, False)
        origin = _taken(self.origin, rows, alive, self.entered.batch * self.entered.width)
        return self._replace(mask=alive, counts=left, protected=protected, origin=origin)

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
    """

    mask: Tensor
    lengths: Tensor
    rules: tuple[CountRule | None, ...]
    entered: Entered
    origin: Tensor | None = None

    def left(self, layer: int) -> CountRule | None:
        """As a rule; RetentionError where there is none."""
        rule = self.rules[layer]
        if rule is None:
            raise RetentionError(
                f"keep[{layer}] = {self.entered.kept.keep[layer]!r} can't be compiled or exported, for no "
                "fraction of small whole numbers rounds as it does: round it to six digits."
            )
        return rule if rule.drops else None

    def keep(self, significance: Tensor, left: CountRule) -> tuple[Tensor, Tensor | None]:
        """:func:`highest` of so many."""
        most, limit = left.width(self.entered.width), left.counts(self.lengths)
        return highest(significance, most, self.entered.kept.protected_first, limit=limit, mask=self.mask)

    def take(self, rows: Tensor | None, left: CountRule, alive: Tensor | None) -> Traced:
        if rows is None or alive is None:
            return self
        origin = _taken(self.origin, rows, alive, self.entered.batch * self.entered.width)
        return self._replace(mask=alive, origin=origin)

    def cut(self) -> Traced:
        return self._replace(mask=self.mask[:, :1], origin=None)

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


def gather(values: Tensor, rows: Tensor | None) -> Tensor:
    """The rows that were kept; all of them when ``rows`` is None.

    Args:
        values: [batch, tokens, ...].
        rows: [batch, kept], for each text; packed: [kept], of all.
    """
    if rows is None:
        return values
    if rows.dim() == 1:
        return values.index_select(1, rows)
    batch, tokens = values.shape[:2]
    start = torch.arange(batch, device=rows.device) * tokens
    kept = values.flatten(0, 1).index_select(0, (rows + start[:, None]).flatten())
    return kept.view(*rows.shape, *values.shape[2:])


def first_rows(values: Tensor, tokens: Tokens) -> Tensor:
    """Each text's first row, as a graph asks for it: padded [batch, 1, ...], packed [1, batch, ...]."""
    return tokens.first(values)


def leave(hidden_states: Tensor, tokens: Tokens) -> Tensor:
    """The encoder's exit, as a graph asks for it: what is alive as [batch, rows, width], in the batch's order."""
    return tokens.leave(hidden_states)


def on_device(numbers: list[Any], device: torch.device) -> Tensor:
    """Whole numbers known on the host as a tensor; on a GPU the host doesn't wait until they are there."""
    if device.type == "cuda":
        return torch.tensor(numbers, pin_memory=True).to(device, non_blocking=True)
    return torch.tensor(numbers, device=device)


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
