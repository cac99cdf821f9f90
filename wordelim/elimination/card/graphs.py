"""CUDA graphs of work that comes again and again, one for each of some sizes."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import torch

__all__ = ["GRAPHS", "Capture", "Graphs", "capture"]

GRAPHS = 32
"""Sizes whose graphs are kept, unless said otherwise."""
# After so many calls that didn't use it a graph makes room for another.
_PATIENCE = 8 * GRAPHS
_REMEMBERED = 1024

Buffers = TypeVar("Buffers")
Work: TypeAlias = Callable[[], Any]
Capture: TypeAlias = Callable[[Work, Any], Work]
"""From some work and a pool of memory to what does the same work again, on the same memory."""


def capture(work: Work, pool: Any) -> Work:
    """Record ``work`` as a CUDA graph, and return its replay; what it allocates comes from ``pool``."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        result = work()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


class _Kept(NamedTuple):
    buffers: Any
    replay: Work
    used: int


class Graphs(Generic[Buffers]):
    """Work by its size. The first of a size is done as it is, the second is captured, and later ones replay.

    Args:
        capture: how; None to do all work as it is.
        most: how many graphs are kept.
    """

    def __init__(self, capture: Capture | None, most: int = GRAPHS) -> None:
        self.capture = capture
        self.most = most
        self._lock = threading.Lock()
        self._pool: Any = None
        self._done: Any = None
        self._calls = 0
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget every graph."""
        with self._lock:
            self._seen.clear()
            self._kept.clear()

    @contextmanager
    def of(
        self, key: Hashable, device: torch.device, make: Callable[[], tuple[Buffers, Work]]
    ) -> Iterator[tuple[Buffers, Work]]:
        """Buffers of a size, and the work on them; no other thread or stream has them meanwhile.

        Args:
            make: gives both where there is no graph yet.
        """
        card = device.type == "cuda"
        with self._lock, torch.cuda.device(device if card else -1):
            if self._done is not None:
                self._done.wait()  # another stream may use the buffers still
            self._calls += 1
            with torch.no_grad():
                yield self._found(key, make, card)
            if card:
                self._done = self._done or torch.cuda.Event()
                self._done.record()

    def _found(self, key: Hashable, make: Callable[[], tuple[Buffers, Work]], card: bool) -> tuple[Buffers, Work]:
        if key in self._kept:
            kept = self._kept.pop(key)
            self._kept[key] = kept._replace(used=self._calls)
            return kept.buffers, kept.replay
        with torch.inference_mode(False), torch.no_grad():
            buffers, work = make()
            seen = key in self._seen
            self._seen[key] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            if seen and self.capture is not None and self._make_room():
                if self._pool is None and card:
                    self._pool = torch.cuda.graph_pool_handle()
                work = self._captured(work)
                self._kept[key] = _Kept(buffers, work, self._calls)
        return buffers, work

    def _captured(self, work: Work) -> Work:
        assert self.capture is not None
        try:
            return self.capture(work, self._pool)
        except RuntimeError as error:
            self.capture = None
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(f"No CUDA graph can be made here, so calls take longer: {reason}", stacklevel=2)
            return work

    def _make_room(self) -> bool:
        """Whether another graph may be kept; one that nothing uses any more is dropped for it."""
        if len(self._kept) < self.most:
            return True
        oldest = next(iter(self._kept))
        unused = self._calls - self._kept[oldest].used > _PATIENCE
        if unused:
            del self._kept[oldest]
        return unused
