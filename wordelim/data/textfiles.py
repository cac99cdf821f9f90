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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from ..errors import DataError
from .cells import read_json
from .parsed import Parsed
from .usable import Skipped

__all__ = ["DELIMITERS", "Form", "read_rows"]

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
    return parsed.table(path, form.skipped)


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


def _read_delimited(path: Path, suffix: str, form: Form) -> Parsed:
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


def _parse_delimited(path: Path, delimiter: str, form: Form, quoting: Any) -> Parsed:
    parsed, row, line = Parsed(), 0, 1
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


def _read_json(path: Path, form: Form) -> Parsed:
    """One JSON object a line, or one array of objects."""
    broken: set[int] | None = None if form.skipped is None else set()
    lines = list(_lines(path, form, broken))
    start = next((line.lstrip() for line in lines if line.strip()), "")
    if start.startswith("["):
        if broken:
            raise DataError(f"{path}, line {min(broken)}, {_no_text(form)}")
        return _parse_array(path, "".join(lines))
    parsed, row = Parsed(), 0
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


def _parse_array(path: Path, text: str) -> Parsed:
    parsed = Parsed()
    try:
        rows = read_json(text)
    except json.JSONDecodeError as error:
        raise _no_json(path, error.lineno, error.msg) from error
    except ValueError as error:
        raise _no_json(path, 1, str(error)) from error
    for number, row in enumerate(rows, 1):
        _add_object(parsed, number, row)
    return parsed


def _add_object(parsed: Parsed, number: int, row: Any) -> None:
    if isinstance(row, dict):
        parsed.rows[number] = row
    else:
        parsed.bad[number] = f"is no JSON object but a {type(row).__name__}; write columns and values."


def _no_json(path: Path, line: int, why: str) -> DataError:
    return DataError(
        f"{path}, line {line}, is not valid JSON ({why}); write one object a line, or one array of objects."
    )
