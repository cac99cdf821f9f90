"""``wordelim autoload``."""

from __future__ import annotations

from typing import Annotated

import typer

from .run import Debug

__all__ = ["command"]


def command(
    remove: Annotated[bool, typer.Option("--remove", help="Delete the file that this command writes.")] = False,
    debug: Debug = False,
) -> None:
    """Let programs that never import wordelim load compressed models, where WORDELIM_AUTOLOAD is 1.

    Writes a file of one line into this Python environment, which Python reads at each start. Without the variable it
    does nothing.

    Example: wordelim autoload
    """
    from wordelim.serving import autoload
    from wordelim.system.printable import printable

    path = autoload.remove() if remove else autoload.install()
    typer.echo(printable(f"{'Removed' if remove else 'Written'}: {path}"))
