"""Runs an encoder on batches of any lengths: the plan from the host, then launches alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...retention import Retention
from ..significance import maps_on
from .graphs import Capture, Graphs, capture
from .joined import joined
from .layer import Choice, Encoder, run
from .level import Level
from .plan import Bucket, numbers, parts, size_of, stages

__all__ = ["LONGEST", "Batch", "Buffers", "Engine", "planned", "planned_buffers"]

LONGEST = 1024
"""Tokens of a text up to which one program can choose among its rows."""
# A model passes its encoder no argument of ours, so the buffers can't be one. Both run in one thread.
_PLANNED = threading.local()


class Batch(NamedTuple):
    """Texts that enter.

    Args:
        states: hidden states, [batch, tokens, width], padded on the right; or [1, rows, width] where the texts lie one
            behind the other.
        lengths: tokens of each text.
        laid: whether they lie so.
        protected: rows that rules which name tokens protect, bool of the shape of ``states`` without its width, or
            None.
        guarded: how many these are of each text.
    """

    states: Tensor
    lengths: tuple[int, ...]
    laid: bool = False
    protected: Tensor | None = None
    guarded: tuple[int, ...] | None = None


@contextmanager
def planned(buffers: Buffers) -> Iterator[None]:
    """While this holds, what enters encoders in this thread is the batch whose plan these buffers hold."""
    _PLANNED.buffers = buffers
    try:
        yield
    finally:
        del _PLANNED.buffers


def planned_buffers() -> Buffers | None:
    """The buffers of the batch that enters; None where it has no plan yet."""
    return getattr(_PLANNED, "buffers", None)


class Buffers:
    """What a batch of one bucket enters by, at addresses that stay.

    Args:
        width: of what enters the encoder.
        guarded: whether rules name tokens.
    """

    def __init__(
        self, retention: Retention, bucket: Bucket, width: int, dtype: torch.dtype, device: torch.device, guarded: bool
    ) -> None:
        self.retention, self.bucket, layers = retention, bucket, len(retention.keep)
        self.numbers = torch.zeros(size_of(bucket, layers), dtype=torch.int32, device=device)
        self.rows = torch.empty(bucket.tokens, width, dtype=dtype, device=device)
        self.flags = torch.zeros(bucket.tokens, dtype=torch.int8, device=device) if guarded else None
        maps = maps_on(retention.significance, device) if retention.linear else None
        self.choice = Choice(retention.protected_first, retention.package, self.flags, maps)
        ends, kept, self.source = parts(self.numbers, bucket, layers)
        known = stages(retention, bucket)
        self.drops = [stage.dropped for stage in known[1:]]
        sizes = [*(stage[:2] for stage in known), (bucket.texts, 1)]
        self.levels = [Level(at, own, *size) for at, own, size in zip(ends, kept, sizes, strict=True)]

    def plan(self, lengths: tuple[int, ...], guarded: tuple[int, ...] | None, width: int | None) -> None:
        """Note the lengths of a batch, as :func:`numbers` does: one copy, which nobody waits for."""
        plan = torch.from_numpy(numbers(self.retention, self.bucket, lengths, guarded, width))
        self.numbers.copy_(plan.pin_memory() if self.numbers.is_cuda else plan, non_blocking=True)

    def enter(self, states: Tensor, protected: Tensor | None) -> None:
        """Take the rows of the batch, as :class:`Batch` has them."""
        torch.index_select(states.flatten(0, 1), 0, self.source, out=self.rows)
        if self.flags is not None and protected is not None:
            torch.index_select(protected.flatten().to(torch.int8), 0, self.source, out=self.flags)


class Engine:
    """An encoder whose last layer is cut to the first token.

    Its graphs read the weights where they lie: of such as have moved it must be told by :meth:`forget`.

    Args:
        encoder: its modules, on one device, in one dtype.
        ops: the launches of a layer, :mod:`.kernels` or :mod:`.plain`.
        capture: how graphs are made; None for none.
    """

    def __init__(self, encoder: Encoder, ops: Any, capture: Capture | None = capture) -> None:
        self.encoder = encoder
        self.ops = ops
        self.graphs: Graphs[Buffers] = Graphs(capture)
        self.forget()

    def forget(self) -> None:
        """Drop all graphs, and put query, key and value of each layer together anew."""
        self.graphs.clear()
        for layer in self.encoder.layers:
            for name in ("weight", "bias"):
                found = [getattr(each, name) for each in layer.projections]
                if all(each is not None for each in found):
                    joined(found)

    def __call__(self, batch: Batch, retention: Retention) -> Tensor:
        """Each text's first row behind the last layer, [batch, 1, width]."""
        states, guarded = batch.states, batch.guarded is not None
        bucket = Bucket.of(batch.lengths, batch.guarded)

        def make() -> tuple[Buffers, Callable[[], Tensor]]:
            buffers = Buffers(retention, bucket, states.shape[2], states.dtype, states.device, guarded)
            return buffers, lambda: self.launched(buffers)

        with self.graphs.of((retention, bucket, states.dtype, guarded), states.device, make) as (buffers, work):
            buffers.plan(batch.lengths, batch.guarded, None if batch.laid else states.shape[1])
            buffers.enter(states, batch.protected)
            first: Tensor = work()
            return first[: len(batch.lengths)].clone()

    def launched(self, buffers: Buffers) -> Tensor:
        """The work alone, on what the buffers hold: of all texts that they have room for, [texts, 1, width]."""
        return run(self.encoder, buffers.rows, buffers.levels, buffers.drops, buffers.choice, self.ops)[:, None]
