"""What every command shares: quiet libraries, errors as one sentence, exit codes."""

from __future__ import annotations

import errno
import functools
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
from rich.text import Text

from wordelim.errors import NotMetError, WordelimError
from wordelim.system.printable import json_text, one_line
from wordelim.system.processes import as_one, is_main

from .console import PlainConsole
from .options import gather
from .shared import Config, Debug, Json, with_shared_options

if TYPE_CHECKING:
    from wordelim.compression.run import CompressionResult

__all__ = [
    "NOT_MET",
    "Config",
    "Debug",
    "Json",
    "errors",
    "finish",
    "guarded",
    "insist",
    "list_skipped",
    "print_json",
]

FAILED, NOT_MET, INTERRUPTED = 1, 3, 130
"""Exit codes: an error; the drop or the speed-up asked for was not reached; Ctrl-C."""


class _Sentences(PlainConsole):
    def print(self, *objects: Any, **options: Any) -> None:
        """Print sentences, each in one line whatever is quoted in it."""
        super().print(*(one_line(part) if isinstance(part, str) else part for part in objects), **options)


errors = _Sentences(stderr=True, soft_wrap=True)

Command = TypeVar("Command", bound=Callable[..., Any])


def guarded(command: Command, *, together: bool = False) -> Command:
    """Turn an error into one sentence on stderr and an exit code, and give a command the options that all have.

    Args:
        together: whether the processes of a launcher run it together, of which the first speaks for all.
    """
    own = inspect.signature(command, eval_str=True).parameters  # once; typer would evaluate its strings several times

    @functools.wraps(command)
    def run(*, quiet: bool, verbose: bool, debug: bool, **options: Any) -> Any:
        given = {**options, "quiet": quiet, "verbose": verbose, "debug": debug}
        errors.quiet = quiet or (together and not _speaks())
        if not (verbose or debug):
            _silence()
        alone = ExitStack()
        try:
            is_main()  # refuses what is left of a launcher in the environment and can't be, whatever the command
            if not together:
                alone.enter_context(as_one(always=True))
            return command(**gather(own, given))
        except KeyboardInterrupt as error:
            insist(f"Interrupted: {str(error) or 'nothing was written'}.")
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
        finally:
            alone.close()
            errors.quiet = False

    # In a terminal a paragraph is as wide as the terminal is.
    run.__doc__ = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(command) or "")
    signature = with_shared_options(own)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return run  # type: ignore[return-value]


def _speaks() -> bool:
    """Of several processes that a launcher started, the first speaks for all; where none is known to be that, each."""
    try:
        return is_main()
    except WordelimError:
        return True


def insist(*parts: Any) -> None:
    """Print on stderr even with --quiet."""
    before, errors.quiet = errors.quiet, not _speaks()
    errors.print(*parts)
    errors.quiet = before


def _fail(sentence: str, code: int) -> NoReturn:
    insist(Text.assemble(("error:", "bold red"), " ", one_line(sentence)))
    raise typer.Exit(code) from None


def _unexpected(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in reason:
        return f"The memory is used up ({reason}); lower --batch-size or --max-length."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"Nothing more can be written ({error.strerror}): make room, and run it again."
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
    typer.echo(json_text(data))


def list_skipped(data: Mapping[str, Any], name: str = "") -> None:
    """Say on stderr how many rows of a data set were left out, and why the first were."""
    if "skipped" not in data:
        return
    count, rows = data["skipped"]["count"], data["skipped"]["rows"]
    errors.print(f"Left out of the {name + ' ' if name else ''}data: {count} {'row' if count == 1 else 'rows'}.")
    for row in rows:
        errors.print(f"- Row {row['row']} {row['reason']}")
    if count > len(rows):
        errors.print(f"- And {count - len(rows)} more.")


def finish(result: CompressionResult) -> None:
    """Say on stderr what was cut and what was written, and leave with the exit code that the result deserves."""
    from wordelim.report.html import READABLE

    for name, part in result.report["data"].items():
        list_skipped(part, name)
        if name != "columns" and part["truncated"]:
            errors.print(
                f"{part['truncated']} of {part['examples']} {name} texts were longer than {part['longest']} tokens and "
                "were cut."
            )
    for sentence in result.report["warnings"]:
        errors.print(f"warning: {sentence}")
    if not result.met:
        insist(f"Not met: {result.report['unmet']}; no model was written, the report is {result.output}.")
        raise typer.Exit(NOT_MET)
    assert result.output is not None
    errors.print(f"Written: {result.output}")
    page, markdown = (result.output / name for name in READABLE)
    if page.exists():
        errors.print(f"The report, to open in a browser: {page}")
    else:
        errors.print(f"The report: {markdown} (as a page with charts: pip install 'wordelim[report]')")
