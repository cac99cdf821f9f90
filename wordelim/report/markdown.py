"""The report of a run as Markdown, for where no page can be made; and text that stays text in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..system.printable import one_line
from .blocks import Drawn, Fold, Meters, Section, Table
from .contents import contents

__all__ = ["code", "escaped", "render_markdown"]


def render_markdown(report: Mapping[str, Any]) -> str:
    """The report of a compression, a check or a benchmark as GitHub's and GitLab's Markdown, without its charts.

    Args:
        report: what ``compress``, ``check`` or ``bench`` gives, or ``wordelim_report.json``.
    """
    whole = contents(report)
    lines = [f"# {escaped(whole.title)}", ""]
    if whole.verdict is not None:
        lines += [f"**{escaped(whole.verdict[1])}**", ""]
    for fact in whole.facts:
        note = f" ({fact.note})" if fact.note else ""
        lines.append(f"- **{escaped(fact.value)}** {escaped(fact.label + note)}")
    for section in whole.sections:
        if not all(isinstance(block, Drawn) for block in section.blocks):
            lines += ["", *_section(section)]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"## {escaped(section.title)}"
    for sentence in section.intro:
        yield from ("", escaped(sentence))
    yield from _blocks(section.blocks)


def _blocks(blocks: Iterable[Any]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Fold):
            yield from ("", f"<details><summary>{escaped(block.title)}</summary>")
            yield from _blocks(block.blocks)
            yield from ("", "</details>")
        elif isinstance(block, Table):
            words = {*range(block.numbers), *block.texts}
            yield from _table(block.head, block.rows, block.caption, words)
        elif isinstance(block, Meters):
            yield from _table(["", ""], [(name, said) for name, _, said in block.rows], block.caption, {0, 1})


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, words: Iterable[int]) -> Iterator[str]:
    if caption:
        yield from ("", escaped(caption))
    yield from (
        "",
        _row(head),
        _row(["---" if column in words else "---:" for column, _ in enumerate(head)], as_is=True),
    )
    yield from map(_row, rows)


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
