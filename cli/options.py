"""Options of a command that are declared elsewhere: as the fields of settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

from wordelim.system.declared import Option, option_of, setting

__all__ = ["Columns", "Fields", "FileForm", "TextColumns", "UnlabelledColumns", "expand", "gather"]

# Types of which the command line can give but the name, and which it needn't import.
_NAMED = {"ComputeMetrics": str, "Form": str, "Pooling": str}


@dataclass(frozen=True)
class Fields:
    """In ``Annotated[dict[str, Any], Fields(Settings)]``: the parameter gives place to one option a field."""

    of: type


@dataclass(frozen=True)
class _Texts:
    text: str | None = setting(None, "Column of the text.", "Data")
    text_pair: str | None = setting(None, "Column of the second text.", "Data")


@dataclass(frozen=True)
class _Labelled(_Texts):
    label: str | None = setting(
        None, "Column of the label; or, comma-separated, of 0 and 1 for each of a text's several labels.", "Data"
    )


@dataclass(frozen=True)
class _Unlabelled(_Texts):
    label: str | None = setting(None, "Column of the label; none is needed.", "Data")


@dataclass(frozen=True)
class _File:
    delimiter: str | None = setting(
        None, "Between the fields of CSV and TSV files, such as ';' or tab; found unless given.", "Data"
    )
    encoding: str | None = setting(None, "Of text files, such as cp1252 or utf-16; UTF-8 unless given.", "Data")
    skip_bad_rows: bool = setting(False, "Leave out rows that can't be used, and list them.", "Data")


TextColumns = Annotated[dict[str, Any], Fields(_Texts)]
Columns = Annotated[dict[str, Any], Fields(_Labelled)]
UnlabelledColumns = Annotated[dict[str, Any], Fields(_Unlabelled)]
FileForm = Annotated[dict[str, Any], Fields(_File)]


def expand(parameters: Mapping[str, inspect.Parameter]) -> Iterator[inspect.Parameter]:
    """The parameters of a command, with one for each field in place of :class:`Fields`."""
    for parameter in parameters.values():
        found = _fields_of(parameter)
        if found is None:
            yield parameter
        else:
            hints = get_type_hints(found, localns=_NAMED)
            for field, option in _options(found):
                yield _parameter(field, option, hints[field.name])


def gather(parameters: Mapping[str, inspect.Parameter], given: dict[str, Any]) -> dict[str, Any]:
    """What a command is called with: the values of options, those of :class:`Fields` in a dictionary of their own."""
    for name, parameter in parameters.items():
        found = _fields_of(parameter)
        if found is not None:
            read = ((field, option, given[_name(field)]) for field, option in _options(found))
            given = {**given, name: {field.name: _value(field, option, value) for field, option, value in read}}
    return {name: value for name, value in given.items() if name in parameters}


def _fields_of(parameter: inspect.Parameter) -> type | None:
    metadata = getattr(parameter.annotation, "__metadata__", ())
    return next((found.of for found in metadata if isinstance(found, Fields)), None)


def _options(settings: type) -> Iterator[tuple[Field[Any], Option]]:
    for field in fields(settings):
        option = option_of(field)
        if option is not None:
            yield field, option


def _name(field: Field[Any]) -> str:
    """Of the parameter: a flag that switches off what is on by itself says so."""
    return f"no_{field.name}" if field.default is True else field.name


def _parameter(field: Field[Any], option: Option, hint: Any) -> inspect.Parameter:
    kind, default = hint, field.default
    if option.listed is not None:
        kind, default = str | None, None
    elif isinstance(default, tuple):
        kind, default = list[str] | None, None
    elif isinstance(default, bool):
        default = False
    flag = option.flag or f"--{_name(field).replace('_', '-')}"
    typed: Any = typer.Option(flag, help=option.help, rich_help_panel=option.panel or None)
    return inspect.Parameter(
        _name(field), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, typed]
    )


def _value(field: Field[Any], option: Option, given: Any) -> Any:
    """The setting that was given as an option."""
    if isinstance(field.default, bool):
        return bool(given) is not field.default
    if given is None:
        return field.default
    if option.listed is None:
        return given
    words = given.split(",")
    if not option.listed[0].isdigit():
        return words
    try:
        return [float(word) for word in words]
    except ValueError:
        flag = option.flag or f"--{field.name}"
        raise typer.BadParameter(
            f"{given!r} is no list of numbers such as {option.listed}.", param_hint=f"'{flag}'"
        ) from None
