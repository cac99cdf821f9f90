"""Which words survive: of one text, of two beside each other, and of a whole data set (an audit)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .explanation import Explanation, Word
from .pages import page
from .parts import Block, Marked, Section, Table

__all__ = ["audited", "brief", "pieces", "render_audit", "render_survival", "shared", "shared_words"]

# Words of a layer that a terminal has room for.
_FIRST_WORDS = 12


def render_survival(explanation: Explanation, other: Explanation | None = None) -> str:
    """A page that shows how far each word of a text gets; of two texts by the same model, side by side."""
    both = [explanation] if other is None else [explanation, other]
    return page(
        "survival.html",
        "Which words survive",
        layers=explanation.layers,
        views=[_view(each) for each in both],
        shared=None if other is None else shared_words(explanation, other),
    )


def render_audit(audit: Mapping[str, Any], *, model: str, source: str = "") -> str:
    """A page that shows which words a model drops early and which late."""
    return page("audit.html", "Which words are dropped early, and which late", audit=audit, model=model, source=source)


def brief(explanation: Explanation) -> list[Section]:
    """One text, each word as strong as the number of layers that it survives; then what is left after each layer."""
    rows = []
    for layer in range(explanation.layers):
        left = [word.text for word in explanation.words if word.depth > layer]
        shown = " ".join(left[:_FIRST_WORDS]) + (" ..." if len(left) > _FIRST_WORDS else "")
        rows.append([f"after layer {layer + 1}", str(sum(depth > layer for depth in explanation.depth)), shown])
    sections = [
        Section("Which words survive (the stronger, the deeper)", list(_marked(explanation))),
        Section(f"What is left of {len(explanation.tokens)} tokens", [Table((), rows, texts=(2,))]),
    ]
    if any(read < len(text) for read, text in zip(explanation.read, explanation.texts, strict=True)):
        sections.append(Section("", ["The text is longer than the model reads: what is struck out was cut."]))
    return [*sections, Section("", [f"The model says: {explanation.label}"])] if explanation.label else sections


def _marked(explanation: Explanation) -> Iterator[Block]:
    for part in pieces(explanation):
        marked: list[tuple[str, float | str]] = [(" ", "")]
        for text, word, unread in part:
            if word is None:
                marked.append((text, "cut" if unread else ""))
            elif word.part is None or word.end == 0:
                marked.append((f" {text} ", "special"))
            else:
                marked.append((text, word.depth / max(1, explanation.layers)))
        yield Marked(marked)


def shared(first: Explanation, second: Explanation) -> list[Section]:
    """Words that both texts have, and how many layers each survives in them."""
    rows = [[row["word"], str(row["first"]), str(row["second"])] for row in shared_words(first, second)]
    if not rows:
        return [Section("", ["The texts have no word in common."])]
    table = Table(["word", "layers survived in text 1", "in text 2"], rows)
    return [Section("Words that both texts have", [table])]


def audited(audit: Mapping[str, Any]) -> list[Section]:
    """Which words a model drops early, which late, and what becomes of those that are watched."""
    protected, whole = audit["protected"], [audit["words"], audit["watched"], audit["special"]]
    met = f"Protected positions: {protected['positions']} met, {protected['dropped']} dropped."
    early = f"Dropped earliest (of words seen {audit['seen_at_least']} times or more)"
    sections = [
        Section(f"Words of {audit['texts']} texts through {audit['layers']} layers", [_words(whole), met]),
        Section(early, [_words(audit["earliest"])]),
        Section("Dropped latest", [_words(audit["latest"])]),
    ]
    watched = audit["each_watched"]
    return [*sections, Section("Watched words", [_words(watched)])] if watched else sections


def _words(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [
        [
            row["word"],
            str(row["seen"]),
            "" if row["survives"] is None else f"{100 * row['survives']:.0f} %",
            " ".join(f"{100 * share:.0f}" for share in row["left"] if share is not None),
        ]
        for row in rows
    ]
    return Table(["word", "seen", "layers survived", "left after each layer, %"], cells)


def pieces(explanation: Explanation) -> list[list[tuple[str, Word | None, bool]]]:
    """Each text as the reader knows it: words with what lies between them, and special tokens where they stand.

    Returns:
        For each text its pieces: what is written, its word (None between words), whether the model doesn't read it.
    """
    parts: list[list[tuple[str, Word | None, bool]]] = [[] for _ in explanation.texts]
    at = [0] * len(parts)
    part = 0
    for word in explanation.words:
        if word.part is None or word.end == 0:
            parts[part].append((word.text, word, False))
            continue
        if word.part != part:  # what stands between the last word of a text and the next text ends that text
            _finish(explanation, parts, at, part)
            part = word.part
        if word.start > at[part]:
            parts[part].append((explanation.texts[part][at[part] : word.start], None, False))
        parts[part].append((word.text, word, False))
        at[part] = word.end
    for last in range(part, len(parts)):
        _finish(explanation, parts, at, last)
    return parts


def _finish(
    explanation: Explanation, parts: list[list[tuple[str, Word | None, bool]]], at: list[int], part: int
) -> None:
    text, read = explanation.texts[part], explanation.read[part]
    for start, end, unread in ((at[part], read, False), (max(at[part], read), len(text), True)):
        if end > start:
            parts[part].append((text[start:end], None, unread))
    at[part] = len(text)


def shared_words(first: Explanation, second: Explanation) -> list[dict[str, Any]]:
    """Words that two texts have, in any case, and the most layers that each survives there; most different first."""
    depths: list[dict[str, int]] = []
    for each in (first, second):
        depths.append({})
        for word in each.words:
            if word.part is not None:
                name = word.text.casefold()
                depths[-1][name] = max(depths[-1].get(name, 0), word.depth)
    rows = [
        {"word": name, "first": depths[0][name], "second": depths[1][name]} for name in depths[0] if name in depths[1]
    ]
    return sorted(rows, key=lambda row: (-abs(row["first"] - row["second"]), row["word"]))


def _view(explanation: Explanation) -> dict[str, Any]:
    return {
        "label": explanation.label,
        "parts": [
            [
                {"text": text, "word": word, "unread": unread, "title": _title(explanation, word)}
                for text, word, unread in part
            ]
            for part in pieces(explanation)
        ],
        "tokens": len(explanation.tokens),
        "strips": list(_strips(explanation)),
        "rows": [
            {"text": word.text, "depth": word.depth, "significance": explanation.significance_of(word)}
            for word in explanation.words
        ],
    }


def _title(explanation: Explanation, word: Word | None) -> str:
    if word is None:
        return ""
    what = (
        "dropped in the first layer" if word.depth == 0 else f"left after {word.depth} of {explanation.layers} layers"
    )
    received: Sequence[float | None] = explanation.significance_of(word)
    values = "; ".join(f"layer {i}: {value:.2f}" for i, value in enumerate(received, start=1) if value is not None)
    return f"{what}. Significance in {values}"


def _strips(explanation: Explanation) -> Iterator[dict[str, Any]]:
    """For each layer where the word vectors that it leaves stand, and how strong each is to be shown."""
    for layer, significance in enumerate(explanation.significance):
        alive = [i for i, depth in enumerate(explanation.depth) if depth > layer]
        values = [significance[i] or 0.0 for i in alive]
        top = max(values, default=0.0) or 1.0
        # The square root: a few word vectors receive most of the attention.
        yield {
            "left": len(alive),
            "cells": [(i, round(0.3 + 0.7 * (value / top) ** 0.5, 2)) for i, value in zip(alive, values, strict=True)],
        }
