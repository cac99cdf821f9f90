"""Options that every command has, and the groups that its --help shows."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

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
    from wordelim.system.inputs import UnreadableError, read_toml

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
    grouped = sorted(parameters, key=lambda parameter: _ORDER.index(_in_panel(parameter)))
    return inspect.Signature([parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in grouped])


def _in_panel(parameter: inspect.Parameter) -> str:
    """The group that an option is shown in, which is noted there; arguments have none."""
    for option in parameter.annotation.__metadata__:
        if isinstance(option, OptionInfo):
            option.rich_help_panel = option.rich_help_panel or _PANEL.get(parameter.name)
            return option.rich_help_panel or ""
    return ""
