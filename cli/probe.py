"""``wordelim probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import print_report
from .progress import progress
from .run import Config, Debug, Delimiter, Encoding, Json, LabelColumn, SkipBadRows, errors, list_skipped, print_json

__all__ = ["command"]


def command(
    model_dir: Annotated[str, typer.Argument(help="Fine-tuned model: a directory, or a hub name.")],
    validation: Annotated[
        str, typer.Option(help="Labelled texts such as it meets in use: CSV, TSV, JSON lines (also .gz), Parquet, ...")
    ],
    max_drop: Annotated[float, typer.Option(help="Points of the metric that may be lost.")] = 1.0,
    examples: Annotated[int, typer.Option(help="Texts that are measured on, drawn at random.")] = 512,
    metric: Annotated[str | None, typer.Option(help="Metric; the task's usual one unless given.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write the report to, as JSON.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Cut texts at this many tokens.")] = None,
    batch_size: Annotated[int, typer.Option(help="Texts a batch.")] = 32,
    text: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    skip_bad_rows: SkipBadRows = False,
    seed: Annotated[int, typer.Option(help="Seed of the choice of texts.")] = 0,
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
    settings: dict[str, Any] = {
        "max_drop": max_drop,
        "metric": metric,
        "examples": examples,
        "max_length": max_length,
        "batch_size": batch_size,
        "seed": seed,
    }
    columns: dict[str, Any] = {"text": text, "text_pair": text_pair, "label": label}
    columns |= {"delimiter": delimiter, "encoding": encoding, "skip_bad_rows": skip_bad_rows}
    with progress() as show:
        report = probe(model_dir, validation=validation, device=device, progress=show, **columns, **settings)
    print_json(report) if as_json else print_report(brief_of(report))
    list_skipped(report["data"])
    if output is not None:
        errors.print(f"Written: {write_report(report, output)}")
