"""Multiple choice: one text, several answers, one of them right (RACE, DREAM, SWAG)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from ..data.cells import is_truth, items_of, mapping_of, plain, shown, whole
from ..data.columns import Columns, find_columns
from ..data.encode import INPUTS, Encoded, column_values, texts_in, tokenize
from ..data.usable import Unusable, each_row
from ..errors import DataError, RowError
from .metrics import Metric
from .task import Array, Logits, Task, TextsOf, Worst, flatten_rows
from .worst import worst_units

__all__ = ["Choice"]

_CHOICES = ("choices", "options", "endings")
_NUMBERED = re.compile(r"(ending|choice|option)_?(\d)")  # a column for each choice
_CONTEXTS = {"context": "question", "article": "question", "passage": "question", "sent1": "sent2"}
_LABELS = ("label", "labels", "answer", "answerkey")
_LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class _Choices:
    """Texts to choose from, and what the data itself calls them: the letters of ARC, or the numbers of columns."""

    texts: Sequence[str]
    keys: Sequence[str] = ()
    keyed: bool = False  # whether a label can't be anything but a key


class Choice(Task):
    """Each choice is a sequence of its own: the text, and behind the separator the question with the choice."""

    title = "multiple choice"
    pipeline_tag = "multiple-choice"
    kind = "single_label_classification"
    names = ()

    def find_columns(self, data: datasets.Dataset, **names: Any) -> Columns:
        existing = {name.casefold(): name for name in reversed(data.column_names)}
        choices: str | tuple[str, ...] | None = next((existing[name] for name in _CHOICES if name in existing), None)
        choices = choices or _numbered(data.column_names)
        if choices is None:
            raise DataError(
                f"No column holds the choices; the columns are {', '.join(data.column_names)}: name one of them "
                f"{_CHOICES[0]}, with a list of texts in each row, or give a column for each, such as ending0, ending1."
            )
        if names.get("text") is None and names.get("text_pair") is None:
            context = next((name for name in _CONTEXTS if name in existing), "question")
            names["text"] = existing.get(context)
            names["text_pair"] = existing.get(_CONTEXTS.get(context, ""))
        if names.get("label") is None:
            names["label"] = next((existing[name] for name in _LABELS if name in existing), None)
        found = find_columns(data, **names)
        if isinstance(found.label, tuple):
            raise DataError(
                f"The columns {', '.join(found.label)} can't all say which choice is right: name one with --label."
            )
        return Columns(found.text, found.text_pair, found.label, choices)

    def encode(self, data: datasets.Dataset, columns: Columns, *, max_length: int | None = None) -> Encoded:
        assert columns.choices is not None
        choices = each_row(partial(_choices, names=columns.choices), column_values(data, columns.choices))
        count = Counter(len(row.texts) for row in choices).most_common(1)[0][0]
        each_row(partial(_require_count, count=count), choices)
        texts = texts_in(data, columns.text, "--text", blank_allowed=False)
        questions: Sequence[Any] = [None] * len(data)
        if columns.text_pair is not None:
            questions = column_values(data, columns.text_pair)
        seconds = [
            choice if question is None else f"{question} {choice}"
            for question, row in zip(questions, choices, strict=True)
            for choice in row.texts
        ]
        labels = None
        if columns.label is not None:
            assert not isinstance(columns.label, tuple)
            labels = _labels(column_values(data, columns.label), choices, columns.label)
        try:
            encoded = tokenize(
                [text for text in texts for _ in range(count)],
                seconds,
                self.tokenizer,
                self.config,
                max_length=max_length,
            )
        except RowError as error:  # of a text with one of its choices
            raise RowError({(row - 1) // count + 1: reason for row, reason in error.rows.items()}) from error
        starts = range(0, len(seconds), count)
        names = [name for name in INPUTS if name in encoded.dataset.column_names]
        values = {name: encoded.dataset[name][:] for name in names}
        rows: dict[str, list[Any]] = {name: [values[name][at : at + count] for at in starts] for name in names}
        if labels is not None:
            rows["labels"] = labels
        lengths = [encoded.lengths[at : at + count] for at in starts]
        rows |= {"lengths": lengths, "length": [sum(row) for row in lengths]}
        return Encoded(datasets.Dataset.from_dict(rows), encoded.truncated, encoded.lengths)

    def require(self, encoded: datasets.Dataset, part: str) -> None:
        """Refuse nothing: the right answer may stand at the same place throughout."""

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        flat = self.pad(flatten_rows(rows))
        batch = {name: values.unflatten(0, (len(rows), -1)) for name, values in flat.items()}
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch

    def metrics(self) -> Mapping[str, Metric]:
        return {"accuracy": Metric("accuracy", _highest, is_mean=True)}

    def worst(self, metric: Metric, logits: Logits, encoded: datasets.Dataset, texts_of: TextsOf) -> Worst:
        labels = self.truth(encoded)
        chances = [softmax(each, axis=1)[np.arange(len(labels)), labels] for each in logits]
        decided = [each.argmax(1) for each in logits]
        return worst_units(
            chances,
            texts_of,
            said=[[f"choice {int(i) + 1}" for i in each] for each in (labels, *decided)],
            among=(decided[0] == labels) & (decided[1] != labels),
        )

    def shown(self, columns: Columns, row: Mapping[str, Any]) -> list[str]:
        assert columns.choices is not None
        names = columns.choices
        value = row[names] if isinstance(names, str) else [row[name] for name in names]
        return [*super().shown(columns, row), *_choices(value, names).texts]


def _numbered(columns: Sequence[str]) -> tuple[str, ...] | None:
    """Columns of one name that are numbered without a gap, from 0 or 1."""
    found: dict[str, dict[int, str]] = {}
    for column in columns:
        if match := _NUMBERED.fullmatch(column.casefold()):
            found.setdefault(match[1], {})[int(match[2])] = column
    for by_number in found.values():
        numbers = sorted(by_number)
        if len(numbers) > 1 and numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[-1] + 1)):
            return tuple(by_number[at] for at in numbers)
    return None


def _choices(value: Any, names: str | Sequence[str]) -> _Choices:
    """The choices of a row, from its cell or from its cells."""
    keys: list[str] = [] if isinstance(names, str) else [name[-1] for name in names]
    keyed = False
    if (table := mapping_of(value)) is not None and isinstance(names, str):
        value, labels = table.get("text"), items_of(table.get("label"))
        keys, keyed = list(map(str, labels or ())), labels is not None
    texts = items_of(value)
    if (
        texts is None
        or len(texts) < 2
        or not all(isinstance(item, str) for item in texts)
        or (keys and len(keys) != len(texts))
    ):
        raise Unusable(f"has no list of two or more texts as its choices: {shown(value)}.")
    return _Choices(texts, keys, keyed)


def _require_count(choices: _Choices, count: int) -> None:
    if len(choices.texts) != count:
        raise Unusable(
            f"has {len(choices.texts)} choices, but most rows {count}: give every question equally many, or leave the "
            "row out (--skip-bad-rows)."
        )


def _labels(values: Sequence[Any], choices: Sequence[_Choices], column: str) -> list[int]:
    """Which choice is right: by a number from 0, a letter, its text, or what the data calls it.

    The column is read as a whole, for a "1" may be the first of choices that are numbered from 1, the second one, or a
    choice that says "1".

    Raises:
        RowError: labels that are none of their choices.
        DataError: they can be read in several ways.
    """
    ways = each_row(_readings, values, choices)
    if column.casefold() == "answerkey" and not any(row.keyed for row in choices):
        numbers = {whole(value) for value in values} - {None}
        if numbers and 0 not in numbers:  # ARC counts from 1, and others from 0
            raise DataError(
                f"The column {column!r} has numbers, and none of them is 0, so that they may count from 0 or from 1: "
                "give letters, or numbers from 0 in a column 'label'."
            )
    names = ("text", "letter", "number", "key")
    whole_ways = [way for way in names if all(way in row for row in ways)]
    for way in whole_ways[1:]:
        row = next((row for row, found in enumerate(ways) if found[way] != found[whole_ways[0]]), None)
        if row is not None:
            raise DataError(
                f"Row {row + 1} has the label {shown(values[row])}, which may be the {whole_ways[0]} of one choice or "
                f"the {way} of another, as all labels may: write letters as labels."
            )
    if whole_ways:
        return [found[whole_ways[0]] for found in ways]
    return each_row(_only_reading, ways, values)


def _readings(value: Any, choices: _Choices) -> dict[str, int]:
    """Which choice a label may be, by the way in which it is read."""
    value, count = plain(value), len(choices.texts)
    text, index = str(value).strip(), whole(value)
    found = {}
    keys = {key.casefold(): at for at, key in enumerate(choices.keys)}
    key = text if index is None or is_truth(value) else str(index)
    at = keys.get(text.casefold(), keys.get(key.casefold()))
    if at is not None:
        found["key"] = at
    if not choices.keyed:
        texts = [choice.casefold() for choice in choices.texts]
        if text in choices.texts:
            found["text"] = choices.texts.index(text)
        elif texts.count(text.casefold()) == 1:
            found["text"] = texts.index(text.casefold())
        if len(text) == 1 and text.upper() in _LETTERS[:count]:
            found["letter"] = _LETTERS.index(text.upper())
        if index is not None and 0 <= index < count and (not is_truth(value) or (count == 2 and "text" not in found)):
            found["number"] = index
    if not found:
        raise Unusable(
            f"has the label {shown(value)}, which is none of its {count} choices: give its number from 0, its letter, "
            "or its text."
        )
    return found


def _only_reading(readings: Mapping[str, int], value: Any) -> int:
    if len(set(readings.values())) > 1:
        ways = " or its ".join(f"{way} of choice {at}" for way, at in readings.items())
        raise Unusable(f"has the label {shown(value)}, which may be the {ways}, from 0: write letters as labels.")
    return next(iter(readings.values()))


def _highest(logits: Array) -> Array:
    return np.asarray(logits.argmax(-1))
