"""Labelled text from a file, a directory or the hub.

Files are read here, not by `datasets`, whose cache can outlive a change of the file; text files as
:mod:`wordelim.data.textfiles` says.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from huggingface_hub import utils as hub_utils

from ..errors import DataError
from ..system.printable import first_line
from .textfiles import DELIMITERS, Form, read_rows
from .usable import Skipped

__all__ = ["Data", "read"]

Data: TypeAlias = datasets.Dataset | str | os.PathLike[str]
"""A data set, or what :func:`read` reads one from."""

_HUB_BARS: Any = hub_utils  # its progress bar switches are public, but not marked as exported
_SUFFIXES = (*DELIMITERS, ".jsonl", ".json", ".parquet")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def read(
    source: Data,
    *,
    split: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    skipped: Skipped | None = None,
) -> datasets.Dataset:
    """Reads labelled text.

    Args:
        source: a file (.csv, .tsv, .jsonl, .json, .parquet; text formats also with .gz), a data set directory, or a
            hub name. Hub names may carry a configuration and a split, `NAME[:CONFIG[:SPLIT]]`: "user/set",
            "nyu-mll/glue:sst2:validation" or, without a configuration, "user/set::train[:500]"; so may directories.
            "glue/sst2" is short for "nyu-mll/glue:sst2". A data set is returned as it is.
        split: the split to read from a directory or a hub name, instead of one in `source`.
        delimiter: what stands between the fields of a CSV or TSV file, one character or "tab"; None for what its suffix
            says or, where its header has none of these, for a comma, semicolon, tab or bar.
        encoding: of a text file, by Python's name; None for UTF-8.
        skipped: takes the rows of a text file that can't be read; None refuses them.

    Returns:
        The rows in the order of the source. Values of CSV and TSV files are text. Local data is read afresh on each
        call.

    Raises:
        DataError: the source is missing, empty, broken (with the line or row), of an unknown kind, no regular file, or
            has several splits and none was chosen; or `delimiter` or `encoding` is none.
    """
    if isinstance(source, datasets.Dataset):
        return source
    name = os.fspath(source)
    path = Path(name).expanduser()
    form = Form(_delimiter(delimiter), _encoding(encoding), skipped)
    _require_regular(name, [path])
    if path.is_file():
        if split is not None:
            raise DataError(f"{name} is one file and has no split {split!r}; leave the split out.")
        dataset = _read_file(path, form)
    elif not path.is_dir() and _suffix(path) in _SUFFIXES:
        raise DataError(f"The data file {name} doesn't exist; check the path.")
    else:
        dataset = _read_named(name, split)
    if not len(dataset):
        raise DataError(f"{name} has no rows; it needs at least one.")
    return dataset


def _delimiter(given: str | None) -> str | None:
    found = "\t" if given in ("tab", "\\t") else given
    if found is not None and (len(found) != 1 or found in '"\r\n' or found.isalnum()):
        raise DataError(f"The delimiter {given!r} can't stand between fields: give one character, such as ';', or tab.")
    return found


def _encoding(given: str | None) -> str | None:
    if given is None:
        return None
    try:
        "".encode(given)  # refuses also those that aren't of texts
        return codecs.lookup(given).name
    except (LookupError, UnicodeError, ValueError):
        raise DataError(f"The encoding {given!r} is unknown: give one such as utf-8, utf-16 or cp1252.") from None


def _require_regular(name: str, files: Iterable[Path]) -> None:
    """Refuse what has no end or has to be waited for: a pipe, a socket or a device."""
    try:
        odd = next((file for file in files if file.exists() and not (file.is_file() or file.is_dir())), None)
    except OSError as error:
        raise DataError(f"{name} can't be read ({first_line(error)}); check the path.") from error
    if odd is not None:
        raise DataError(f"{odd} is no regular file but a pipe, a socket or a device: write the data to a file first.")


# --- files ------------------------------------------------------------------------------------------------


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_file(path: Path, form: Form) -> datasets.Dataset:
    suffix = _suffix(path)
    if suffix not in _SUFFIXES:
        raise DataError(
            f"{path} has an unknown suffix; use one of {', '.join(_SUFFIXES)} (text formats also with .gz)."
        )
    try:
        if suffix == ".parquet":
            return _read_parquet(path)
        return read_rows(path, suffix, form)
    except (pyarrow.ArrowException, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({first_line(error)}); write it anew.") from error
    except OSError as error:
        raise DataError(f"{path} can't be read ({first_line(error)}).") from error


def _read_parquet(path: Path) -> datasets.Dataset:
    names = pyarrow.parquet.read_schema(path).names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has the column {twice!r} more than once; rename one of them.")
    table = pyarrow.parquet.read_table(path)
    for at, field_ in enumerate(table.schema):
        if pyarrow.types.is_map(field_.type):  # `datasets` knows no maps: names and values are the same without one
            pairs = pyarrow.struct([("key", field_.type.key_type), ("value", field_.type.item_type)])
            field_ = pyarrow.field(field_.name, pyarrow.list_(pairs))
            table = table.set_column(at, field_, table.column(at).cast(field_.type))
        try:
            datasets.Features.from_arrow_schema(pyarrow.schema([field_]))
        except ValueError:
            raise DataError(
                f"{path} has the column {field_.name!r} of type {field_.type}, which can't be read: leave it out of "
                "the file, or write it as text."
            ) from None
    return datasets.Dataset(table)


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
    except DataError:
        raise
    except Exception as error:  # `datasets` raises some twenty classes here, with no common base
        raise DataError(f"{source} can't be loaded as a data set: {first_line(error)}") from error
    if isinstance(loaded, datasets.DatasetDict):
        split = next(iter(loaded)) if split is None and len(loaded) == 1 else split
        if split not in loaded:
            choice = f"{name}:{config}:{next(iter(loaded), 'train')}"
            raise DataError(f"{source} has the splits {', '.join(loaded)}; choose one, as in {choice!r}.")
        loaded = loaded[split]
    return loaded


def _load_directory(path: Path, config: str, split: str | None) -> Any:
    """A directory of data files, or one that `save_to_disk` wrote; without a cache that could go stale."""
    _require_regular(str(path), path.rglob("*"))
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
