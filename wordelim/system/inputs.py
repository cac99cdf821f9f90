"""Read what a user wrote, within bounds."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["UnreadableError", "irregular", "parse_json", "read_json", "read_text", "read_toml"]

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
