"""Options of a command that are declared elsewhere: as the fields of settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from functools import cache, partial
from typing import Annotated, Any, get_type_hints

import typer

from wordelim.system.declared import called, setting

__all__ = ["Columns", "Fields", "FileForm", "TextColumns", "UnlabelledColumns", "expand", "gather"]

# Types of which the command line can give but the name, and which it needn't import.
_NAMED = {"ComputeMetrics": str, "Form": str, "Pooling": str}


@dataclass(frozen=True)
class Fields:
    """In ``Annotated[dict[str, Any], Fields(Settings)]``: the parameter gives place to one option a field."""

    of: type


_data = partial(setting, panel="Data")


# Of these four nobody makes one: what they declare is read. Without a docstring, dataclass would look for a signature
# to make one of, which takes longer than all the rest.
@dataclass(init=False, repr=False, eq=False)
class _Texts:
    """Where the texts are."""

    text: str | None = _data(None, "Column of the text.")
    text_pair: str | None = _data(None, "Column of the second text.")


@dataclass(init=False, repr=False, eq=False)
class _Labelled(_Texts):
    """Where texts and labels are."""

    label: str | None = _data(
        None, "Column of the label; or, comma-separated, of 0 and 1 for each of a text's several labels."
    )


@dataclass(init=False, repr=False, eq=False)
class _Unlabelled(_Texts):
    """Where texts are, perhaps with labels."""

    label: str | None = _data(None, "Column of the label; none is needed.")


@dataclass(init=False, repr=False, eq=False)
class _File:
    """How a file of texts is read."""

    delimiter: str | None = _data(
        None, "Between the fields of CSV and TSV files, such as ';' or tab; found unless given."
    )
    encoding: str | None = _data(None, "Of text files, such as cp1252 or utf-16; UTF-8 unless given.")
    skip_bad_rows: bool = _data(False, "Leave out rows that can't be used, and list them.")


TextColumns = Annotated[dict[str, Any], Fields(_Texts)]
Columns = Annotated[dict[str, Any], Fields(_Labelled)]
UnlabelledColumns = Annotated[dict[str, Any], Fields(_Unlabelled)]
FileForm = Annotated[dict[str, Any], Fields(_File)]


def expand(parameters: Mapping[str, inspect.Parameter]) -> Iterator[inspect.Parameter]:
    """The parameters of a command, with one for each field in place of :class:`Fields`."""
    for parameter in parameters.values():
        settings = _settings_of(parameter)
        if settings is None:
            yield parameter
        else:
            yield from (_parameter(field, _types(settings)[field.name]) for field in _options(settings))


def gather(parameters: Mapping[str, inspect.Parameter], given: dict[str, Any]) -> dict[str, Any]:
    """What a command is called with: the values of options, those of :class:`Fields` in a dictionary of their own."""
    for name, parameter in parameters.items():
        settings = _settings_of(parameter)
        if settings is not None:
            read = {field.name: _value(field, given[_name(field)]) for field in _options(settings)}
            given = {**given, name: read}
    return {name: value for name, value in given.items() if name in parameters}


def _settings_of(parameter: inspect.Parameter) -> type | None:
    metadata = getattr(parameter.annotation, "__metadata__", ())
    return next((found.of for found in metadata if isinstance(found, Fields)), None)


@cache
def _types(settings: type) -> dict[str, Any]:
    return get_type_hints(settings, localns=_NAMED)


def _options(settings: type) -> list[Field[Any]]:
    return [field for field in fields(settings) if field.metadata.get("help")]


def _name(field: Field[Any]) -> str:
    """Of the parameter: a flag that switches off what is on by itself says so."""
    return f"no_{field.name}" if field.default is True else field.name


def _flag(field: Field[Any]) -> str:
    return str(field.metadata.get("flag") or f"--{called(field).replace('_', '-')}")


def _parameter(field: Field[Any], kind: Any) -> inspect.Parameter:
    default = field.default
    if "listed" in field.metadata:
        kind, default = str | None, None
    elif isinstance(default, tuple):
        kind, default = list[str] | None, None
    elif isinstance(default, bool):
        default = False
    panel = field.metadata.get("panel")
    option: Any = typer.Option(_flag(field), help=field.metadata["help"], rich_help_panel=panel)
    annotation = Annotated[kind, option]
    return inspect.Parameter(_name(field), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _value(field: Field[Any], given: Any) -> Any:
    """The setting that was given as an option."""
    if isinstance(field.default, bool):
        return bool(given) is not field.default
    if given is None:
        return field.default
    example = field.metadata.get("listed")
    if example is None:
        return given
    words = given.split(",")
    if not example[0].isdigit():
        return words
    try:
        return [float(word) for word in words]
    except ValueError:
        said = f"{given!r} is no list of numbers such as {example}."
        raise typer.BadParameter(said, param_hint=f"'{_flag(field)}'") from None
