"""Read what a user wrote, within bounds; write a file whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from .errors import CheckpointError

__all__ = [
    "UnreadableError",
    "irregular",
    "parents",
    "parse_json",
    "read_json",
    "read_text",
    "read_toml",
    "require_writable",
    "write_whole",
]

# Greater than any tokenizer.json; what is read here is held in memory whole.
_MOST_BYTES = 1 << 28


class UnreadableError(ValueError):
    """What is wrong with a file that can't be read, as the end of a sentence that begins with its name."""


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a regular file, in UTF-8.

    Raises:
        UnreadableError: it is missing, no regular file (which could go on for ever), too large, or no UTF-8.
    """
    target = Path(path).expanduser()
    try:
        reason = irregular(target)
        if reason is not None:
            raise UnreadableError(reason)
        # Without waiting: the file may have become a FIFO since.
        with open(os.open(target, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise UnreadableError("doesn't exist") from None
    except OSError as error:
        raise UnreadableError(f"can't be opened ({error.strerror or error})") from error
    if len(content) > _MOST_BYTES:
        raise UnreadableError(f"is larger than {_MOST_BYTES >> 20} MB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"isn't text in UTF-8 from byte {error.start} on") from error


def irregular(path: Path) -> str | None:
    """Why what stands there isn't a regular file, such as a FIFO, which nothing may ever be read from; else None.

    Raises:
        OSError: nothing stands there.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return None
    return "is a directory" if stat.S_ISDIR(mode) else "isn't a regular file"


def read_json(path: str | os.PathLike[str], *, finite: bool = False) -> Any:
    """What a file of JSON holds; UnreadableError as :func:`read_text`, and as :func:`parse_json`."""
    return parse_json(read_text(path), finite=finite)


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file of TOML holds; UnreadableError as :func:`read_text`, and where it isn't TOML that can be read."""
    return dict(_parsed(tomllib.loads, read_text(path), "TOML"))


def parse_json(text: str | bytes, *, finite: bool = False) -> Any:
    """What JSON says; UnreadableError where it isn't valid, nests too deep, or has a number of too many digits.

    Args:
        finite: refuse NaN and Infinity too, which Python writes and reads though JSON has no form for them.
    """
    return _parsed(partial(json.loads, parse_constant=_no_number if finite else None), text, "JSON")


def _no_number(name: str) -> NoReturn:
    raise UnreadableError(f"holds {name}, which is no number")


def _parsed(parse: Callable[[Any], Any], text: str | bytes, form: str) -> Any:
    try:
        return parse(text)
    except RecursionError:
        raise UnreadableError("nests too deep") from None
    except UnreadableError:
        raise
    except ValueError as error:
        # Python bounds the digits of an integer; no parser has an error of its own for that.
        if type(error) is ValueError:
            raise UnreadableError("holds a number of too many digits") from None
        raise UnreadableError(f"is not valid {form}: {str(error).rstrip('.')}") from error


def require_writable(path: str | os.PathLike[str]) -> None:
    """Refuse a file that couldn't be written, before the work whose result it is to hold; leaves nothing behind.

    Raises:
        CheckpointError: it is a directory, or nothing can be written where it is to stand.
    """
    target = Path(path).expanduser()
    if target.is_dir():
        raise CheckpointError(f"{target} is a directory: name a file in it.")
    above = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    try:
        # Tried, not asked: root has every permission, and yet can't write to a read-only disk.
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        reason = error.strerror if above.is_dir() else f"{above} is a file"
        raise CheckpointError(f"{target} can't be written ({reason}): name another place.") from error


def write_whole(text: str, path: str | os.PathLike[str]) -> Path:
    """Write text, whole or not at all, replacing an older file.

    Raises:
        CheckpointError: the disk refuses.
    """
    target = Path(path).expanduser()
    part = target.with_name(f".{target.name}.part")
    try:
        with parents(target):
            try:
                part.write_text(text, encoding="utf-8")
                part.replace(target)
            finally:
                with suppress(OSError):
                    part.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{target} can't be written ({reason}): make room, or name another.") from error
    return target


@contextmanager
def parents(target: Path) -> Iterator[None]:
    """Make the directories above ``target``, and take the new ones away when the block fails."""
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise
