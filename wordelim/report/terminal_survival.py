"""Explanations and audits in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from .console import heading, show
from .explanation import Explanation
from .survival import pieces, shared_words

__all__ = ["print_audit", "print_comparison", "print_survival"]

_STYLES = ("grey46", "grey62", "none", "bold", "bold green")
_FIRST_WORDS = 12


def print_survival(explanation: Explanation) -> None:
    """One text, each word as strong as the number of layers that it survives; then what is left after each layer."""
    show(heading("Which words survive (the stronger, the deeper)"))
    for part in pieces(explanation):
        text = Text(" ")
        for written, word, unread in part:
            if word is None:
                text.append(written, "strike grey46" if unread else "")
            elif word.part is None or word.end == 0:
                text.append(f" {written} ", "dim")
            else:
                text.append(written, _STYLES[word.depth * (len(_STYLES) - 1) // max(1, explanation.layers)])
        show(text)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for layer in range(explanation.layers):
        left = [word.text for word in explanation.words if word.depth > layer]
        shown = " ".join(left[:_FIRST_WORDS]) + (" ..." if len(left) > _FIRST_WORDS else "")
        alive = sum(depth > layer for depth in explanation.depth)
        table.add_row(f"after layer {layer + 1}", str(alive), Text(shown))
    show(heading(f"What is left of {len(explanation.tokens)} tokens"), table)
    if any(read < len(text) for read, text in zip(explanation.read, explanation.texts, strict=True)):
        show(Text("\nThe text is longer than the model reads: what is struck out was cut."))
    if explanation.label:
        show(Text(f"\nThe model says: {explanation.label}"))


def print_comparison(first: Explanation, second: Explanation) -> None:
    """Words that both texts have, and how many layers each survives in them."""
    rows = shared_words(first, second)
    if not rows:
        show(Text("\nThe texts have no word in common."))
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("word", overflow="fold")
    table.add_column("layers survived in text 1", justify="right", overflow="fold")
    table.add_column("in text 2", justify="right", overflow="fold")
    for row in rows:
        table.add_row(Text(row["word"]), str(row["first"]), str(row["second"]))
    show(heading("Words that both texts have"), table)


def print_audit(audit: Mapping[str, Any]) -> None:
    """Which words a model drops early, which late, and what becomes of those that are watched."""
    whole = [audit["words"], audit["watched"], audit["special"]]
    show(heading(f"Words of {audit['texts']} texts through {audit['layers']} layers"), _words(whole))
    protected = audit["protected"]
    show(Text(f"Protected positions: {protected['positions']} met, {protected['dropped']} dropped."))
    show(heading(f"Dropped earliest (of words seen {audit['seen_at_least']} times or more)"), _words(audit["earliest"]))
    show(heading("Dropped latest"), _words(audit["latest"]))
    if audit["each_watched"]:
        show(heading("Watched words"), _words(audit["each_watched"]))


def _words(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("word", overflow="fold")
    for column in ("seen", "layers survived", "left after each layer, %"):
        table.add_column(column, justify="right", overflow="fold")
    for row in rows:
        survives = "" if row["survives"] is None else f"{100 * row['survives']:.0f} %"
        left = " ".join(f"{100 * share:.0f}" for share in row["left"] if share is not None)
        table.add_row(Text(row["word"]), str(row["seen"]), survives, left)
    return table
