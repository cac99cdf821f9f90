"""Which rows of a batch are real word vectors, in two layouts."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, NamedTuple, NoReturn

import torch
from torch import Tensor, fx, nn

from ..errors import UnsupportedModelError
from ..retention import Retention
from .keep import CountRule
from .mask import real_rows
from .protect import announced

__all__ = [
    "Enter",
    "Layout",
    "Run",
    "Symbolic",
    "Tokens",
    "first_rows",
    "follow",
    "gather",
    "leave",
    "on_device",
    "refuse_scripting",
    "refuse_tracing",
    "run_starts",
]

PADDED_FIRST = (
    "An example of the batch is padded on the left or is padding alone, but position 0 is always kept: pad on the "
    "right (tokenizer.padding_side = 'right') and leave out empty examples."
)

Layout = Literal["auto", "packed", "padded"]
"""How a batch lies in memory inside the encoder.

``packed``: [1, rows, width], the real rows of all examples one behind the other, no padding at all. ``padded``: [batch,
tokens, width], shorter examples masked. ``auto``: packed on a CPU, padded elsewhere. Under compilers and exporters
every layout is the padded one.
"""


class Run(NamedTuple):
    """Examples of equal length that lie one behind the other in the packed layout.

    Args:
        examples: how many.
        length: real word vectors of each when it entered the encoder.
        alive: word vectors of each that are alive now.
        protected: word vectors of each that are never dropped, where rules name tokens.
    """

    examples: int
    length: int
    alive: int
    protected: int = 0


class Symbolic(NamedTuple):
    """What compilers and exporters are given in place of numbers on the host.

    Args:
        lengths: [batch], real word vectors of each example when it entered the encoder.
        width: of the batch then.
        rules: how many word vectors leave each layer; None where no rule says it.
    """

    lengths: Tensor
    width: int
    rules: tuple[CountRule | None, ...]


class Tokens(NamedTuple):
    """The word vectors of a batch that are still alive. Counts are known on the host: no layer waits for the device.

    Args:
        mask: padded layout: [batch, tokens] bool, true on real rows; None when every row is real. Behind soft
            extraction fp32: what is added to the scores of a key.
        lengths: padded layout: real word vectors of each example when it entered the encoder.
        counts: padded layout: word vectors of each example that are alive now.
        runs: packed layout: the examples in the order in which they lie; None in the padded layout.
        places: packed layout: [batch], where each example of the batch lies among the packed ones.
        symbolic: padded layout under compilers and exporters, where nothing is known on the host; lengths and counts
            are empty.
        origin: where each row that is alive stood when it entered, as its place among the batch * tokens of the batch;
            batch * tokens for a row that is not real. Padded [batch, rows], packed [rows]. None where nothing asks.
        entered: batch and tokens of the batch as it entered. None where nothing asks.
        protected: which rows are never dropped, padded [batch, rows] bool, packed [rows] bool; None where no rule names
            tokens.
        guarded: padded layout: how many rows of each example are protected; None where no rule names tokens.
        retention: how many word vectors each layer keeps of this batch, as it was when the batch entered.
    """

    mask: Tensor | None
    lengths: tuple[int, ...]
    counts: tuple[int, ...]
    runs: tuple[Run, ...] | None = None
    places: Tensor | None = None
    symbolic: Symbolic | None = None
    origin: Tensor | None = None
    entered: tuple[int, int] | None = None
    protected: Tensor | None = None
    guarded: tuple[int, ...] | None = None
    retention: Retention | None = None

    @property
    def kept(self) -> Retention:
        """The retention, which every batch has that an eliminating layer is given."""
        assert self.retention is not None
        return self.retention


class Enter(nn.Module):
    """The encoder's entry: finds the real rows, and in the packed layout leaves out all others. Has no parameters.

    The retention enters here with each batch, and every layer reads it from there: one that is set while a batch is on
    its way is for the next.

    Args:
        layout: how the batch is to lie.
        origins: whether something behind asks where each row stood.
        retention: how many word vectors each layer keeps; may be set.
    """

    def __init__(self, layout: Layout = "padded", *, origins: bool = False, retention: Retention | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.origins = origins
        self.retention = retention

    @property
    def retention(self) -> Retention | None:
        """How many word vectors each layer keeps of the batches to come."""
        return self._kept[0]

    @retention.setter
    def retention(self, retention: Retention | None) -> None:
        layers = 0 if retention is None else len(retention.keep)
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
            UnsupportedModelError: the mask isn't one of padding, or position 0 of an example is padding (left padding,
                or an example of padding alone), where no real word vector is to be kept; or this is a trace that would
                make constants of counts.
        """
        batch, width = hidden_states.shape[:2]
        refuse_tracing(hidden_states)
        if torch.compiler.is_compiling():
            return hidden_states, self._symbolic(hidden_states, attention_mask)
        mask, lengths = None, (width,) * batch
        if attention_mask is not None:
            mask = real_rows(attention_mask)
            lengths = tuple(_lengths(mask))
            mask = mask if min(lengths) < width else None
        device, packs = hidden_states.device, self._packs(hidden_states)
        retention, protected = announced(self) or (self.retention, None)
        if protected is None and retention is not None and retention.protects_by_token:
            raise UnsupportedModelError(
                "The retention protects tokens, but the encoder isn't told which: call the model, not its encoder."
            )
        guarded = None if protected is None else tuple(protected.sum(1).tolist())
        kinds = list(zip(lengths, guarded or (0,) * batch, strict=True))
        alike = mask is None and len(set(kinds)) == 1
        extras: dict[str, Any] = {
            "entered": (batch, width) if self.origins else None,
            "protected": protected,
            "retention": retention,
        }
        rows = None
        if self.origins or (packs and not alike):
            rows = torch.arange(batch * width, device=device).view(batch, width)
        if not packs:
            origin = rows if rows is None or mask is None else torch.where(mask, rows, batch * width)
            return hidden_states, Tokens(mask, lengths, lengths, origin=origin, guarded=guarded, **extras)
        order = sorted(range(batch), key=kinds.__getitem__, reverse=True)
        runs = tuple(Run(times, n, n, fixed) for (n, fixed), times in sorted(Counter(kinds).items(), reverse=True))
        places = torch.tensor(sorted(range(batch), key=order.__getitem__), device=device)
        if rows is not None:
            rows = rows[order].flatten() if mask is None else rows[order][mask[order]]
        if protected is not None:
            protected = protected.flatten()
            extras["protected"] = protected if rows is None else protected.index_select(0, rows)
        packed = hidden_states.flatten(0, 1)
        packed = packed if alike or rows is None else packed.index_select(0, rows)
        origin = rows if self.origins else None
        return packed[None], Tokens(None, (), (), runs, places, origin=origin, **extras)

    def _symbolic(self, hidden_states: Tensor, attention_mask: Tensor | None) -> Tokens:
        retention, rules = self._kept
        if retention is not None and retention.protects_by_token:
            raise UnsupportedModelError(
                "A retention that protects tokens can't be compiled or exported, for the text decides how many rows "
                "are left: leave only 'first' and 'first:N' in its protect."
            )
        batch, width = hidden_states.shape[:2]
        if attention_mask is None:
            mask = torch.ones((batch, width), dtype=torch.bool, device=hidden_states.device)
        else:
            mask = real_rows(attention_mask)
        torch._assert_async(mask[:, 0].all(), PADDED_FIRST)
        tokens = Tokens(mask, (), (), symbolic=Symbolic(mask.sum(1), width, rules), retention=retention)
        if not self.origins:
            return tokens
        rows = torch.arange(batch * width, device=hidden_states.device).view(batch, width)
        return tokens._replace(origin=torch.where(mask, rows, batch * width), entered=(batch, width))

    def _packs(self, hidden_states: Tensor) -> bool:
        if self.layout != "auto":
            return self.layout == "packed"
        return hidden_states.device.type == "cpu"


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


