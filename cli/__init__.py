"""The command line: one file a command, no logic."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from wordelim._version import __version__
from wordelim.system.printable import printable

from . import autoload, bench, check, compress, demo, explain, export, inspect, probe, push
from .run import guarded

__all__ = ["app", "main"]

# Columns below which boxes leave too little room for the names of options.
_NARROW = 60
_CONTEXT = {"help_option_names": ["-h", "--help"]}


class _Group(TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # What is no bool goes through pydantic, which takes longer to import than all else: an unset flag is False.
        for parameter in self.get_params(ctx):
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _printable_usage():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _printable_usage():
            return super().invoke(ctx)


@contextmanager
def _printable_usage() -> Iterator[None]:
    """Errors of usage quote what was given, in a configuration file too, and typer prints them as they are."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = printable(message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    name="wordelim",
    cls=_Group,
    help="Make fine-tuned BERT models faster by dropping word vectors layer by layer.",
    epilog="Begin with: wordelim probe my-bert --validation dev.csv. Examples: wordelim COMMAND --help.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)
_FASTER, _PROOF, _INSIDE = (probe, compress, demo, push), (check, bench), (explain, inspect)
_PANELS = {"Make faster": _FASTER, "Prove": _PROOF, "Serve": (export, autoload), "Look inside": _INSIDE}
for _panel, _modules in _PANELS.items():
    for _module in _modules:
        _name = _module.__name__.rpartition(".")[2]
        app.command(_name, rich_help_panel=_panel)(guarded(_module.command, together=_module is compress))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wordelim {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the ``wordelim`` command."""
    columns = shutil.get_terminal_size().columns
    if columns < _NARROW:
        app.rich_markup_mode = None
        app.info.context_settings = {**_CONTEXT, "terminal_width": columns}
    try:
        app()
    except Exception:  # with --debug
        typer.echo(printable(traceback.format_exc()), err=True, nl=False)
        sys.exit(1)
