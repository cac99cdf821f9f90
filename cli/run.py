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
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from wordelim.distributed import is_main
from wordelim.errors import NotMetError, WordelimError

if TYPE_CHECKING:
    from wordelim.compress import CompressionResult

__all__ = ["NOT_MET", "Config", "Debug", "Json", "errors", "finish", "guarded", "print_json", "progress"]

FAILED, NOT_MET, INTERRUPTED = 1, 3, 130
"""Exit codes: an error; the drop or the speed-up asked for was not reached; Ctrl-C."""

errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)

Command = TypeVar("Command", bound=Callable[..., Any])


def _read_config(context: typer.Context, value: Path | None) -> Path | None:
    if value is None:
        return None
    try:
        settings = tomllib.loads(value.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise typer.BadParameter(f"{value} doesn't exist.") from None
    except OSError as error:
        raise typer.BadParameter(f"{value} can't be read ({error.strerror}).") from None
    except ValueError as error:
        raise typer.BadParameter(f"{value} is not valid TOML: {error}.") from None
    known = {
        option.lstrip("-").replace("-", "_"): parameter.name
        for parameter in context.command.params
        for option in parameter.opts
        if parameter.name != "config" and (parameter.param_type_name == "argument" or option.startswith("--"))
    }
    defaults: dict[str, Any] = {}
    for name, setting in settings.items():
        parameter_name = known.get(name.replace("-", "_"))
        if parameter_name is None:
            raise typer.BadParameter(f"{value} sets {name!r}, which is no option of this command.")
        # A list is one value to an option, as in --keep 0.9,0.5
        defaults[parameter_name] = ",".join(map(str, setting)) if isinstance(setting, list) else setting
    context.default_map = {**(context.default_map or {}), **defaults}
    return value


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_read_config,
        is_eager=True,
        help="TOML file with options by the same names; the command line goes before it.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and what libraries log.")]
Json = Annotated[bool, typer.Option("--json", help="Print the whole report as JSON on stdout.")]


def guarded(command: Command) -> Command:
    """Turn an error into one sentence on stderr and an exit code, and keep libraries quiet, unless --debug."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        debug = bool(kwargs.get("debug"))
        errors.quiet = not is_main()  # of several processes that a launcher started, the first speaks for all
        if not debug:
            _silence()
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt as error:
            errors.print(f"Interrupted: {str(error) or 'nothing was written'}.")
            raise typer.Exit(INTERRUPTED) from None
        except WordelimError as error:
            if debug:
                raise
            _fail(str(error), NOT_MET if isinstance(error, NotMetError) else FAILED)
        except (BrokenPipeError, typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if debug:
                raise
            _fail(_unexpected(error), FAILED)

    return run  # type: ignore[return-value]


def _fail(sentence: str, code: int) -> NoReturn:
    errors.print(Text.assemble(("error:", "bold red"), " ", sentence))
    raise typer.Exit(code) from None


def _unexpected(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in reason:
        return f"The memory is used up ({reason}); lower --batch-size or --max-length."
    return f"{reason} (unexpected: --debug shows where, please report it)."


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
    if not is_main():
        return
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def finish(result: CompressionResult) -> None:
    """Say on stderr what was cut and what was written, and leave with the exit code that the result deserves."""
    for name, part in result.report["data"].items():
        if name != "columns" and part["truncated"]:
            errors.print(
                f"{part['truncated']} of {part['examples']} {name} texts were longer than {part['longest']} tokens and "
                "were cut."
            )
    for sentence in result.report["warnings"]:
        errors.print(f"warning: {sentence}")
    if not result.met:
        errors.print(f"Not met: {result.report['unmet']}; no model was written, the report is {result.output}.")
        raise typer.Exit(NOT_MET)
    errors.print(f"Written: {result.output}")


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """One progress display on stderr; a line a stage where stderr is no terminal."""
    if not sys.stderr.isatty() or not is_main():
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
