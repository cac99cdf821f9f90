"""Rows that a parser found in a text file, on their way to a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow

from ..errors import DataError
from ..system.printable import first_line
from .cells import is_unicode, require_unicode, shown
from .usable import Skipped, Unusable

__all__ = ["Parsed"]


@dataclass
class Parsed:
    """The rows of a text file, by their numbers from 1, and why others of its ``total`` rows can't be read."""

    rows: dict[int, Any] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)
    header: Sequence[str] = ()

    @property
    def total(self) -> int:
        return len(self.rows) + len(self.bad)

    def refuse(self, row: int, line: int, why: str) -> None:
        self.bad[row], self.lines[row] = why, line

    def table(self, path: Path, skipped: Skipped | None) -> datasets.Dataset:
        """The rows that can be read; where others can't, DataError or a note in `skipped`."""
        columns: dict[str, Any] = {}
        for name in self.header or dict.fromkeys(name for row in self.rows.values() for name in row):
            if not is_unicode(name):  # pyarrow would refuse all columns together
                raise DataError(f"{path} has half a character in the name of a column, {name!a}: correct it.")
            values = {number: row.get(name) for number, row in self.rows.items()}
            try:
                columns[name] = pyarrow.array(values.values())
                continue
            except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
                odd = _half_characters(values) or _odd_values(name, values)
                if not odd:
                    raise DataError(
                        f"{path} has values that don't go together in column {name!r} ({first_line(error)}); give them "
                        "one type."
                    ) from error
            self.bad |= odd
            self.rows = {number: row for number, row in self.rows.items() if number not in odd}
            return self.table(path, skipped)
        if self.bad:
            if skipped is None:
                row = min(self.bad)
                line = f" (line {self.lines[row]})" if row in self.lines else ""
                raise DataError(f"{path}, row {row}{line}, {self.bad[row]}")
            skipped.add(self.bad, self.total)
        return datasets.Dataset(pyarrow.table(columns))


def _half_characters(values: Mapping[int, Any]) -> dict[int, str]:
    """Rows whose texts no file can hold, and why."""
    found = {}
    for number, value in values.items():
        try:
            require_unicode(value)
        except Unusable as error:
            found[number] = str(error)
    return found


def _odd_values(name: str, values: Mapping[int, Any]) -> dict[int, str]:
    """Rows whose values don't go together with the commonest kind in their column, and why."""
    odd, types = {}, {}
    for number, value in values.items():
        try:
            types[number] = pyarrow.array([value]).type
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
            odd[number] = f"has a value that can't be read in column {name!r}: {shown(value)}; correct it."
    kinds = Counter(kind for number, kind in types.items() if values[number] is not None)
    if not kinds:
        return odd
    common = kinds.most_common(1)[0][0]
    usual = next(values[number] for number, kind in types.items() if kind == common)
    for number, kind in types.items():
        if kind == common or values[number] is None:
            continue
        try:
            pyarrow.array([values[number], usual])
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
            odd[number] = (
                f"has a value of another type than most rows in column {name!r}: {shown(values[number])}; correct it."
            )
    return odd
