"""Write a file whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import CheckpointError
from .disk import unwritable
from .outputs import refuse_file

__all__ = ["parents", "write_whole"]


def write_whole(text: str, path: str | os.PathLike[str]) -> Path:
    """Write text, whole or not at all, replacing an older report; see :func:`wordelim.system.outputs.refuse_file`.

    The mode of a file that is replaced stays as it was.

    Raises:
        CheckpointError: something else stands there, or the disk refuses.
    """
    target = Path(path).expanduser()
    try:
        with parents(target):
            refuse_file(target)
            # A name that nobody can foresee, made new: what was put there to lead elsewhere isn't followed.
            part = target.with_name(f".wordelim-{secrets.token_hex(8)}")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
            number = os.open(part, flags, 0o666 if mode is None else 0o600)
            try:
                with open(number, "w", encoding="utf-8") as file:
                    if mode is not None:
                        part.chmod(mode)
                    file.write(text)
                refuse_file(target)
                part.replace(target)
            finally:
                with suppress(OSError):
                    part.unlink()
    except CheckpointError:
        raise
    except OSError as error:
        raise unwritable(target, error, other="place") from error
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
