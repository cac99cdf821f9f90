"""The encoder's entry: how a batch is to lie inside."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, NamedTuple, NoReturn

import torch
from torch import Tensor, fx, nn

from ..errors import UnsupportedModelError
from ..retention import Retention
from .keep import CountRule
from .laid import lengths_laid
from .mask import lengths_of, real_rows
from .packed import Packed, Run
from .padded import Padded
from .protect import announced
from .rows import Entered, Tokens
from .significance import Selector, from_text, maps_on, received_attention
from .traced import Traced

__all__ = ["Enter", "Layout", "Read", "refuse_scripting", "refuse_tracing"]

PADDED_FIRST = (
    "An example of the batch is padded on the left or is padding alone, but position 0 is always kept: pad on the "
    "right (tokenizer.padding_side = 'right') and leave out empty examples."
)

Layout = Literal["auto", "packed", "padded"]
"""How a batch lies in memory inside the encoder.

``packed``: [1, rows, width], the real rows of all examples one behind the other, no padding at all. ``padded``: [batch,
tokens, width], shorter examples masked. ``auto``: packed on a CPU; on a card what :mod:`.graph.card` serves goes by its
engine, which pads nothing either; else padded. Under compilers and exporters every layout is the padded one.
"""


class Read(NamedTuple):
    """What is known of a batch before the first layer.

    Args:
        lengths: real tokens of each text.
        retention: that holds for it.
        protected: which rows are never dropped, [batch, tokens] bool, [rows] where the texts lie one behind the other;
            None where no rule names tokens.
        guarded: how many these are of each text.
        mask: [batch, tokens] bool, true on real rows; None where none was given.
        laid: whether the texts lie one behind the other.
    """

    lengths: tuple[int, ...]
    retention: Retention | None
    protected: Tensor | None
    guarded: tuple[int, ...] | None
    mask: Tensor | None
    laid: bool


class Enter(nn.Module):
    """Finds the real rows, and in the packed layout leaves out all others. Has no parameters.

    The retention enters here with each batch, and every layer reads it from there: one that is set while a batch is on
    its way is for the next. So does the selector.

    Args:
        layout: how the batch is to lie.
        origins: whether something behind asks where each row stood.
        retention: how many word vectors each layer keeps; may be set.
    """

    maps: Tensor | None  # for compilers and exporters; else the retention of a batch says them

    def __init__(self, layout: Layout = "padded", *, origins: bool = False, retention: Retention | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.origins = origins
        self.register_buffer("maps", None, persistent=False)
        self._kept: tuple[Retention | None, tuple[CountRule | None, ...]] = (None, ())
        self.retention = retention
        self.selector: Selector = received_attention

    @property
    def retention(self) -> Retention | None:
        """How many word vectors each layer keeps of the batches to come."""
        return self._kept[0]

    @retention.setter
    def retention(self, retention: Retention | None) -> None:
        layers = 0 if retention is None else len(retention.keep)
        if retention is None or not retention.linear:
            self.maps = None
        elif self.retention is None or retention.significance != self.retention.significance or self.maps is None:
            self.maps = from_text(retention.significance)
        # Both at once, for another thread may be reading.
        self._kept = (retention, tuple(CountRule.of(retention, layer) for layer in range(layers)))  # type: ignore[arg-type]

    @property
    def rules(self) -> tuple[CountRule | None, ...]:
        """The same as rules for compilers, one a layer; None where there is none."""
        return self._kept[1]

    def extra_repr(self) -> str:
        return f"layout={self.layout}" + ("" if self.retention is None else f", keep={self.retention.keep}")

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tokens]:
        """Find which rows are real.

        Args:
            hidden_states: [batch, tokens, width].
            attention_mask: as :func:`real_rows` reads it, or None when all are real.

        Returns:
            What the first layer gets, and which of its rows are alive.

        Raises:
            UnsupportedModelError: there is no example, the mask isn't one of padding, or position 0 of an example is
                padding (left padding, or an example of padding alone), where no real word vector is to be kept; or this
                is a trace that would make constants of counts.
        """
        refuse_tracing(hidden_states)
        if torch.compiler.is_compiling():
            return hidden_states, self._traced(hidden_states, attention_mask)
        read = self.read(hidden_states, attention_mask)
        if read.laid:
            return self._pack_laid(hidden_states, read)
        batch, width = hidden_states.shape[:2]
        mask = read.mask if min(read.lengths) < width else None
        entered = self._entered(batch, width, read.retention, hidden_states.device)
        tokens = Padded(mask, read.lengths, read.lengths, entered, read.protected, read.guarded)
        if self.layout == "packed" or (self.layout == "auto" and hidden_states.device.type == "cpu"):
            return self._pack(hidden_states, tokens)
        return hidden_states, tokens._replace(origin=self._origin(hidden_states, mask))

    def read(self, hidden_states: Tensor, attention_mask: Tensor | None) -> Read:
        """What is known of a batch before the first layer; once a batch. It raises what :meth:`forward` does."""
        retention, protected = announced(self) or (self.retention, None)
        if protected is None and retention is not None and retention.protects_by_token:
            raise UnsupportedModelError(
                "The retention protects tokens, but the encoder isn't told which: call the model, not its encoder."
            )
        batch, width = hidden_states.shape[:2]
        if batch == 0 or width == 0:
            raise UnsupportedModelError(f"The batch holds no {'token' if batch else 'example'}: leave it out.")
        laid = lengths_laid()
        if laid is not None:
            guarded = None if protected is None else tuple(int(part.sum()) for part in protected.split(laid))
            return Read(laid, retention, protected, guarded, None, True)
        mask, lengths = None, (width,) * batch
        if attention_mask is not None:
            mask = real_rows(attention_mask)
            if mask.shape != (batch, width):
                shape, given = f"[{batch}, {width}]", list(mask.shape)
                raise UnsupportedModelError(
                    f"The attention mask is {given}, but the tokens are {shape}: make them alike."
                )
            lengths = lengths_of(mask)
        guarded = None if protected is None else tuple(protected.sum(1).tolist())
        return Read(lengths, retention, protected, guarded, mask, False)

    def _pack(self, hidden_states: Tensor, tokens: Padded) -> tuple[Tensor, Packed]:
        (batch, width), device = hidden_states.shape[:2], hidden_states.device
        order, runs, places = _in_runs(tokens.lengths, tokens.guarded, device)
        values = (hidden_states, tokens.protected, self._origin(hidden_states, None))
        packed, protected, origin = (None if each is None else each.flatten(0, 1) for each in values)
        assert packed is not None
        if tokens.mask is not None or len(runs) > 1:
            rows = torch.arange(batch * width, device=device).view(batch, width)[order]
            rows = rows.flatten() if tokens.mask is None else rows[tokens.mask[order]]
            packed = packed.index_select(0, rows)
            protected = None if protected is None else protected.index_select(0, rows)
            origin = None if origin is None else rows
        return packed[None], Packed(runs, places, tokens.entered, protected, origin)

    def _pack_laid(self, hidden_states: Tensor, read: Read) -> tuple[Tensor, Packed]:
        """Rows [1, rows, width] of texts that lie one behind the other."""
        lengths, protected = read.lengths, read.protected
        device, longest = hidden_states.device, max(lengths)
        _, runs, places = _in_runs(lengths, read.guarded, device)
        counts = torch.tensor(lengths, device=device)
        rows = None if len(runs) == 1 else places.repeat_interleave(counts).argsort(stable=True)
        origin = None
        if self.origins:
            starts = counts.cumsum(0) - counts
            ahead = torch.arange(len(lengths), device=device) * longest - starts  # of where its text lies
            origin = torch.arange(hidden_states.shape[1], device=device) + ahead.repeat_interleave(counts)
        if rows is not None:
            hidden_states = hidden_states.index_select(1, rows)
            protected, origin = (None if flag is None else flag.index_select(0, rows) for flag in (protected, origin))
        entered = self._entered(len(lengths), longest, read.retention, device)
        return hidden_states, Packed(runs, places, entered, protected, origin)

    def _traced(self, hidden_states: Tensor, attention_mask: Tensor | None) -> Traced:
        (retention, rules), selector = self._kept, self.selector
        if retention is not None and retention.protects_by_token:
            raise UnsupportedModelError(
                "A retention that protects tokens can't be compiled or exported, for the text decides how many rows "
                "are left: leave only 'first' and 'first:N' in its protect."
            )
        if selector is not received_attention:
            raise UnsupportedModelError(
                f"The selector {getattr(selector, '__name__', selector)!r} can't be compiled or exported: set the "
                "encoder's selector back to received_attention."
            )
        batch, width = hidden_states.shape[:2]
        if attention_mask is None:
            mask = torch.ones((batch, width), dtype=torch.bool, device=hidden_states.device)
        else:
            mask = real_rows(attention_mask)
        torch._assert_async(mask[:, 0].all(), PADDED_FIRST)
        origin = self._origin(hidden_states, mask)
        return Traced(mask, mask.sum(1), rules, Entered(batch, width, retention, maps=self.maps), origin)

    def _entered(self, batch: int, width: int, retention: Retention | None, device: torch.device) -> Entered:
        linear = retention is not None and retention.linear
        maps = maps_on(retention.significance, device) if linear else None  # type: ignore[union-attr]
        return Entered(batch, width, retention, self.selector, maps)

    def _apply(self, *args: Any, **options: Any) -> Any:
        """Move with the model, but never to fewer bits."""
        moved = super()._apply(*args, **options)  # type: ignore[no-untyped-call]
        if self.maps is not None and self.retention is not None and self.maps.dtype != torch.float32:
            self.maps = from_text(self.retention.significance).to(self.maps.device)
        return moved

    def _origin(self, hidden_states: Tensor, mask: Tensor | None) -> Tensor | None:
        if not self.origins:
            return None
        batch, width = hidden_states.shape[:2]
        rows = torch.arange(batch * width, device=hidden_states.device).view(batch, width)
        return rows if mask is None else torch.where(mask, rows, batch * width)


def _in_runs(
    lengths: tuple[int, ...], guarded: tuple[int, ...] | None, device: torch.device
) -> tuple[list[int], tuple[Run, ...], Tensor]:
    """Texts from long to short: their order, those that are alike, and where each lies then, [texts]."""
    kinds = list(zip(lengths, guarded or (0,) * len(lengths), strict=True))
    order = sorted(range(len(kinds)), key=kinds.__getitem__, reverse=True)
    runs = tuple(Run(times, n, n, fixed) for (n, fixed), times in sorted(Counter(kinds).items(), reverse=True))
    return order, runs, torch.tensor(sorted(range(len(kinds)), key=order.__getitem__), device=device)


def refuse_tracing(*values: Any) -> None:
    """Refuse a trace, which makes constants of one batch's counts: UnsupportedModelError."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if tracing or any(isinstance(value, fx.Proxy) for value in values):
        refuse_scripting()


def refuse_scripting() -> NoReturn:
    """Say what there is in place of a script or a trace: UnsupportedModelError."""
    raise UnsupportedModelError(
        "A compressed model, whose counts follow each batch, can't be scripted or traced by torch.jit, torch.fx or "
        "torch.onnx.export(dynamo=False): write a program with wordelim export, or use torch.export."
    )
