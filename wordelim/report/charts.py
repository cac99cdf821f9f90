"""Charts as plotly's figures: plain data, whose colours are names of the page's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

__all__ = ["Figure", "Series", "histogram", "line_chart"]

Figure = dict[str, Any]
"""``data`` and ``layout``, as ``plotly.graph_objects.Figure`` takes them once the colours are real ones."""

Point = tuple[float, float]
_COLOURS = ("--accent", "--second", "--third")


@dataclass(frozen=True)
class Series:
    """Points [x, y] that belong together; ``titles`` are shown when one is pointed at."""

    name: str
    points: Sequence[Point]
    titles: Sequence[str] = ()
    ring: bool = False


def line_chart(series: Sequence[Series], x_label: str, y_label: str, *, bound: float | None = None) -> Figure | None:
    """Lines with their points; ``bound`` is a level to be marked. None where there is nothing to show."""
    shown = [one for one in series if one.points]
    if not shown:
        return None
    data = []
    for number, one in enumerate(shown):
        colour = "--good" if one.ring else _COLOURS[number % len(_COLOURS)]
        mark = {"symbol": "circle-open", "size": 14, "line": {"width": 2.5}} if one.ring else {"size": 7}
        data.append(
            {
                "type": "scatter",
                "mode": "markers" if one.ring else "lines+markers",
                "name": escape(one.name),
                "x": [x for x, _ in one.points],
                "y": [y for _, y in one.points],
                "line": {"color": colour, "width": 2},
                "marker": {"color": colour, **mark},
                **({"hovertext": [escape(title) for title in one.titles], "hoverinfo": "text"} if one.titles else {}),
            }
        )
    layout = _layout(x_label, y_label) | {"showlegend": len(shown) > 1}
    layout["height"] += 20 * (len(shown) - 1)  # a line of the legend each
    if bound is not None:
        level = {"y0": bound, "y1": bound, "x0": 0, "x1": 1, "xref": "paper"}
        layout["shapes"] = [{"type": "line", **level, "line": {"color": "--bad", "dash": "dash", "width": 1.5}}]
    return {"data": data, "layout": layout}


def histogram(edges: Sequence[float], counts: Sequence[int], x_label: str, y_label: str) -> Figure | None:
    """Bars from each edge to the next. None where there is nothing to show."""
    if not any(counts):
        return None
    bars = {
        "type": "bar",
        "x": list(edges[:-1]),
        "y": list(counts),
        "width": [right - left for left, right in pairwise(edges)],
        "offset": 0,
        "marker": {"color": "--fill"},
        "hovertext": [
            f"{left:g} to {right:g}: {count}" for (left, right), count in zip(pairwise(edges), counts, strict=True)
        ],
        "hoverinfo": "text",
    }
    return {"data": [bars], "layout": _layout(x_label, y_label) | {"bargap": 0}}


def _layout(x_label: str, y_label: str) -> dict[str, Any]:
    axis = {"gridcolor": "--line", "linecolor": "--line", "zerolinecolor": "--line", "automargin": True}
    return {
        "height": 320,
        "dragmode": False,  # a finger that moves over a chart scrolls the page
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "--soft", "size": 12},
        "hoverlabel": {"bgcolor": "--card", "bordercolor": "--line", "font": {"color": "--ink"}},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "xaxis": {**axis, "title": {"text": escape(x_label)}},
        "yaxis": {**axis, "title": {"text": escape(y_label)}},
    }
