"""Labelled text from a file, a directory or the hub.

Text files are parsed here, not by `datasets`: its CSV reader turns the texts "NA" and "null" into missing values and
fills short rows, its errors name no line, and its cache can outlive a change of the file. So every value of a CSV or
TSV file is text, and a broken row is refused with its number.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
from huggingface_hub import utils as hub_utils

from wordelim.errors import DataError

__all__ = ["read"]

_HUB_BARS: Any = hub_utils  # its progress bar switches are public, but not marked as exported

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SUFFIXES = (*_DELIMITERS, ".jsonl", ".json", ".parquet")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LONGEST_FIELD = 1 << 30  # characters; the csv module's own limit of 131,072 refuses long documents


def read(source: str | os.PathLike[str], *, split: str | None = None) -> datasets.Dataset:
    """Reads labelled text.

    Args:
        source: a file (.csv, .tsv, .jsonl, .json, .parquet; text formats also with .gz), a data set directory, or a
            hub name. Hub names may carry a configuration and a split, `NAME[:CONFIG[:SPLIT]]`: "user/set",
            "nyu-mll/glue:sst2:validation" or, without a configuration, "user/set::train[:500]"; so may directories.
            "glue/sst2" is short for "nyu-mll/glue:sst2". A TSV file has one row a line, quoted or not.
        split: the split to read from a directory or a hub name, instead of one in `source`.

    Returns:
        The rows in the order of the source. Values of CSV and TSV files are text. Local data is read afresh on each
        call.

    Raises:
        DataError: the source is missing, empty, broken (with the line or row), of an unknown kind, or has several
            splits and none was chosen.
    """
    name = os.fspath(source)
    path = Path(name).expanduser()
    if path.is_file():
        if split is not None:
            raise DataError(f"{name} is one file and has no split {split!r}; leave the split out.")
        dataset = _read_file(path)
    elif not path.is_dir() and _suffix(path) in _SUFFIXES:
        raise DataError(f"The data file {name} doesn't exist; check the path.")
    else:
        dataset = _read_named(name, split)
    if not len(dataset):
        raise DataError(f"{name} has no rows; it needs at least one.")
    return dataset


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# --- files ------------------------------------------------------------------------------------------------


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_file(path: Path) -> datasets.Dataset:
    suffix = _suffix(path)
    if suffix not in _SUFFIXES:
        raise DataError(
            f"{path} has an unknown suffix; use one of {', '.join(_SUFFIXES)} (text formats also with .gz)."
        )
    try:
        if suffix == ".parquet":
            return datasets.Dataset(pyarrow.parquet.read_table(path))
        if suffix in _DELIMITERS:
            return _read_delimited(path, _DELIMITERS[suffix])
        return _read_json(path)
    except (pyarrow.ArrowException, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({_first_line(error)}); write it anew.") from error
    except OSError as error:
        raise DataError(f"{path} can't be read ({_first_line(error)}).") from error


def _lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file with their ends, a byte order mark removed."""
    open_: Callable[[Path, str], Any] = gzip.open if path.name.lower().endswith(".gz") else open
    with open_(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}, line {number}, is not UTF-8 text; save the file as UTF-8.") from error


def _read_delimited(path: Path, delimiter: str) -> datasets.Dataset:
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        return _parse_delimited(path, delimiter, csv.QUOTE_MINIMAL)
    except DataError:
        if delimiter != "\t":
            raise
        return _parse_delimited(path, delimiter, csv.QUOTE_NONE)  # GLUE's own TSV files have bare quotes in their texts
    finally:
        csv.field_size_limit(limit)


