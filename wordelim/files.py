"""Write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import CheckpointError

__all__ = ["parents", "require_writable", "write_whole"]


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
