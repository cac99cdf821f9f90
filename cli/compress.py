"""``wordelim compress``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wordelim.compression.settings import Settings

from .console import print_report
from .options import Columns, Fields, FileForm
from .progress import progress
from .run import Config, Debug, Json, finish, insist, print_json

__all__ = ["command"]

_DATA = "CSV, TSV, JSON lines (also .gz), Parquet, or a hub name"


def command(
    model_dir: Annotated[str, typer.Argument(help="Fine-tuned model: a directory, or a hub name.")],
    train: Annotated[str, typer.Option(help=f"Labelled texts to search and retrain on: {_DATA}.")],
    validation: Annotated[str, typer.Option(help="Labelled texts to choose on.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; must not exist.")],
    test: Annotated[str | None, typer.Option(help="Labelled texts that are only reported on.")] = None,
    *,
    settings: Annotated[dict[str, Any], Fields(Settings)],
    columns: Columns,
    file: FileForm,
    device: Annotated[str | None, typer.Option(help="Device, such as cpu or cuda; found unless given.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the output directory when it holds a model and nothing else.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was killed, from OUTPUT.wordelim-work.")
    ] = False,
    push: Annotated[
        str | None, typer.Option(help="Upload the model to this repository of the hub, such as me/my-bert-fast.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check model and data, say what would be done.")] = False,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Make a fine-tuned model faster, and write it to a directory that loads as before.

    Exit code 3: no retention stays within the drop (or reaches the speed-up) asked for; the report is kept beside the
    output, and no model is written.

    Example: wordelim compress my-bert --train train.csv --validation dev.csv --test test.csv -o my-bert-fast
    """
    from wordelim.report import compression
    from wordelim.system.outputs import refuse_inputs
    from wordelim.verbs.compress import compress, plan

    refuse_inputs(output, {"file of --config": config})
    given: dict[str, Any] = {"train": train, "validation": validation, "test": test}
    given |= {**columns, **file, "output": output, "device": device, "force": force}
    if dry_run:
        planned = plan(model_dir, **given, **settings)
        print_json(planned) if as_json else print_report(compression.plan(planned))
        return
    with progress() as show:
        result = compress(model_dir, **given, resume=resume, progress=show, **settings)
    print_json(result.report) if as_json else print_report(compression.brief(result.report))
    if push is not None and result.met:
        from wordelim.verbs.push import push as upload

        insist(upload(output, push))
    finish(result)
