"""Load compressed directories in programs that never import wordelim: a line that Python runs at its start."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from ..errors import WordelimError

__all__ = ["LINE", "NAME", "install", "remove"]

NAME = "wordelim-autoload.pth"
LINE = 'import os; os.environ.get("WORDELIM_AUTOLOAD") == "1" and __import__("wordelim")\n'
"""What the file says. Python runs lines of such files that begin with an import."""


def _place(directory: Path | None) -> Path:
    return Path(sysconfig.get_path("purelib") if directory is None else directory) / NAME


def install(directory: Path | None = None) -> Path:
    """Write the file into this environment; it does nothing in processes without ``WORDELIM_AUTOLOAD=1``.

    Args:
        directory: where packages lie; None for this Python's own.

    Raises:
        WordelimError: the directory can't be written.
    """
    path = _place(directory)
    try:
        path.write_text(LINE, encoding="utf-8")
    except OSError as error:
        raise WordelimError(
            f"{path} can't be written ({error.strerror}): make an environment of your own (python -m venv)."
        ) from error
    return path


def remove(directory: Path | None = None) -> Path:
    """Delete the file, where it is there; returns where it was.

    Raises:
        WordelimError: it can't be deleted.
    """
    path = _place(directory)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WordelimError(f"{path} can't be deleted ({error.strerror}): delete it as its owner.") from error
    return path
