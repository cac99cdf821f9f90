"""The kinds of reports, each known by a key that its reports alone have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import WordelimError
from . import bench, check, compression, export, probe
from .parts import Contents, Section

__all__ = ["KINDS", "Kind", "brief_of", "page_of"]

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """What a kind of report says: ``brief`` in a terminal, ``page`` in a page or its Markdown, where it has one."""

    brief: Callable[[Report], Sequence[Section]]
    page: Callable[[Report], Contents] | None = None


KINDS: Mapping[str, Kind] = {
    "wordelim_report": Kind(compression.brief, compression.page),
    "wordelim_check": Kind(check.brief, check.page),
    "wordelim_bench": Kind(bench.brief, bench.page),
    "wordelim_probe": Kind(probe.brief),
    "wordelim_export": Kind(export.brief),
}


def brief_of(report: Report) -> Sequence[Section]:
    """What a terminal shows of a report; WordelimError where it is of no kind."""
    return _kind(report).brief(report)


def page_of(report: Report) -> Contents:
    """What a page shows of a report, what it lacks left out; WordelimError where there is no page of its kind."""
    page = _kind(report).page
    if page is None:
        raise WordelimError("There is no page of such a report: give one of a compression, a check or a benchmark.")
    whole = page(report)
    return replace(whole, sections=[section for section in whole.sections if section.blocks])


def _kind(report: Report) -> Kind:
    for key, kind in KINDS.items():
        if key in report:
            return kind
    raise WordelimError(f"This is no report of wordelim: it has none of the keys {', '.join(KINDS)}.")
