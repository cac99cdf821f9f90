"""The columns of a data set that hold text and label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import datasets

from ..errors import DataError

__all__ = ["LABELS", "Columns", "find_columns"]

_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "context"),
    ("question", "passage"),
    ("query", "document"),
    ("query", "passage"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text", "text_pair"),
)
_TEXTS = ("text", "sentence", "review", "content")
# Looked for where none of these is there.
_MORE_PAIRS = (("sent1", "sent2"), ("question", "answer"))
_MORE_TEXTS = ("comment_text",)
# In the name of an only column, what may have been meant to separate several.
_MARK = re.compile(r"\w[^\w\s.()/-]\w")
LABELS = ("label", "labels", "score", "target", "class", "gold_label", "similarity_score")


@dataclass(frozen=True)
class Columns:
    """The columns of a data set that are used: `text_pair` is None for single texts, `label` where there is none.

    `choices` holds the answers to choose from, for a head that chooses. Several columns of `label` hold 0 or 1 each, in
    the order of the model's labels; several of `choices` one answer each.
    """

    text: str
    text_pair: str | None = None
    label: str | tuple[str, ...] | None = None
    choices: str | tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a report; ``choices`` only where there are some."""
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in given.items() if name != "choices" or value is not None}

    @property
    def used(self) -> list[str]:
        """Every name, in the order text, text pair, choices, label."""
        given = (self.text, self.text_pair, self.choices, self.label)
        return [name for names in given if names is not None for name in _each(names)]


# --- columns ----------------------------------------------------------------------------------------------


def find_columns(
    dataset: datasets.Dataset,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    need_label: bool = True,
) -> Columns:
    """Finds the columns of text and label: those named here, else those with a standard name, in any case.

    A `text` named without `text_pair` means single texts. Several columns of `label` are a sequence, or one text with
    commas. Without `need_label`, a missing label column gives `label` None.

    Raises:
        DataError: a named column doesn't exist, no standard name is there, or several may be the text.
    """
    existing = list(dataset.column_names)
    listed = ", ".join(repr(name) for name in existing)
    if len(existing) == 1 and _MARK.search(existing[0]):
        listed += " alone (where fields are separated by something else, name it with --delimiter)"
    labels = _label_names(label, existing)
    for option, name in (("--text", text), ("--text-pair", text_pair), *(("--label", name) for name in labels)):
        if name is not None and name not in existing:
            raise DataError(f"There is no column {name!r} for {option}; the columns are {listed}.")
    named = [name for name in (text, text_pair, *labels) if name is not None]
    if len(set(named)) < len(named):
        raise DataError(f"--text, --text-pair and --label name one column twice ({', '.join(named)}); name each once.")
    standard = {name.casefold(): name for name in reversed(existing) if name not in named}
    found = labels[0] if len(labels) == 1 else tuple(labels) or None
    if label is None:
        found = next((standard[name] for name in LABELS if name in standard), None)
    if found is None and need_label:
        raise DataError(f"No column has a standard label name; the columns are {listed}: name one with --label.")
    if text is None:
        choices = _text_choices(standard, text_pair)
        if not choices:
            raise DataError(
                f"No column has a standard text name; the columns are {listed}: name one with --text (and the second "
                "text of a pair with --text-pair)."
            )
        if len(choices) > 1:
            several = " or ".join("/".join(filter(None, choice)) for choice in choices)
            raise DataError(
                f"The text may be {several}; the columns are {listed}: choose with --text (and --text-pair for a pair)."
            )
        text, text_pair = choices[0]
    return Columns(text=text, text_pair=text_pair, label=found)


def _label_names(label: str | Sequence[str] | None, existing: Sequence[str]) -> list[str]:
    """The columns that a label option names."""
    if label is None or isinstance(label, str):
        if label is None or label in existing or "," not in label:
            return [] if label is None else [label]
        return [name.strip() for name in label.split(",")]
    if not isinstance(label, Iterable):
        raise DataError(f"The label column is {label!r}: give its name.")
    return list(label)


def _each(names: str | Sequence[str]) -> Sequence[str]:
    return (names,) if isinstance(names, str) else names


def _text_choices(standard: dict[str, str], second: str | None) -> Sequence[tuple[str, str | None]]:
    """Every (text, text pair) there may be, one where there is no doubt, from lower-case names -> columns."""
    if second is not None:
        firsts = [*(a for a, b in (*_PAIRS, *_MORE_PAIRS) if b == second.casefold()), *_TEXTS, *_MORE_TEXTS]
        return [(standard[first], second) for first in firsts if first in standard][:1]
    pairs = [(standard[a], standard[b]) for a, b in _PAIRS if a in standard and b in standard]
    taken = {name for pair in pairs for name in pair}
    singles = [standard[name] for name in _TEXTS if name in standard and standard[name] not in taken]
    if not pairs and not singles:
        pairs = [(standard[a], standard[b]) for a, b in _MORE_PAIRS if a in standard and b in standard]
        singles = [standard[name] for name in _MORE_TEXTS if name in standard]
    return [*pairs, *((name, None) for name in singles)]
