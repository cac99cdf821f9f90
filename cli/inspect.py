"""``wordelim inspect``."""

from typing import Annotated

import typer

from .console import print_report
from .run import Debug, Json, print_json

__all__ = ["command"]


def command(
    model_dir: Annotated[str, typer.Argument(help="A model: a directory, or a hub name.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether a model is supported, where word vectors would be dropped, and what it keeps.

    Example: wordelim inspect my-bert
    """
    from wordelim.report.inspection import brief
    from wordelim.verbs.inspect import inspect_model

    found = inspect_model(model_dir)
    print_json(found) if as_json else print_report(brief(found))
