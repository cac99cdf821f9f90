"""What a disk says when it refuses a file, as a sentence."""

from __future__ import annotations

import errno
import os
import re

from ..errors import CheckpointError

__all__ = ["refused_by_disk", "unwritable"]

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
