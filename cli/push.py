"""``wordelim push``."""

from typing import Annotated

import typer

from .run import Debug

__all__ = ["command"]


def command(
    model_dir: Annotated[str, typer.Argument(help="Compressed model: a directory.", metavar="COMPRESSED")],
    repository: Annotated[str, typer.Argument(help="Model repository on the hub, such as me/my-bert-fast.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    texts: Annotated[
        bool, typer.Option("--texts", help="Upload the examples that stand in the report too; else they are taken out.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Upload a compressed model, its card and its report to the Hugging Face hub.

    Example: wordelim push my-bert-fast me/my-bert-fast
    """
    from wordelim.system.printable import printable
    from wordelim.verbs.push import push

    typer.echo(printable(push(model_dir, repository, private=private, texts=texts)))
