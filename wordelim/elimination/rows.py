"""Which rows of a batch are alive: the protocol that the layouts in :mod:`.padded` and :mod:`.packed` share."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..retention import Retention
from .significance import Selector, received_attention

__all__ = [
    "Entered",
    "Kept",
    "Tokens",
    "first_rows",
    "gather",
    "leave",
    "on_device",
    "text_rows",
]


class Entered(NamedTuple):
    """What holds for a batch since it entered, whatever is set meanwhile.

    Args:
        batch, width: texts and tokens of it.
        retention: how many word vectors each layer keeps; None where no layer asks.
        selector: what decides which.
        maps: of the retention, [layers, heads * head size], where these decide.
    """

    batch: int
    width: int
    retention: Retention | None = None
    selector: Selector = received_attention
    maps: Tensor | None = None

    @property
    def kept(self) -> Retention:
        """The retention, which every batch has that an eliminating layer is given."""
        assert self.retention is not None
        return self.retention

    @property
    def by_attention(self) -> bool:
        """Whether received attention decides, for which there are ways to compute of its own."""
        return self.selector is received_attention

    def map_of(self, layer: int) -> Tensor | None:
        """The linear map that decides at a layer, where one does."""
        return self.maps[layer] if self.maps is not None and self.by_attention else None


class Kept(Protocol):
    """Rows that are kept and packages, in a form of the layout's own."""

    @property
    def of_text(self) -> Tensor:
        """The rows that are kept as they are."""

    def of(self, values: Tensor) -> Tensor:
        """What is kept of values, packages in their places."""


class Tokens(Protocol):
    """The word vectors of a batch that are alive, however they lie: padded, traced or packed.

    Each is a named tuple. "origin" says where each row stood when it entered, as its place among the batch * width of
    the batch, and batch * width for a row that isn't real; it is None where nothing asks.
    """

    @property
    def entered(self) -> Entered: ...
    @property
    def origin(self) -> Tensor | None: ...

    def left(self, layer: int) -> Any:
        """How many word vectors leave a layer, in a form of the layout's own; None when it drops nothing."""

    def take(self, rows: Any, left: Any, alive: Tensor | None) -> Self:
        """What is alive when ``rows`` alone are kept (None for all), of which ``alive`` are real (None for all).

        ``rows`` may be :class:`Kept`, with packages, of which ``alive`` doesn't tell.
        """

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


def text_rows(rows: Tensor | Kept) -> Tensor:
    """Of what was kept the rows that aren't packages."""
    return rows if isinstance(rows, Tensor) else rows.of_text


def gather(values: Tensor, rows: Tensor | Kept | None) -> Tensor:
    """The rows that were kept, and packages; all of them when ``rows`` is None.

    Args:
        values: [batch, tokens, ...].
        rows: [batch, kept], for each text; packed: [kept], of all; with packages in a form of their own.
    """
    if rows is None:
        return values
    if not isinstance(rows, Tensor):
        return rows.of(values)
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


def on_device(numbers: list[Any] | NDArray[Any], device: torch.device) -> Tensor:
    """Whole numbers known on the host as a tensor; on a GPU the host doesn't wait until they are there."""
    if device.type == "cuda":
        return torch.tensor(numbers, pin_memory=True).to(device, non_blocking=True)
    return torch.tensor(numbers, device=device)
