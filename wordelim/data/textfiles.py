"""The rows of a text file: CSV, TSV or JSON.

They are parsed here, not by `datasets`: its CSV reader turns the texts "NA" and "null" into missing values and fills
short rows, and its errors name no line. So every value of a CSV or TSV file is text, and a broken row is refused, or
left out, with its number.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow

from ..errors import DataError
from .cells import read_json, require_unicode, shown
from .usable import Skipped, Unusable

__all__ = ["DELIMITERS", "Form", "first_line", "read_rows"]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""What stands between the fields of a file, by its suffix."""

_SEPARATORS = (",", ";", "\t", "|")
_LONGEST_FIELD = 1 << 30  # characters; the csv module's own limit of 131,072 refuses long documents


@dataclass(frozen=True)
class Form:
    """How a text file is to be read, and what takes the rows that can't be; None for the usual, and to refuse them."""

    delimiter: str | None = None
    encoding: str | None = None
    skipped: Skipped | None = None


def read_rows(path: Path, suffix: str, form: Form) -> datasets.Dataset:
    """The rows of a CSV, TSV or JSON file.

    Args:
        suffix: which of these it is.

    Raises:
        DataError: it is broken, or too many of its rows are.
        OSError: it can't be read; of a damaged .gz file also EOFError and zlib.error.
    """
    parsed = _read_delimited(path, suffix, form) if suffix in DELIMITERS else _read_json(path, form)
    return _table(path, parsed, form.skipped)


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass
class _Parsed:
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


def _table(path: Path, parsed: _Parsed, skipped: Skipped | None) -> datasets.Dataset:
    """The rows that can be read; where others can't, DataError or a note in `skipped`."""
    names = list(parsed.header or dict.fromkeys(name for row in parsed.rows.values() for name in row))
    columns: dict[str, Any] = {}
    for name in names:
        values = {number: row.get(name) for number, row in parsed.rows.items()}
        try:
            name.encode()  # else pyarrow refuses all columns together
            columns[name] = pyarrow.array(values.values())
            continue
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            odd = _half_characters(values) or (_odd_values(name, values) if skipped is not None else {})
            if not odd:
                raise DataError(
                    f"{path} has values that don't go together in column {name!r} ({first_line(error)}); give them "
                    "one type."
                ) from error
        parsed.bad |= odd
        parsed.rows = {number: row for number, row in parsed.rows.items() if number not in odd}
        return _table(path, parsed, skipped)
    if parsed.bad:
        if skipped is None:
            row = min(parsed.bad)
            line = f" (line {parsed.lines[row]})" if row in parsed.lines else ""
            raise DataError(f"{path}, row {row}{line}, {parsed.bad[row]}")
        skipped.add(parsed.bad, parsed.total)
    return datasets.Dataset(pyarrow.table(columns))


def _half_characters(values: Mapping[int, Any]) -> dict[int, str]:
    """Rows whose texts no file can hold, and why."""
    found = {}
    for number, value in values.items():
        try:
            _require_texts(value)
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


def _require_texts(value: Any) -> None:
    if isinstance(value, str):
        require_unicode(value)
    elif isinstance(value, (list, dict)):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _require_texts(inner)


def _lines(path: Path, form: Form, broken: set[int] | None = None) -> Iterator[str]:
    """The lines of a text file with their ends, a byte order mark removed.

    Args:
        broken: takes the numbers of lines that aren't text, which come out changed then; None refuses them.
    """
    open_: Callable[[Path, str], Any] = gzip.open if path.name.lower().endswith(".gz") else open
    encoding = form.encoding or "utf-8"
    with open_(path, "rb") as file:
        if "\n".encode(encoding) != b"\n":  # its lines can't be told apart before they are decoded
            try:
                yield from io.StringIO(file.read().decode(encoding), newline="")
            except UnicodeError as error:
                raise DataError(f"{path} {_no_text(form)}") from error
            return
        for number, line in enumerate(file, 1):
            begins = "utf-8-sig" if number == 1 and encoding == "utf-8" else encoding
            try:
                text = line.decode(begins)
                # Without any line feed, lines may end in carriage returns alone.
                yield from io.StringIO(text, newline="") if number == 1 and not text.endswith("\n") else (text,)
            except UnicodeError as error:
                if broken is None:
                    raise DataError(f"{path}, line {number}, {_no_text(form)}") from error
                broken.add(number)
                yield line.decode(begins, "replace")


def _no_text(form: Form) -> str:
    return f"is not {(form.encoding or 'utf-8').upper()} text; save the file as UTF-8, or name its --encoding."