def _parse_delimited(path: Path, delimiter: str, quoting: Any) -> datasets.Dataset:
    header: list[str] = []
    rows: list[list[str]] = []
    line = 1
    try:
        reader = csv.reader(_lines(path), delimiter=delimiter, quoting=quoting, strict=True)
        for fields in reader:
            first, line = line, reader.line_num + 1
            if not fields:
                continue
            if delimiter == "\t" and reader.line_num > first:
                raise DataError(f"{path}, line {first}: a quoted field goes on in the next line; write one row a line.")
            if not header:
                header = [name.strip() or f"column {index}" for index, name in enumerate(fields, 1)]
                continue
            rows.append(fields)
            if len(fields) != len(header):
                raise DataError(
                    f"{path}, row {len(rows)} (line {first}), has {len(fields)} fields, but the header has "
                    f"{len(header)}; put quotes around a text that holds {delimiter!r} or a quote."
                )
    except csv.Error as error:
        raise DataError(
            f"{path}, row {len(rows) + 1} (line {line}), can't be read: {error}; check its quotes."
        ) from error
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has the column {twice!r} more than once; rename one of them in the header.")
    return datasets.Dataset.from_dict({name: [row[index] for row in rows] for index, name in enumerate(header)})


def _read_json(path: Path) -> datasets.Dataset:
    """One JSON object a line, or one array of objects."""
    text = "".join(_lines(path))
    is_array = text.lstrip().startswith("[")
    rows: list[Any] = []
    for number, document in enumerate([text] if is_array else text.split("\n"), 1):
        if not document.strip():
            continue
        try:
            rows.append(json.loads(document))
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number + error.lineno - 1}, is not valid JSON ({error.msg}); write one object a line, "
                "or one array of objects."
            ) from error
    if is_array:
        (rows,) = rows
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, row {number}, is no JSON object but a {type(row).__name__}; write columns and values."
            )
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = pyarrow.array([row.get(name) for row in rows])
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{path} has values that don't go together in column {name!r} ({_first_line(error)}); give them one "
                "type."
            ) from error
    return datasets.Dataset(pyarrow.table(columns))


# --- directories and the hub ------------------------------------------------------------------------------


def _read_named(source: str, split: str | None) -> datasets.Dataset:
    """A data set directory, or a name on the hub."""
    parts = [source] if source and Path(source).expanduser().is_dir() else source.split(":", 2)
    name, config, own_split = [*parts, "", ""][:3]
    split = split or own_split or None
    path = Path(name).expanduser()
    is_directory = name != "" and path.is_dir()
    if not is_directory and not _HUB_NAME.fullmatch(name):
        raise DataError(f"{source} is no file, no directory and no hub name; check the path.")
    if not is_directory and name.startswith("glue/"):
        name, config = "nyu-mll/glue", config or name.removeprefix("glue/")
    try:
        with _quiet():
            if is_directory:
                loaded = _load_directory(path, config, split)
            else:
                loaded = datasets.load_dataset(name, config or None, split=split)
    except Exception as error:  # `datasets` raises some twenty classes here, with no common base
        raise DataError(f"{source} can't be loaded as a data set: {_first_line(error)}") from error
    if isinstance(loaded, datasets.DatasetDict):
        split = next(iter(loaded)) if split is None and len(loaded) == 1 else split
        if split not in loaded:
            choice = f"{name}:{config}:{next(iter(loaded), 'train')}"
            raise DataError(f"{source} has the splits {', '.join(loaded)}; choose one, as in {choice!r}.")
        loaded = loaded[split]
    return loaded


def _load_directory(path: Path, config: str, split: str | None) -> Any:
    """A directory of data files, or one that `save_to_disk` wrote; without a cache that could go stale."""
    if (path / "state.json").is_file():
        saved = datasets.load_from_disk(str(path))
        return datasets.DatasetDict({str(saved.split or "train"): saved})
    if (path / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(path))
    with tempfile.TemporaryDirectory() as cache:
        return datasets.load_dataset(str(path), config or None, split=split, cache_dir=cache, keep_in_memory=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the progress bars and logs of `datasets` and the hub's client off for a while."""
    level = datasets.logging.get_verbosity()
    shown = [bars for bars in (datasets, _HUB_BARS) if not bars.are_progress_bars_disabled()]
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    for bars in shown:
        bars.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        for bars in shown:
            bars.enable_progress_bars()
