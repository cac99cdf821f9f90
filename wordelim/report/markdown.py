"""Reports as Markdown: whole ones where no page can be made, a check's for a pull request; and text that stays text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..system.printable import one_line
from . import check
from .kinds import page_of
from .parts import Block, Drawn, Fold, Lines, Meters, Section, Table

__all__ = ["code", "escaped", "render_digest", "render_markdown", "table_lines"]


def render_markdown(report: Mapping[str, Any]) -> str:
    """The report of a compression, a check or a benchmark as GitHub's and GitLab's Markdown, without its charts.

    Args:
        report: what ``compress``, ``check`` or ``bench`` gives, or ``wordelim_report.json``.
    """
    whole = page_of(report)
    lines = [f"# {escaped(whole.title)}", ""]
    if whole.verdict is not None:
        lines += [f"**{escaped(whole.verdict[1])}**", ""]
    for fact in whole.facts:
        note = f" ({fact.note})" if fact.note else ""
        lines.append(f"- **{escaped(fact.value)}** {escaped(fact.label + note)}")
    for section in whole.sections:
        if not all(isinstance(block, Drawn) for block in section.blocks):
            lines += ["", *_section(section, "##")]
    return "\n".join(lines) + "\n"


def render_digest(report: Mapping[str, Any]) -> str:
    """A check's report in a few lines, and the slices folded away, as GitHub's and GitLab's Markdown."""
    return "\n".join(_section(check.digest(report), "###")) + "\n"


def _section(section: Section, level: str) -> Iterator[str]:
    yield f"{level} {escaped(section.title)}"
    yield from _blocks(section.blocks)


def _blocks(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, str):
            yield from ("", escaped(block))
        elif isinstance(block, Lines):
            yield from ("", *(f"- {escaped(line)}" for line in block.lines))
        elif isinstance(block, Fold):
            yield from ("", f"<details><summary>{escaped(block.title)}</summary>")
            yield from _blocks(block.blocks)
            yield from ("", "</details>")
        elif isinstance(block, Table):
            yield from table_lines(block)
        elif isinstance(block, Meters):
            yield from table_lines(Table(["", ""], [(name, said) for name, _, said in block.rows], block.caption, 2))


def table_lines(table: Table) -> Iterator[str]:
    """A table, below its caption and a blank line."""
    if table.caption:
        yield from ("", escaped(table.caption))
    head = table.head or [""] * len(table.rows[0])
    rules = ["---:" if table.is_number(column) else "---" for column, _ in enumerate(head)]
    yield from ("", _row(head), _row(rules, as_is=True))
    yield from map(_row, table.rows)


def _row(cells: Sequence[str], *, as_is: bool = False) -> str:
    return f"| {' | '.join(cells if as_is else map(escaped, cells))} |"


def escaped(text: str) -> str:
    """Text that stays text: names of labels, paths and reviews may hold what Markdown or HTML would act on."""
    plain = re.sub(r"([\\`*_\[\]|~])", r"\\\1", one_line(text))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """Text as a code span, which ends at no character of the text."""
    plain = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    return f"{fence} {plain} {fence}" if "`" in plain else f"{fence}{plain}{fence}"
