"""Errors that wordelim raises. Each message is one sentence that names the value and the repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "AnswersError",
    "CheckpointError",
    "DataError",
    "ExportError",
    "NotMetError",
    "RetentionError",
    "RowError",
    "TrainingError",
    "UnsupportedModelError",
    "WordelimError",
]


class WordelimError(Exception):
    """Base of every error that wordelim raises on purpose."""


class AnswersError(WordelimError, ArithmeticError):
    """A model answers with NaN or infinity, so that nothing can be said of how good it is.

    Args:
        who: the model, as a sentence begins with it.
        found: what its answers are, as the sentence goes on.
        logits: all of them, where they are at hand.
    """

    def __init__(self, who: str, found: str, logits: Any = None) -> None:
        super().__init__(f"{who} {found}: check its weights, or compute in another dtype.")
        self.found, self.logits = found, logits

    @classmethod
    def counted(cls, who: str, wrong: int, examples: int, first: int, logits: Any = None) -> AnswersError:
        """Of so many wrong ones out of all examples, and the number of the first, from 1."""
        return cls(
            who, f"answers with NaN or infinity to {wrong} of {examples} examples (the first is number {first})", logits
        )


class CheckpointError(WordelimError, OSError):
    """A model directory is missing, damaged, already there, or can't be written."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DataError(WordelimError, ValueError):
    """A data file, a column or a label can't be used."""


class RowError(DataError):
    """Rows of the data can't be used; the message is of the first.

    Args:
        rows: what is wrong with each of them, from the verb to the repair, by its number from 1.
    """

    def __init__(self, rows: Mapping[int, str]) -> None:
        first = min(rows)
        super().__init__(f"Row {first} {rows[first]}")
        self.rows = rows


class ExportError(WordelimError, RuntimeError):
    """A model can't be exported, a runtime is missing, or an exported program answers otherwise than its model."""


class NotMetError(WordelimError):
    """The speed-up asked for is out of reach on these texts.

    Args:
        message: the sentence.
        best: the fastest retention there is, and its ratio, as plain data.
    """

    def __init__(self, message: str, best: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.best = best


class RetentionError(WordelimError, ValueError):
    """A retention has the wrong number of layers, or a value outside its range."""


class TrainingError(WordelimError, RuntimeError):
    """Training can't go on: a loss or a weight is not a number."""


class UnsupportedModelError(WordelimError, TypeError):
    """The model, or the way in which it is called, can't be served."""
