"""Write a file whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import CheckpointError
from .outputs import refuse_file

__all__ = ["parents", "refused_by_disk", "unwritable", "write_whole"]

_ELSEWHERE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP)
# What torch says, without a number, where the disk refuses what it saves.
_TORCH = re.compile(r"PytorchStreamWriter|inline_container|iostream error")


def unwritable(
    path: str | os.PathLike[str], error: BaseException, *, left: str = "", other: str = ""
) -> CheckpointError:
    """The sentence on a disk that refused a file: why, and what to do.

    Args:
        error: of the operating system, or of a library that wrote.
        left: what else there is to say of the path.
        other: what another place is called; an output unless given.
    """
    number = _number(error)
    room = "" if number in _ELSEWHERE else "make room, or "
    return CheckpointError(f"{path} can't be written ({_reason(error)}){left}: {room}name another {other or 'output'}.")


def refused_by_disk(error: BaseException) -> bool:
    """Whether a library's own error says that the disk refused what torch was to save."""
    return isinstance(error, RuntimeError) and _TORCH.search(str(error)) is not None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = re.search(r"os error (\d+)", str(error))  # as safetensors says it
    return int(said[1]) if said else None


def _reason(error: BaseException) -> str:
    number = _number(error)
    if number is not None:
        return os.strerror(number)
    if refused_by_disk(error):
        return "the disk refused what torch saves"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


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
