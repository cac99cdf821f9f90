"""Multiple choice: one text, several answers, one of them right (RACE, DREAM, SWAG)."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score
from torch import Tensor

from ..data import INPUTS, Columns, Encoded, column_values, encode, find_columns
from ..errors import DataError
from ..evaluation.metrics import Metric, named
from ..evaluation.worst import worst_units
from .task import Array, Logits, Task, TextsOf, Worst, flatten_rows

__all__ = ["Choice"]

_CHOICES = ("choices", "options", "endings")
_CONTEXTS = ("context", "article", "passage")
_LABELS = ("label", "labels", "answer")


class Choice(Task):
    """Each choice is a sequence of its own: the text, and behind the separator the question with the choice."""

    title = "multiple choice"
    pipeline_tag = "multiple-choice"

    @property
    def kind(self) -> str:
        return "single_label_classification"

    @property
    def names(self) -> Sequence[str]:
        return ()

    def find_columns(self, data: datasets.Dataset, **names: Any) -> Columns:
        existing = {name.casefold(): name for name in reversed(data.column_names)}
        choices = next((existing[name] for name in _CHOICES if name in existing), None)
        if choices is None:
            raise DataError(
                f"No column holds the choices; the columns are {', '.join(data.column_names)}: name one of them "
                f"{_CHOICES[0]}, with a list of texts in each row."
            )
        if names.get("text") is None and names.get("text_pair") is None:
            names["text"] = next((existing[name] for name in _CONTEXTS if name in existing), None)
            names["text_pair"] = existing.get("question") if names["text"] else None
        if names.get("label") is None:
            names["label"] = next((existing[name] for name in _LABELS if name in existing), None)
        found = find_columns(data, **names)
        return Columns(found.text, found.text_pair, found.label, choices)

    def encode(self, data: datasets.Dataset, columns: Columns, *, max_length: int | None = None) -> Encoded:
        assert columns.choices is not None
        choices = [self._choices(value, row) for row, value in enumerate(column_values(data, columns.choices), 1)]
        count = len(choices[0])
        for row, found in enumerate(choices, 1):
            if len(found) != count:
                raise DataError(
                    f"Row {row} has {len(found)} choices, but the first row {count}: give every question equally many."
                )
        texts = [text for text in column_values(data, columns.text) for _ in range(count)]
        questions = column_values(data, columns.text_pair) if columns.text_pair else [None] * len(data)
        seconds = [
            choice if question is None else f"{question} {choice}"
            for question, found in zip(questions, choices, strict=True)
            for choice in found
        ]
        flat = datasets.Dataset.from_dict({"text": texts, "text_pair": seconds})
        encoded = encode(flat, self.tokenizer, Columns("text", "text_pair"), self.config, max_length=max_length)
        starts = range(0, len(texts), count)
        names = [name for name in INPUTS if name in encoded.dataset.column_names]
        values = {name: encoded.dataset[name][:] for name in names}
        rows: dict[str, list[Any]] = {name: [values[name][at : at + count] for at in starts] for name in names}
        if columns.label is not None:
            labels = column_values(data, columns.label)
            rows["labels"] = [self._label(*row) for row in zip(range(1, len(data) + 1), labels, choices, strict=True)]
        lengths = [encoded.lengths[at : at + count] for at in starts]
        rows |= {"lengths": lengths, "length": [sum(row) for row in lengths]}
        return Encoded(datasets.Dataset.from_dict(rows), encoded.truncated, encoded.lengths)

    @staticmethod
    def _choices(value: Any, row: int) -> list[str]:
        if not isinstance(value, (list, tuple)) or len(value) < 2 or not all(isinstance(item, str) for item in value):
            raise DataError(f"Row {row} has no list of two or more texts as its choices: {reprlib.repr(value)}.")
        return list(value)

    @staticmethod
    def _label(row: int, value: Any, choices: Sequence[str]) -> int:
        """A number from 0, a letter, or the right choice itself."""
        text = str(value).strip()
        if text in choices:
            return choices.index(text)
        letters = "ABCDEFGH"[: len(choices)]
        if len(text) == 1 and text.upper() in letters:
            return letters.index(text.upper())
        if not isinstance(value, bool) and text.isdigit() and int(text) < len(choices):
            return int(text)
        raise DataError(
            f"Row {row} has the label {value!r}, which is none of its {len(choices)} choices: give its number from 0, "
            "its letter, or its text."
        )

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        flat = self.pad(flatten_rows(rows))
        batch = {name: values.unflatten(0, (len(rows), -1)) for name, values in flat.items()}
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch

    def named_metric(self, name: str | None) -> Metric:
        name, score = named({"accuracy": accuracy_score}, name, self.title)
        return Metric(name, _highest, score, is_mean=True)

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
        return [*super().shown(columns, row), *row[columns.choices]]


def _highest(logits: Array) -> Array:
    return np.asarray(logits.argmax(-1))
