"""Runs an encoder on batches of any lengths: the plan from the host, then one CUDA graph for batches of like size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...retention import Retention
from .joined import joined
from .layer import Choice, Encoder, run
from .level import Level
from .plan import Bucket, numbers, parts, size_of, stages

__all__ = ["GRAPHS", "LONGEST", "Batch", "Engine", "capture"]

LONGEST = 1024
"""Tokens of a text up to which one program can choose among its rows."""
GRAPHS = 32
"""Buckets whose graphs are kept."""
# After so many batches that didn't use it a graph makes room for another.
_PATIENCE = 8 * GRAPHS
_REMEMBERED = 1024

Capture = Callable[[Callable[[], Tensor], Any], Callable[[], Tensor]]


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


def capture(work: Callable[[], Tensor], pool: Any) -> Callable[[], Tensor]:
    """Record ``work`` as a CUDA graph, whose replay is returned; what it allocates comes from ``pool``."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        result = work()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


class _Buffers:
    """What a batch of one bucket enters by, at addresses that stay."""

    def __init__(self, retention: Retention, bucket: Bucket, batch: Batch) -> None:
        states, layers = batch.states, len(retention.keep)
        self.numbers = torch.zeros(size_of(bucket, layers), dtype=torch.int32, device=states.device)
        self.rows = states.new_empty(bucket.tokens, states.shape[2])
        guarded = batch.protected is not None
        self.flags = states.new_zeros(bucket.tokens, dtype=torch.int8) if guarded else None
        self.choice = Choice(retention.protected_first, retention.package, self.flags)
        ends, kept, self.source = parts(self.numbers, bucket, layers)
        known = stages(retention, bucket)
        self.drops = [stage.dropped for stage in known[1:]]
        sizes = [*(stage[:2] for stage in known), (bucket.texts, 1)]
        self.levels = [Level(at, own, *size) for at, own, size in zip(ends, kept, sizes, strict=True)]

    def fill(self, batch: Batch, plan: Tensor) -> None:
        """Two copies, and one more where rules name tokens; none that waits."""
        self.numbers.copy_(plan.pin_memory() if batch.states.is_cuda else plan, non_blocking=True)
        torch.index_select(batch.states.flatten(0, 1), 0, self.source, out=self.rows)
        if self.flags is not None and batch.protected is not None:
            torch.index_select(batch.protected.flatten().to(torch.int8), 0, self.source, out=self.flags)


class _Kept(NamedTuple):
    """A bucket that has a graph."""

    buffers: _Buffers
    replay: Callable[[], Tensor]
    used: int


class Engine:
    """An encoder whose last layer is cut to the first token.

    The first batch of a bucket runs launch by launch, the second is captured, and later ones replay. Each graph reads
    the weights where they lie: of such as have moved it must be told by :meth:`forget`.

    Args:
        encoder: its modules, on one device, in one dtype.
        ops: the launches of a layer, :mod:`.kernels` or :mod:`.plain`.
        capture: makes a replay of some work; None to run every batch launch by launch.
    """

    def __init__(self, encoder: Encoder, ops: Any, capture: Capture | None = capture) -> None:
        self.encoder = encoder
        self.ops = ops
        self.capture = capture
        self._lock = threading.Lock()
        self._pool: Any = None
        self._done: Any = None
        self._batches = 0
        self.forget()

    def forget(self) -> None:
        """Drop all graphs, and put query, key and value of each layer together anew."""
        with self._lock:
            self._seen: OrderedDict[Any, None] = OrderedDict()
            self._kept: OrderedDict[Any, _Kept] = OrderedDict()
            for layer in self.encoder.layers:
                for name in ("weight", "bias"):
                    found = [getattr(each, name) for each in layer.projections]
                    if all(each is not None for each in found):
                        joined(found)

    def __call__(self, batch: Batch, retention: Retention) -> Tensor:
        """Each text's first row behind the last layer, [batch, 1, width]."""
        bucket, width = Bucket.of(batch.lengths, batch.guarded), None if batch.laid else batch.states.shape[1]
        key = (retention, bucket, batch.states.dtype, batch.protected is not None)
        plan = torch.from_numpy(numbers(retention, bucket, batch.lengths, batch.guarded, width))
        with self._lock, torch.cuda.device_of(batch.states):
            if self._done is not None:
                self._done.wait()  # another stream may use the buffers still
            self._batches += 1
            buffers, work = self._found(key, batch)
            buffers.fill(batch, plan)
            with torch.no_grad():
                first = work()[: len(batch.lengths), None].clone()
            if first.is_cuda:
                self._done = self._done or torch.cuda.Event()
                self._done.record()
        return first

    def _found(self, key: Any, batch: Batch) -> tuple[_Buffers, Callable[[], Tensor]]:
        """Buffers of a bucket, and what runs on them: a graph, or the launches of one."""
        if key in self._kept:
            kept = self._kept.pop(key)
            self._kept[key] = kept._replace(used=self._batches)
            return kept.buffers, kept.replay
        with torch.inference_mode(False), torch.no_grad():
            retention, bucket, *_ = key
            buffers = _Buffers(retention, bucket, batch)

            def work() -> Tensor:
                return run(self.encoder, buffers.rows, buffers.levels, buffers.drops, buffers.choice, self.ops)

            seen = key in self._seen
            self._seen[key] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            if seen and self.capture is not None and self._make_room():
                if self._pool is None and batch.states.is_cuda:
                    self._pool = torch.cuda.graph_pool_handle()
                work = self.capture(work, self._pool)
                self._kept[key] = _Kept(buffers, work, self._batches)
        return buffers, work

    def _make_room(self) -> bool:
        """Whether another graph may be kept; one that nothing uses any more is dropped for it."""
        if len(self._kept) < GRAPHS:
            return True
        oldest = next(iter(self._kept))
        unused = self._batches - self._kept[oldest].used > _PATIENCE
        if unused:
            del self._kept[oldest]
        return unused
