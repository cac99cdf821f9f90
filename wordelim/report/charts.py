"""Where the marks of a small chart stand, for the template that draws it as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Chart", "Series", "histogram", "line_chart"]

_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 44

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points [x, y] that belong together; ``titles`` are shown when one is pointed at."""

    name: str
    points: Sequence[Point]
    titles: Sequence[str] = ()
    ring: Point | None = None


@dataclass(frozen=True)
class Chart:
    """A chart in the pixels of its view box; ``ticks`` are [where, what], the rest as the template draws it."""

    x_label: str
    y_label: str
    summary: str
    x_ticks: Sequence[tuple[float, str]] = ()
    y_ticks: Sequence[tuple[float, str]] = ()
    series: Sequence[Any] = ()
    bars: Sequence[Any] = ()
    bound: float | None = None
    box: tuple[int, int, int, int] = (_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM)
    size: tuple[int, int] = field(default=(_WIDTH, _HEIGHT))


def line_chart(
    series: Sequence[Series], x_label: str, y_label: str, summary: str, *, bound: float | None = None
) -> Chart | None:
    """Lines with their points; ``bound`` is a level to be marked. None where there is nothing to show."""
    series = [one for one in series if one.points]
    if not series:
        return None
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points] + ([] if bound is None else [bound])
    x_ticks, y_ticks = _ticks(min(xs), max(xs)), _ticks(min(ys), max(ys))
    x_range = (min(x_ticks[0], *xs), max(x_ticks[-1], *xs))
    y_range = (min(y_ticks[0], *ys), max(y_ticks[-1], *ys))

    def place(point: Point) -> Point:
        return _x(point[0], x_range), _y(point[1], y_range)

    return Chart(
        x_label,
        y_label,
        summary,
        [(_x(tick, x_range), f"{tick:g}") for tick in x_ticks],
        [(_y(tick, y_range), f"{tick:g}") for tick in y_ticks],
        series=[
            {
                "name": one.name,
                "path": " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, one.points)),
                "dots": [
                    (*place(point), one.titles[i] if i < len(one.titles) else f"{point[0]:g}: {point[1]:.4g}")
                    for i, point in enumerate(one.points)
                ],
                "ring": None if one.ring is None else place(one.ring),
            }
            for one in series
        ],
        bound=None if bound is None else _y(bound, y_range),
    )


def histogram(edges: Sequence[float], counts: Sequence[int], x_label: str, y_label: str, summary: str) -> Chart | None:
    """Bars from each edge to the next. None where there is nothing to show."""
    if not counts or not any(counts):
        return None
    x_range, y_ticks = (edges[0], edges[-1]), _ticks(0, max(counts))
    y_range = (0.0, max(y_ticks[-1], max(counts)))
    bottom = _y(0, y_range)
    bars = []
    for i, count in enumerate(counts):
        left, right, top = _x(edges[i], x_range), _x(edges[i + 1], x_range), _y(count, y_range)
        title = f"{edges[i]:g} to {edges[i + 1]:g}: {count}"
        bars.append((round(left + 0.5, 1), round(top, 1), round(right - left - 1, 1), round(bottom - top, 1), title))
    x_ticks = [tick for tick in _ticks(*x_range) if x_range[0] <= tick <= x_range[1]]
    return Chart(
        x_label,
        y_label,
        summary,
        [(_x(tick, x_range), f"{tick:g}") for tick in x_ticks],
        [(_y(tick, y_range), f"{tick:g}") for tick in y_ticks],
        bars=bars,
    )


def _x(value: float, between: Point) -> float:
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * _share(value, between), 1)


def _y(value: float, between: Point) -> float:
    return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * _share(value, between), 1)


def _share(value: float, between: Point) -> float:
    low, high = between
    return (value - low) / (high - low) if high > low else 0.5


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose low..high, about so many."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
