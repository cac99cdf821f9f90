"""``wordelim probe``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wordelim.verbs.settings import ProbeSettings

from .console import print_report
from .options import Columns, Fields, FileForm
from .progress import progress
from .run import Config, Debug, Json, errors, list_skipped, print_json

__all__ = ["command"]


def command(
    model_dir: Annotated[str, typer.Argument(help="Fine-tuned model: a directory, or a hub name.")],
    validation: Annotated[
        str, typer.Option(help="Labelled texts such as it meets in use: CSV, TSV, JSON lines (also .gz), Parquet, ...")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write the report to, as JSON.")] = None,
    *,
    settings: Annotated[dict[str, Any], Fields(ProbeSettings)],
    columns: Columns,
    file: FileForm,
    device: Annotated[str | None, typer.Option(help="Device, such as cpu or cuda; found unless given.")] = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Say in minutes, without training, whether compressing is worth it on your texts: yes, pack only, or no.

    Exit code 0 whatever the answer.

    Example: wordelim probe my-bert --validation dev.csv
    """
    from wordelim.checkpoint.directory import write_report
    from wordelim.report.kinds import brief_of
    from wordelim.system.outputs import refuse_files
    from wordelim.verbs.probe import probe

    refuse_files({"--output": output}, {"model": model_dir, "validation data": validation, "file of --config": config})
    with progress() as show:
        report = probe(model_dir, validation=validation, device=device, progress=show, **columns, **file, **settings)
    print_json(report) if as_json else print_report(brief_of(report))
    list_skipped(report["data"])
    if output is not None:
        errors.print(f"Written: {write_report(report, output)}")
