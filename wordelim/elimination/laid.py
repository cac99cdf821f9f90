"""Batches whose texts lie one behind the other when the model is called: [1, rows], without padding."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["laid", "lengths_laid"]

# A base model passes its encoder no argument of ours, so the lengths can't be one. Both run in one thread.
_LAID = threading.local()


@contextmanager
def laid(lengths: Sequence[int]) -> Iterator[None]:
    """While this holds, what enters encoders in this thread is texts of these lengths, one behind the other."""
    _LAID.lengths = tuple(lengths)
    try:
        yield
    finally:
        del _LAID.lengths


def lengths_laid() -> tuple[int, ...] | None:
    """The tokens of each text of a batch that lies so; None of any other batch."""
    return getattr(_LAID, "lengths", None)
