"""Rows that can't be used: a check names all that it finds at once, so that they can be left out instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import datasets

from ..errors import DataError, RowError

__all__ = ["Skipped", "Unusable", "each_row", "usable"]

T = TypeVar("T")
# How many of the rows that were left out a report lists.
_LISTED = 5


class Unusable(Exception):
    """A row can't be used: what follows "Row 3" in the sentence, from its verb to the repair."""


def each_row(read: Callable[..., T], *columns: Iterable[Any]) -> list[T]:
    """``read`` of every row's values.

    Raises:
        RowError: it raised :class:`Unusable` for some rows; all of them are named.
    """
    found: list[T] = []
    bad: dict[int, str] = {}
    for row, values in enumerate(zip(*columns, strict=True), 1):
        try:
            found.append(read(*values))
        except Unusable as error:
            bad[row] = str(error)
    if bad:
        raise RowError(bad)
    return found


class Skipped:
    """The rows of one data set that are left out, and why.

    Attributes:
        reasons: by the number that a row has in its source, from 1.
    """

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        self._total = 0

    def __len__(self) -> int:
        return len(self.reasons)

    def leave_out(self, data: datasets.Dataset, bad: Mapping[int, str]) -> datasets.Dataset:
        """The data set without some of its rows.

        Args:
            data: what earlier calls have left of the source, or its first rows.
            bad: why a row can't be used, by its number in ``data``, from 1.

        Raises:
            DataError: more than half of the source's rows are left out then.
        """
        total = len(data) + len(self)
        numbers = [number for number in range(1, total + 1) if number not in self.reasons]
        self.add({numbers[row - 1]: reason for row, reason in bad.items()}, total)
        return data.select([at for at in range(len(data)) if at + 1 not in bad])

    def add(self, bad: Mapping[int, str], total: int) -> None:
        """Note rows by their numbers in a source of ``total`` rows; DataError where they are more than half of it."""
        self.reasons |= bad
        self._total = max(self._total, total)
        if 2 * len(self) > self._total:
            row = min(self.reasons)
            raise DataError(
                f"{len(self)} of {self._total} rows can't be used, too many to leave out; the first, row {row}, "
                f"{self.reasons[row]}"
            )

    def to_dict(self) -> dict[str, Any]:
        """How many, and the first few, as plain data for a report; empty where there are none."""
        if not self.reasons:
            return {}
        listed = [{"row": row, "reason": self.reasons[row]} for row in sorted(self.reasons)[:_LISTED]]
        return {"skipped": {"count": len(self), "rows": listed}}


def usable(
    read: Callable[[datasets.Dataset], T], data: datasets.Dataset, skipped: Skipped | None
) -> tuple[datasets.Dataset, T]:
    """The rows that can be read, and what ``read`` makes of them.

    Args:
        skipped: takes the rows that are left out; None refuses them.

    Raises:
        RowError: some rows can't be read, and ``skipped`` is None.
        DataError: no row can be read, or too few.
    """
    while True:  # each check names all its rows, so that this goes round no more often than there are checks
        try:
            return data, read(data)
        except RowError as error:
            if skipped is None:
                raise
            data = skipped.leave_out(data, error.rows)
