"""``wordelim check``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wordelim.verbs.settings import CheckSettings

from .console import print_report
from .options import Columns, Fields, FileForm
from .progress import progress
from .run import NOT_MET, Config, Debug, Json, errors, insist, list_skipped, print_json

__all__ = ["command"]


def command(
    base: Annotated[str, typer.Argument(help="Model to compare with; left out with --baseline-report.")],
    data: Annotated[str, typer.Option(help="Labelled texts: CSV, TSV, JSON lines (also .gz), Parquet, or a hub name.")],
    compressed: Annotated[str | None, typer.Argument(help="Model to judge.", show_default=False)] = None,
    baseline_report: Annotated[
        Path | None, typer.Option(help="Report of an earlier check, whose answers stand for the base model.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="File to write as JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File to write as Markdown, for a pull request.")] = None,
    html: Annotated[Path | None, typer.Option(help="File to write the report to, as a page.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write the report to, as JSON.")] = None,
    *,
    settings: Annotated[dict[str, Any], Fields(CheckSettings)],
    columns: Columns,
    file: FileForm,
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
    with progress() as show:
        result = check(
            base if compressed is not None else None,
            compressed if compressed is not None else base,
            data=data,
            baseline_report=baseline_report,
            **columns,
            **file,
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
