"""``wordelim check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import print_report
from .progress import progress
from .run import (
    NOT_MET,
    Config,
    Debug,
    Delimiter,
    Encoding,
    Json,
    LabelColumn,
    SkipBadRows,
    errors,
    insist,
    list_skipped,
    print_json,
)

__all__ = ["command"]


def command(
    base: Annotated[str, typer.Argument(help="Model to compare with; left out with --baseline-report.")],
    data: Annotated[str, typer.Option(help="Labelled texts: CSV, TSV, JSON lines (also .gz), Parquet, or a hub name.")],
    compressed: Annotated[str | None, typer.Argument(help="Model to judge.", show_default=False)] = None,
    max_drop: Annotated[float, typer.Option(help="Points of the metric that may be lost.")] = 1.0,
    min_speedup: Annotated[
        float | None, typer.Option(help="Times as fast that it must be; without it, no speed is measured.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Judge the upper end of the drop's interval.")] = False,
    confidence: Annotated[float, typer.Option(help="Confidence of that interval.")] = 0.95,
    metric: Annotated[str | None, typer.Option(help="Metric; the task's usual one unless given.")] = None,
    baseline_report: Annotated[
        Path | None, typer.Option(help="Report of an earlier check, whose answers stand for the base model.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="File to write as JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File to write as Markdown, for a pull request.")] = None,
    html: Annotated[Path | None, typer.Option(help="File to write the report to, as a page.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write the report to, as JSON.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Cut texts at this many tokens.")] = None,
    batch_size: Annotated[int, typer.Option(help="Texts a step.")] = 32,
    text: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    skip_bad_rows: SkipBadRows = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    device: Annotated[str | None, typer.Option(help="Device, such as cpu or cuda; found unless given.")] = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Run the same examples through two models, and fail when the second loses too much: a gate for CI.

    Exit code 3: the drop is more than --max-drop, or the speed-up less than --min-speedup.

    Example: wordelim check my-bert my-bert-fast --data test.csv --max-drop 1
    """
    if compressed is None and baseline_report is None:
        raise typer.BadParameter("Name the model to judge behind the base model.", param_hint="'COMPRESSED'")
    from wordelim.checkpoint.directory import write_report
    from wordelim.report.check import summary
    from wordelim.report.html import render_html, require_pages
    from wordelim.report.junit import render_junit
    from wordelim.report.kinds import brief_of
    from wordelim.report.markdown import render_digest
    from wordelim.system.files import write_whole
    from wordelim.system.outputs import refuse_files
    from wordelim.verbs.check import check

    refuse_files(
        {"--junit": junit, "--markdown": markdown, "--html": html, "--output": output},
        {
            "base model": base,
            "compressed model": compressed,
            "data": data,
            "baseline report": baseline_report,
            "file of --config": config,
        },
    )
    if html is not None:
        require_pages()
    settings: dict[str, Any] = {
        "max_drop": max_drop,
        "min_speedup": min_speedup,
        "strict": strict,
        "confidence": confidence,
        "metric": metric,
        "max_length": max_length,
        "batch_size": batch_size,
        "seed": seed,
    }
    with progress() as show:
        result = check(
            base if compressed is not None else None,
            compressed if compressed is not None else base,
            data=data,
            baseline_report=baseline_report,
            text=text,
            text_pair=text_pair,
            label=label,
            delimiter=delimiter,
            encoding=encoding,
            skip_bad_rows=skip_bad_rows,
            device=device,
            progress=show,
            **settings,
        )
    report = result.report
    print_json(report) if as_json else print_report(brief_of(report))
    list_skipped(report["data"])
    for path, form in ((junit, render_junit), (markdown, render_digest), (html, render_html)):
        if path is not None:
            errors.print(f"Written: {write_whole(form(report), path)}")
    if output is not None:
        errors.print(f"Written: {write_report(report, output)}")
    if result.passed:
        errors.print(summary(report))
    else:
        insist(summary(report))
        raise typer.Exit(NOT_MET)
