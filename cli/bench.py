"""``wordelim bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import print_report
from .progress import progress
from .run import Config, Debug, Delimiter, Encoding, Json, SkipBadRows, errors, list_skipped, print_json

__all__ = ["command"]


def command(
    base: Annotated[str, typer.Argument(help="Dense model: a directory, or a hub name.")],
    data: Annotated[str, typer.Option(help="Texts: CSV, TSV, JSON lines (also .gz), Parquet, or a hub name.")],
    compressed: Annotated[
        str | None, typer.Argument(help="Directory that was made from it; left out: what packing alone gives.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="One of the speeds that COMPRESSED was made for; its default unless given.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write the report to, as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(help="File to write the report to, as a page.")] = None,
    batch_size: Annotated[int, typer.Option(help="Texts a batch, for the throughput.")] = 32,
    texts: Annotated[int, typer.Option(help="Texts for the throughput, drawn at random.")] = 128,
    latency_texts: Annotated[int, typer.Option(help="Texts for the latency, one at a time; 0 leaves it out.")] = 32,
    max_length: Annotated[
        int | None, typer.Option(help="Cut texts at this many tokens, and pad to it where padding is fixed.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16, float16 (comma-separated); those that are fast here unless given."),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Measure through torch.compile as well.")] = False,
    rounds: Annotated[int, typer.Option(help="How often everything is timed.")] = 5,
    text: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of the label; none is needed.")] = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    skip_bad_rows: SkipBadRows = False,
    seed: Annotated[int, typer.Option(help="Seed of the choice of texts.")] = 0,
    device: Annotated[str | None, typer.Option(help="Device, such as cpu or cuda; found unless given.")] = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Measure latency and throughput against the dense model: padded to a fixed length, padded as in pipelines, and
    without any padding; and say what the gain is made of.

    Example: wordelim bench my-bert my-bert-fast --data dev.csv
    """
    from wordelim.checkpoint.directory import write_report
    from wordelim.report.html import render_html, require_pages
    from wordelim.report.kinds import brief_of
    from wordelim.system.files import write_whole
    from wordelim.system.outputs import refuse_files
    from wordelim.verbs.bench import bench

    refuse_files(
        {"--output": output, "--html": html},
        {"base model": base, "compressed model": compressed, "data": data, "file of --config": config},
    )
    if html is not None:
        require_pages()
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "texts": texts,
        "latency_texts": latency_texts,
        "max_length": max_length,
        "dtypes": None if dtype is None else dtype.split(","),
        "compiled": compiled,
        "rounds": rounds,
        "seed": seed,
    }
    with progress() as show:
        report = bench(
            base,
            compressed,
            data=data,
            text=text,
            text_pair=text_pair,
            label=label,
            delimiter=delimiter,
            encoding=encoding,
            skip_bad_rows=skip_bad_rows,
            device=device,
            speed=speed,
            progress=show,
            **settings,
        )
    print_json(report) if as_json else print_report(brief_of(report))
    list_skipped(report["data"])
    if output is not None:
        errors.print(f"Written: {write_report(report, output)}")
    if html is not None:
        errors.print(f"Written: {write_whole(render_html(report), html)}")
