"""Options that every command has, and the groups that its --help shows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from wordelim.system.inputs import UnreadableError, read_toml

__all__ = [
    "Config",
    "Debug",
    "Delimiter",
    "Encoding",
    "Json",
    "LabelColumn",
    "Quiet",
    "SkipBadRows",
    "Verbose",
    "with_shared_options",
]


def _read_config(context: typer.Context, value: Path | None) -> Path | None:
    if value is None:
        return None
    try:
        settings = read_toml(value)
    except UnreadableError as error:
        raise typer.BadParameter(f"{value} {error}.") from None
    known = {
        option.lstrip("-").replace("-", "_"): parameter.name
        for parameter in context.command.params
        for option in parameter.opts
        if parameter.name != "config" and (parameter.param_type_name == "argument" or option.startswith("--"))
    }
    defaults: dict[str, Any] = {}
    for name, setting in settings.items():
        parameter_name = known.get(name.replace("-", "_"))
        if parameter_name is None:
            raise typer.BadParameter(f"{value} sets {name!r}, which is no option of this command.")
        parameter = next(p for p in context.command.params if p.name == parameter_name)
        if isinstance(setting, bool) and not getattr(parameter, "is_flag", False):
            raise typer.BadParameter(f"{value} sets {name!r} to {str(setting).lower()}, but it takes a value.")
        if getattr(parameter, "multiple", False):
            defaults[parameter_name] = setting if isinstance(setting, list) else [setting]
        else:  # a list is one value, as in --keep 0.9,0.5
            defaults[parameter_name] = ",".join(map(str, setting)) if isinstance(setting, list) else setting
    context.default_map = {**(context.default_map or {}), **defaults}
    return value


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_read_config,
        is_eager=True,
        help="TOML file with options by the same names; the command line goes before it.",
    ),
]
Delimiter = Annotated[
    str | None, typer.Option(help="Between the fields of CSV and TSV files, such as ';' or tab; found unless given.")
]
Encoding = Annotated[str | None, typer.Option(help="Of text files, such as cp1252 or utf-16; UTF-8 unless given.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave out rows that can't be used, and list them.")]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="Column of the label; or, comma-separated, of 0 and 1 for each of a text's several labels."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and what libraries log.")]
Json = Annotated[bool, typer.Option("--json", help="Print the whole report as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what libraries log.")]

_SHARED: dict[str, tuple[Any, Any]] = {
    "config": (Config, None),
    "quiet": (Quiet, False),
    "verbose": (Verbose, False),
    "debug": (Debug, False),
}
_PANELS = {
    "Data": "train validation test data baseline_report examples max_length text text_pair label "
    "delimiter encoding skip_bad_rows",
    "Goal": "max_drop target_speedup flops_budget speeds cost min_speedup strict confidence metric",
    "Search": "method keep search_epochs retention_lr price form",
    "Retraining": "no_retrain epochs learning_rate seeds report_to",
    "Result": "output force junit markdown html push as_json",
    "Measurement": "texts latency_texts dtype compiled rounds",
    "Run": "batch_size seed device resume dry_run config quiet verbose debug",
}
_PANEL = {name: panel for panel, names in _PANELS.items() for name in names.split()}
_ORDER = ["", *_PANELS]


def with_shared_options(command: Callable[..., Any]) -> inspect.Signature:
    """A command's signature with the shared options that it lacks, and every option in its group."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [_in_panel(parameter) for parameter in _all_parameters(signature)]
    return signature.replace(parameters=sorted(parameters, key=lambda p: _ORDER.index(_PANEL.get(p.name, ""))))


def _all_parameters(signature: inspect.Signature) -> Iterator[inspect.Parameter]:
    yield from (parameter for name, parameter in signature.parameters.items() if name not in _SHARED)
    for name, (annotation, default) in _SHARED.items():
        yield signature.parameters.get(name) or inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )


def _in_panel(parameter: inspect.Parameter) -> inspect.Parameter:
    for option in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(option, type(typer.Option())) and option.rich_help_panel is None:
            option.rich_help_panel = _PANEL.get(parameter.name)
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
