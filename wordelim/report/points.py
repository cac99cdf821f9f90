"""Points of a metric as they are written; a dash where there are none."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["interval", "lost", "points"]

_NONE = "\N{EN DASH}"


def points(value: float | None) -> str:
    """How good a model is."""
    return _NONE if value is None else f"{value:.2f}"


def lost(value: float | None) -> str:
    """A difference, with its sign."""
    return _NONE if value is None else f"{value:+.2f}"


def interval(ends: Sequence[float | None]) -> str:
    """From one difference to another."""
    return _NONE if None in ends else " to ".join(map(lost, ends))