def _read_delimited(path: Path, suffix: str, form: Form) -> _Parsed:
    """A file with a header, parsed in the way that leaves the fewest rows unread.

    GLUE's own TSV files have bare quotes in their texts, so that a TSV file may have no quoting; pandas quotes.
    """
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        delimiter = form.delimiter or _separator(path, suffix, form)
        try:
            found = _parse_delimited(path, delimiter, form, csv.QUOTE_MINIMAL)
        except DataError:
            if delimiter != "\t":
                raise
            found = _parse_delimited(path, delimiter, form, csv.QUOTE_NONE)
        if delimiter == "\t" and found.bad:
            raw = _parse_delimited(path, delimiter, form, csv.QUOTE_NONE)
            found = raw if len(raw.bad) < len(found.bad) else found
    finally:
        csv.field_size_limit(limit)
    twice = next((name for name in found.header if found.header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has the column {twice!r} more than once; rename one of them in the header.")
    return found


def _separator(path: Path, suffix: str, form: Form) -> str:
    """What the suffix says, unless the header has one field by that and several by another."""
    usual = DELIMITERS[suffix]
    header = next((line for line in _lines(path, form, set()) if line.strip()), "")
    counts = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in _SEPARATORS}
    others = [mark for mark, count in counts.items() if count > 1]
    if counts[usual] > 1 or not others:
        return usual
    if len(others) > 1:
        marks = " and ".join(map(repr, others))
        raise DataError(f"{path} has {marks} in its header, but no {usual!r}: name its delimiter with --delimiter.")
    return others[0]


def _parse_delimited(path: Path, delimiter: str, form: Form, quoting: Any) -> _Parsed:
    parsed, row, line = _Parsed(), 0, 1
    header: list[str] = []
    broken: set[int] | None = None if form.skipped is None else set()
    reader = csv.reader(_lines(path, form, broken), delimiter=delimiter, quoting=quoting, strict=True)
    while True:
        problem = None
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            fields, problem = [""], f"can't be read: {error}; check its quotes."
        first, line = line, reader.line_num + 1
        if not fields:
            continue
        if not header:
            if problem is None and broken:
                problem = _no_text(form)
            if problem is not None:
                raise DataError(f"{path}, line {first}, {problem}")
            header = parsed.header = [name.strip() or f"column {index}" for index, name in enumerate(fields, 1)]
            continue
        row += 1
        several = reader.line_num > first
        if problem is None and len(fields) != len(header):
            problem = (
                f"has {len(fields)} fields, but the header has {len(header)}; put quotes around a text that holds "
                f"{delimiter!r} or a quote, or name another delimiter with --delimiter."
            )
        # So it looks where GLUE's bare quotes of two rows meet.
        if several and delimiter == "\t" and any("\t" in field and "\n" in field for field in fields):
            problem = "has a quoted field that goes on in the next line and holds a tab; write one row a line."
        if problem is not None and several:
            # One quote too many makes one row of many, so that this isn't a row that could be left out.
            raise DataError(f"{path}, row {row} (line {first}), {problem}")
        if broken and not broken.isdisjoint(range(first, line)):
            problem = _no_text(form)
        if problem is None:
            parsed.rows[row] = dict(zip(header, fields, strict=True))
        else:
            parsed.refuse(row, first, problem)
    return parsed


def _read_json(path: Path, form: Form) -> _Parsed:
    """One JSON object a line, or one array of objects."""
    broken: set[int] | None = None if form.skipped is None else set()
    lines = list(_lines(path, form, broken))
    start = next((line.lstrip() for line in lines if line.strip()), "")
    if start.startswith("["):
        if broken:
            raise DataError(f"{path}, line {min(broken)}, {_no_text(form)}")
        return _parse_array(path, "".join(lines))
    parsed, row = _Parsed(), 0
    for number, document in enumerate(lines, 1):
        if not document.strip():
            continue
        row += 1
        try:
            if broken and number in broken:
                raise ValueError(_no_text(form).rstrip("."))
            _add_object(parsed, row, read_json(document))
        except ValueError as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            if form.skipped is None:
                raise _no_json(path, number, why) from error
            parsed.refuse(row, number, f"is not valid JSON ({why}).")
    return parsed


def _parse_array(path: Path, text: str) -> _Parsed:
    parsed = _Parsed()
    try:
        rows = read_json(text)
    except json.JSONDecodeError as error:
        raise _no_json(path, error.lineno, error.msg) from error
    except ValueError as error:
        raise _no_json(path, 1, str(error)) from error
    for number, row in enumerate(rows, 1):
        _add_object(parsed, number, row)
    return parsed


def _add_object(parsed: _Parsed, number: int, row: Any) -> None:
    if isinstance(row, dict):
        parsed.rows[number] = row
    else:
        parsed.bad[number] = f"is no JSON object but a {type(row).__name__}; write columns and values."


def _no_json(path: Path, line: int, why: str) -> DataError:
    return DataError(
        f"{path}, line {line}, is not valid JSON ({why}); write one object a line, or one array of objects."
    )
