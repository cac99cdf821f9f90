"""``wordelim compress``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import print_report
from .progress import progress
from .run import Config, Debug, Delimiter, Encoding, Json, LabelColumn, SkipBadRows, finish, insist, print_json

__all__ = ["command"]

_DATA = "CSV, TSV, JSON lines (also .gz), Parquet, or a hub name"


def _numbers(value: str | None, option: str, example: str) -> list[float] | None:
    if value is None:
        return None
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{value!r} is no list of numbers such as {example}.", param_hint=option) from None


def command(
    model_dir: Annotated[str, typer.Argument(help="Fine-tuned model: a directory, or a hub name.")],
    train: Annotated[str, typer.Option(help=f"Labelled texts to search and retrain on: {_DATA}.")],
    validation: Annotated[str, typer.Option(help="Labelled texts to choose on.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; must not exist.")],
    test: Annotated[str | None, typer.Option(help="Labelled texts that are only reported on.")] = None,
    method: Annotated[str, typer.Option(help="How keep counts are found: calibrated, or learned.")] = "calibrated",
    max_drop: Annotated[float, typer.Option(help="Points of the metric that may be lost on validation.")] = 1.0,
    target_speedup: Annotated[
        float | None, typer.Option(help="FLOPs ratio to reach, instead of the fastest within --max-drop.")
    ] = None,
    flops_budget: Annotated[
        float | None, typer.Option(help="The same as a share of the dense model's FLOPs, such as 0.4.")
    ] = None,
    speeds: Annotated[
        str | None,
        typer.Option(
            help="FLOPs ratios that one set of weights shall serve, such as 1.5,2,3; see wordelim.set_speed_."
        ),
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="Fractions (or counts) to keep in each layer, comma-separated; no search.")
    ] = None,
    search_epochs: Annotated[float, typer.Option(help="Learned search: passes over the training texts.")] = 1.0,
    retention_lr: Annotated[
        float | None, typer.Option(help="Learned search: rate of the retention parameters; scaled unless given.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--lambda", help="Learned search: a fixed price of a word vector, no speeds.")
    ] = None,
    form: Annotated[str, typer.Option(help="Learned search: what is learned, ramp, table or count.")] = "ramp",
    epochs: Annotated[
        float, typer.Option(help="Passes over the training texts; half again for each faster speed tried.")
    ] = 2.0,
    seeds: Annotated[int, typer.Option(help="Last retraining: seeds to try; the best on validation is kept.")] = 1,
    no_retrain: Annotated[bool, typer.Option("--no-retrain", help="Leave the weights as they are.")] = False,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of the retraining.")] = 5e-5,
    batch_size: Annotated[int, typer.Option(help="Texts a step.")] = 32,
    cost: Annotated[str, typer.Option(help="What speeds are ratios of: flops, or latency measured here.")] = "flops",
    protect: Annotated[
        list[str] | None,
        typer.Option(help="Never drop these: first:N, separators, query, words:FILE; may be repeated."),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric; the task's usual one unless given.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Cut texts at this many tokens.")] = None,
    text: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    skip_bad_rows: SkipBadRows = False,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
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
    report_to: Annotated[str | None, typer.Option(help="Tell a tracker: tensorboard, wandb or mlflow.")] = None,
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
    settings: dict[str, Any] = {
        "method": method,
        "max_drop": max_drop,
        "target_speedup": target_speedup,
        "flops_budget": flops_budget,
        "speeds": _numbers(speeds, "'--speeds'", "1.5,2,3"),
        "keep": _numbers(keep, "'--keep'", "0.9,0.7,0.5"),
        "search_epochs": search_epochs,
        "retention_lr": retention_lr,
        "price": price,
        "form": form,
        "epochs": epochs,
        "seeds": seeds,
        "retrain": not no_retrain,
        "report_to": report_to.split(",") if report_to else [],
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "cost": cost,
        "protect": protect or [],
        "metric": metric,
        "max_length": max_length,
        "seed": seed,
    }
    data: dict[str, Any] = {"train": train, "validation": validation, "test": test}
    columns: dict[str, Any] = {"text": text, "text_pair": text_pair, "label": label}
    columns |= {"delimiter": delimiter, "encoding": encoding, "skip_bad_rows": skip_bad_rows}
    if dry_run:
        planned = plan(model_dir, **data, **columns, output=output, device=device, force=force, **settings)
        print_json(planned) if as_json else print_report(compression.plan(planned))
        return
    with progress() as show:
        result = compress(
            model_dir,
            **data,
            **columns,
            output=output,
            device=device,
            force=force,
            resume=resume,
            progress=show,
            **settings,
        )
    print_json(result.report) if as_json else print_report(compression.brief(result.report))
    if push is not None and result.met:
        from wordelim.verbs.push import push as upload

        insist(upload(output, push))
    finish(result)
