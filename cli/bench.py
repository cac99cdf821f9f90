"""``wordelim bench``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wordelim.verbs.settings import BenchSettings

from .console import print_report
from .options import Fields, FileForm, UnlabelledColumns
from .progress import progress
from .run import Config, Debug, Json, errors, list_skipped, print_json

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
    *,
    settings: Annotated[dict[str, Any], Fields(BenchSettings)],
    columns: UnlabelledColumns,
    file: FileForm,
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
    with progress() as show:
        report = bench(
            base,
            compressed,
            data=data,
            **columns,
            **file,
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
