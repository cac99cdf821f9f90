"""One run at a time: whoever works in a folder holds it, and a second run is told who that is."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import CheckpointError
from .disk import unwritable
from .processes import is_main

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["LOCK", "hold"]

LOCK = "lock"
"""Name of the file in the folder that says who holds it."""

_UNSERVED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_TRIES = 100


@contextmanager
def hold(folder: Path | None) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, and taken away behind where nothing is left in it.

    Of several processes of one launch the main one holds it for all. The operating system lets go of what a process
    held that was killed. Folders on network disks that don't serve locks aren't held.

    Raises:
        CheckpointError: another run holds it, or it can't be made.
    """
    if folder is None or not is_main():
        yield
        return
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    held: int | None = None
    try:
        held = _take(folder)
        yield
    except OSError as error:
        if held is not None or isinstance(error, CheckpointError):
            raise
        raise unwritable(folder, error) from error
    finally:
        if held is not None:
            with suppress(OSError):
                if os.path.samestat(os.fstat(held), (folder / LOCK).stat()):
                    (folder / LOCK).unlink()
            os.close(held)
        for path in dict.fromkeys((folder, *missing)):
            with suppress(OSError):
                path.rmdir()


def _take(folder: Path) -> int:
    """The open file that stands for holding the folder."""
    path = folder / LOCK
    for _ in range(_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            number = _open(path)
        except FileNotFoundError:  # whoever held it has just taken the folder away
            continue
        if number is None:
            raise CheckpointError(
                f"{folder} is in use by another run ({_holder(path)}): wait until that ends, or name another output."
            )
        with suppress(OSError):
            if os.path.samestat(os.fstat(number), path.stat()):  # else it has just been deleted
                os.ftruncate(number, 0)
                os.write(number, json.dumps(_myself()).encode())
                return number
        os.close(number)
    raise CheckpointError(f"{folder} can't be held: other runs begin and end in it; name another output.")


def _open(path: Path) -> int | None:
    """The lock file, locked; None where another run has it."""
    options = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    if fcntl is None:
        return _create(path, options | os.O_EXCL)
    number = os.open(path, options, 0o666)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNSERVED:
            os.close(number)
            return None
    return number


def _create(path: Path, options: int) -> int | None:
    """The same where the system has no such locks: the file's being there is the lock, as long as its process lives."""
    with suppress(FileExistsError):
        return os.open(path, options, 0o666)
    if _lives(_read(path)):
        return None
    with suppress(FileNotFoundError):
        path.unlink()
    try:
        return os.open(path, options, 0o666)
    except FileExistsError:
        return None


def _lives(holder: dict[str, Any]) -> bool:
    from psutil import pid_exists  # type: ignore[import-untyped]

    here = holder.get("host") == socket.gethostname()
    return not here or not isinstance(holder.get("pid"), int) or pid_exists(holder["pid"])


def _myself() -> dict[str, Any]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _holder(path: Path) -> str:
    holder = _read(path)
    if not {"pid", "host", "since"} <= {*holder}:
        return f"{path} doesn't say which"
    return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
