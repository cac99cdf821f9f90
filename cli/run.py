"""What every command shares: quiet libraries, progress on stderr, errors as one sentence, exit codes."""

from __future__ import annotations

import functools
import json
import logging
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from wordelim.errors import WordelimError

__all__ = ["NOT_MET", "Config", "Debug", "Json", "errors", "guarded", "print_json", "progress"]

NOT_MET = 3
"""Exit code when the drop or the speed-up asked for was not reached."""

errors = Console(stderr=True, soft_wrap=True, highlight=False)

Command = TypeVar("Command", bound=Callable[..., Any])


def _read_config(context: typer.Context, value: Path | None) -> Path | None:
    if value is None:
        return None
    try:
        names = tomllib.loads(value.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{value} can't be read as TOML: {error}.") from error
    known = {parameter.name for parameter in context.command.params}
    defaults = {name.replace("-", "_"): setting for name, setting in names.items()}
    for name in defaults:
        if name not in known:
            raise typer.BadParameter(f"{value} sets {name!r}, which is no option of this command.")
    context.default_map = {**(context.default_map or {}), **defaults}
    return value


Config = Annotated[
    Path | None,
    typer.Option("--config", callback=_read_config, is_eager=True, help="TOML file with options by the same names."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and what libraries log.")]
Json = Annotated[bool, typer.Option("--json", help="Print the whole report as JSON on stdout.")]


def guarded(command: Command) -> Command:
    """Turn a WordelimError into one sentence on stderr and exit code 1, and keep libraries quiet, unless --debug."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        debug = bool(kwargs.get("debug"))
        if not debug:
            _silence()
        try:
            return command(*args, **kwargs)
        except WordelimError as error:
            if debug:
                raise
            errors.print(f"[bold red]error:[/] {_escaped(str(error))}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            errors.print("Interrupted: nothing was written.")
            raise typer.Exit(130) from None

    return run  # type: ignore[return-value]


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _silence() -> None:
    import warnings

    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|accelerate|datasets)(\.|$)")


def print_json(data: Mapping[str, Any]) -> None:
    """Print plain data on stdout."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """One progress display on stderr; a line a stage where stderr is no terminal."""
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def say(stage: str, share: float) -> None:
            if stage not in seen:
                seen.add(stage)
                errors.print(stage)

        yield say
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as display:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = display.add_task(stage, total=1.0)
            display.update(tasks[stage], completed=share)

        yield show
