"""May this be written, and what stands there be replaced? One answer for every file and directory that is written.

Nothing that a run reads is ever replaced, and nothing else that wordelim didn't write: of directories also other models
where ``force`` says so, of files none.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import datasets

from ..errors import CheckpointError
from .recognised import is_report, stranger_in

__all__ = ["Inputs", "refuse_existing", "refuse_file", "refuse_files", "refuse_inputs"]

Inputs: TypeAlias = Mapping[str, Any]
"""What a run reads, by what it is called in a sentence: paths, hub names, data sets, or None."""


def refuse_existing(output: str | os.PathLike[str], *, force: bool = False, inputs: Inputs | None = None) -> None:
    """Refuse an output directory that may not be written or, where it is there, replaced; touches nothing.

    Args:
        force: replace a directory that wordelim wrote, or that holds a model and nothing else.
        inputs: what the run reads: none of it may be, hold or lie in ``output``.

    Raises:
        CheckpointError: the sentence says why, and what to do.
    """
    target = Path(output).expanduser()
    status = _status(target, f"Output {str(output)!r} can't be made")
    linked = status is not None and stat.S_ISLNK(status.st_mode)
    if status is not None and not linked and not stat.S_ISDIR(status.st_mode):
        raise CheckpointError(f"Output {str(output)!r} is a file: name a directory.")
    _refuse_within(target, f"Output {str(output)!r}", inputs or {})
    if linked:
        raise CheckpointError(f"Output {str(output)!r} is a symbolic link: name the directory that it leads to.")
    if status is not None:
        if not force:
            raise CheckpointError(
                f"Output directory {str(output)!r} exists: name another, or pass --force to replace it."
            )
        _refuse_replacing(target, output, inputs or {})
    above = next(parent for parent in target.absolute().parents if parent.exists())
    if not above.is_dir():
        raise CheckpointError(f"Output {str(output)!r} can't be made: {above} is a file; name another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise CheckpointError(f"Output {str(output)!r} can't be made: {above} isn't writable; name another place.")


def refuse_inputs(folder: str | os.PathLike[str], inputs: Inputs) -> None:
    """Refuse a directory that is to be written or deleted where an input of the run is, holds or lies in it.

    Raises:
        CheckpointError: one is.
    """
    target, name = Path(folder).expanduser(), f"Output {str(folder)!r}"
    _refuse_within(target, name, inputs)
    _refuse_holding(target, name, inputs)


def refuse_files(asked: Mapping[str, str | os.PathLike[str] | None], inputs: Inputs) -> None:
    """Ask of all the files that a run is to write, by their options, before its work; see :func:`refuse_file`.

    Raises:
        CheckpointError: one may not be written, or two are one.
    """
    named = {option: Path(path).expanduser() for option, path in asked.items() if path is not None}
    for option, target in named.items():
        refuse_file(target, inputs)
        for other, second in named.items():
            if other == option:
                break
            if _same(target, second) or os.path.realpath(target) == os.path.realpath(second):
                raise CheckpointError(f"{other} and {option} name the same file, {str(target)!r}: name two.")
            for file, below in ((target, second), (second, target)):
                if _is_in(below, file):
                    raise CheckpointError(f"{file} is to be a file, so {below} can't be in it: name another place.")


def refuse_file(path: str | os.PathLike[str], inputs: Inputs | None = None) -> None:
    """Refuse a file that may not be written or, where it is there, replaced; leaves nothing behind.

    Args:
        inputs: what the run reads: ``path`` may be none of it, and lie in none of its directories.

    Raises:
        CheckpointError: it is an input, no regular file, holds what wordelim didn't write, or can't be written.
    """
    target = Path(path).expanduser()
    status = _status(target, f"{target} can't be written")
    _refuse_within(target, str(target), inputs or {})
    if status is not None:
        if stat.S_ISDIR(status.st_mode):
            raise CheckpointError(f"{target} is a directory: name a file in it.")
        if stat.S_ISLNK(status.st_mode):
            raise CheckpointError(f"{target} is a symbolic link: name the file that it leads to.")
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{target} is a device, a pipe or a socket: name a file.")
        if status.st_size and not is_report(target):
            raise CheckpointError(f"{target} exists and is no report of wordelim: name another, or delete it first.")
    above = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    try:
        # Tried, not asked: root has every permission, and yet can't write to a read-only disk.
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        reason = error.strerror if above.is_dir() else f"{above} is a file"
        raise CheckpointError(f"{target} can't be written ({reason}): name another place.") from error


def _status(target: Path, what: str) -> os.stat_result | None:
    """What stands there itself, not what it leads to; None for nothing."""
    try:
        return target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{what} ({reason}): name another place.") from error


def _paths(inputs: Inputs) -> Iterator[tuple[str, Path]]:
    """Every local file and directory of the inputs, by the name that was given and by that to which links lead."""
    for what, source in inputs.items():
        given = [file["filename"] for file in source.cache_files] if isinstance(source, datasets.Dataset) else [source]
        for one in given:
            if not isinstance(one, (str, os.PathLike)):
                continue
            name = os.path.expanduser(os.fspath(one))
            # Directories of data may have a configuration and a split behind them.
            found = next((part for part in (name, name.partition(":")[0]) if part and os.path.lexists(part)), None)
            if found is not None:
                ways = [os.path.abspath(found), os.path.realpath(found), *_led_to(found)]
                for path in dict.fromkeys(ways):
                    yield what, Path(path)


def _led_to(folder: str) -> Iterator[str]:
    """Where the links in a folder lead, such as those of a cached model to its files."""
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(above, name)
            if os.path.islink(path):
                yield os.path.realpath(path)


def _refuse_within(target: Path, name: str, inputs: Inputs) -> None:
    for what, path in _paths(inputs):
        if _same(target, path):
            raise CheckpointError(f"{name} is the {what} itself: name another.")
        if path.is_dir() and _is_in(target, path):
            raise CheckpointError(f"{name} is in the {what}, {path}: name a place outside it.")


def _refuse_holding(target: Path, name: str, inputs: Inputs) -> None:
    for what, path in _paths(inputs):
        if _is_in(path, target):
            raise CheckpointError(f"{name} holds the {what}, {path}, which would be deleted: name another.")


def _refuse_replacing(target: Path, output: str | os.PathLike[str], inputs: Inputs) -> None:
    """Refuse a directory that isn't a model and nothing else, or without which something else would be lost."""
    _refuse_holding(target, f"Output directory {str(output)!r}", inputs)
    stranger = stranger_in(target)
    if stranger is not None:
        raise CheckpointError(
            f"Output directory {str(output)!r} holds something else than a model ({stranger}), which --force doesn't "
            "replace: name another."
        )
    for what, place in (("working directory", Path(os.path.abspath("."))), ("home directory", Path("~").expanduser())):
        if _same(target, place) or _is_in(place, target):
            raise CheckpointError(f"Output directory {str(output)!r} holds the {what}: name another.")


def _same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except (OSError, ValueError):
        return os.path.abspath(first) == os.path.abspath(second)


def _is_in(path: Path, folder: Path) -> bool:
    """Whether a path lies below a folder, by whatever names and links."""
    ways = {Path(os.path.abspath(path)), Path(os.path.realpath(path))}
    return any(_same(parent, folder) for way in ways for parent in way.parents)
