"""``wordelim export``."""

from pathlib import Path
from typing import Annotated

import typer

from .console import print_report
from .options import FileForm, TextColumns
from .progress import progress
from .run import Config, Debug, Json, errors, list_skipped, print_json

__all__ = ["command"]


def command(
    model_dir: Annotated[str, typer.Argument(help="Compressed directory; a dense model is exported dense.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; must not exist.")],
    format: Annotated[str, typer.Option(help="onnx or openvino.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="To eight bits; OpenVINO wants 128 texts of --data.")] = False,
    layout: Annotated[
        str | None, typer.Option(help="Lay the files out for a server: tei or triton (ONNX alone).")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Texts that are run through model and program; built-in ones unless given.")
    ] = None,
    *,
    columns: TextColumns,
    file: FileForm,
    max_length: Annotated[int | None, typer.Option(help="Cut these texts at this many tokens.")] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set, 18 to 23.")] = 20,
    speed: Annotated[
        float | None, typer.Option(help="Speed to export, of a model compressed for several; its own unless given.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time it against the dense model, exported in the same way.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime while it is timed.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the output directory when it holds a model and nothing else.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Export a model to ONNX Runtime or OpenVINO, for serving without PyTorch.

    Texts are run through the model and the exported program; where they answer otherwise, nothing is written.

    Example: wordelim export my-bert-fast --format onnx --int8 -o my-bert-fast-onnx
    """
    from wordelim.report.kinds import brief_of
    from wordelim.system.outputs import refuse_inputs
    from wordelim.verbs.export import export

    refuse_inputs(output, {"file of --config": config})
    with progress() as show:
        report = export(
            model_dir,
            output,
            format=format,
            int8=int8,
            layout=layout,
            data=data,
            **columns,
            **file,
            max_length=max_length,
            opset=opset,
            speed=speed,
            measure=measure,
            threads=threads,
            force=force,
            progress=show,
        )
    print_json(report) if as_json else print_report(brief_of(report))
    list_skipped(report)
    if report["retention"] is None:
        errors.print(f"{model_dir} isn't compressed: it was exported dense.")
    errors.print(f"Written: {output}")