def _lengths(mask: Tensor) -> list[int]:
    lengths, first = torch.stack((mask.sum(1), mask[:, 0])).tolist()
    if not all(first):
        row = first.index(0)
        what = "is padding alone" if lengths[row] == 0 else "is padded on the left"
        raise UnsupportedModelError(
            f"Example {row} of the batch {what}, but position 0 is always kept: pad on the right "
            "(tokenizer.padding_side = 'right') and leave out empty examples."
        )
    return list(lengths)


def gather(values: Tensor, rows: Tensor | None) -> Tensor:
    """The rows that were kept; all of them when ``rows`` is None.

    Args:
        values: [batch, tokens, ...].
        rows: padded layout: [batch, kept], for each example; packed layout: [kept], of all.
    """
    if rows is None:
        return values
    if rows.dim() == 1:
        return values.index_select(1, rows)
    batch, tokens = values.shape[:2]
    start = torch.arange(batch, device=rows.device) * tokens
    kept = values.flatten(0, 1).index_select(0, (rows + start[:, None]).flatten())
    return kept.view(*rows.shape, *values.shape[2:])


def follow(alive: Tokens, before: Tokens, rows: Tensor | None) -> Tokens:
    """What is alive, with the origin of each row that it had ``before`` all but ``rows`` were dropped."""
    origin = before.origin
    if origin is None or before.entered is None or rows is None:
        return alive._replace(origin=origin, entered=before.entered)
    if rows.dim() == 1:
        return alive._replace(origin=origin.index_select(0, rows), entered=before.entered)
    origin = origin.gather(1, rows)
    if alive.mask is not None:
        origin = torch.where(alive.mask, origin, before.entered[0] * before.entered[1])
    return alive._replace(origin=origin, entered=before.entered)


def first_rows(values: Tensor, tokens: Tokens) -> Tensor:
    """Each example's first row: padded [batch, 1, ...], packed [1, batch, ...]."""
    if tokens.runs is None:
        return values[:, :1]
    return values.index_select(1, run_starts(tokens.runs, values.device))


def run_starts(runs: tuple[Run, ...], device: torch.device) -> Tensor:
    """Where each packed example begins, [batch]."""
    starts: list[int] = []
    row = 0
    for run in runs:
        starts += range(row, row + run.examples * run.alive, run.alive)
        row += run.examples * run.alive
    return on_device(starts, device)


def on_device(numbers: list[Any], device: torch.device) -> Tensor:
    """Whole numbers known on the host as a tensor; on a GPU the host doesn't wait until they are there."""
    if device.type == "cuda":
        return torch.tensor(numbers, pin_memory=True).to(device, non_blocking=True)
    return torch.tensor(numbers, device=device)


def leave(hidden_states: Tensor, tokens: Tokens) -> Tensor:
    """The encoder's exit: what is alive as [batch, rows, width], in the batch's order; missing rows are zeros."""
    if tokens.runs is None or tokens.places is None:
        return hidden_states
    rows = hidden_states[0]
    widest = max(run.alive for run in tokens.runs)
    parts = rows.split([run.examples * run.alive for run in tokens.runs])
    shaped = [
        nn.functional.pad(part.view(run.examples, run.alive, -1), (0, 0, 0, widest - run.alive))
        for part, run in zip(parts, tokens.runs, strict=True)
    ]
    return torch.cat(shaped).index_select(0, tokens.places)
