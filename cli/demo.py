"""``wordelim demo``."""

from pathlib import Path
from typing import Annotated

import typer

from .console import print_report
from .progress import progress
from .run import Config, Debug, Json, finish, print_json

__all__ = ["command"]


def command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write.")] = Path("wordelim-demo"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace the output directory when it holds a model and nothing else.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Compress a small BERT on text that is on this machine already: docstrings of installed libraries.

    Example: wordelim demo
    """
    from wordelim.report import compression, survival
    from wordelim.system.outputs import refuse_inputs
    from wordelim.verbs.demo import run_demo

    refuse_inputs(output, {"file of --config": config})
    with progress() as show:
        result, explanation = run_demo(output, force=force, progress=show)
    if as_json:
        print_json(result.report)
    else:
        print_report([*compression.brief(result.report), *survival.brief(explanation)])
    finish(result)
