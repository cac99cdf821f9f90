"""Options that every command has, and the groups that its --help shows."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from wordelim.system.inputs import UnreadableError, read_toml

from .options import expand

__all__ = [
    "Config",
    "Debug",
    "Json",
    "Quiet",
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
# Of the options that aren't fields of settings.
_PANELS = {
    "Data": "train validation test data baseline_report max_length",
    "Goal": "",
    "Search": "",
    "Retraining": "",
    "Result": "output force junit markdown html push as_json",
    "Measurement": "texts",
    "Run": "device resume dry_run config quiet verbose debug",
}
_PANEL = {name: panel for panel, names in _PANELS.items() for name in names.split()}
_ORDER = ["", *_PANELS]


def with_shared_options(own: Mapping[str, inspect.Parameter]) -> inspect.Signature:
    """The signature of a command with these parameters: with the shared options too, and every option in its group."""
    shared = (
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _SHARED.items()
    )
    parameters = [parameter for parameter in expand(own) if parameter.name not in _SHARED]
    parameters += [own.get(parameter.name) or parameter for parameter in shared]
    grouped = sorted(map(_in_panel, parameters), key=lambda parameter: _ORDER.index(_panel_of(parameter)))
    return inspect.Signature(grouped)


def _option_of(parameter: inspect.Parameter) -> Any:
    kind = type(typer.Option())
    return next((found for found in parameter.annotation.__metadata__ if isinstance(found, kind)), None)


def _panel_of(parameter: inspect.Parameter) -> str:
    option = _option_of(parameter)
    return (option and option.rich_help_panel) or ""


def _in_panel(parameter: inspect.Parameter) -> inspect.Parameter:
    option = _option_of(parameter)
    if option is not None and option.rich_help_panel is None:
        option.rich_help_panel = _PANEL.get(parameter.name)
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
