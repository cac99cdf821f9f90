"""A setting that is declared once: its default, what it must be, and what the command line says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import Field, field, fields
from typing import Any

from ..errors import WordelimError

__all__ = ["Check", "Checked", "called", "is_number", "number", "one_of", "setting", "whole"]

Check = Callable[[str, Any], Any]
"""Takes a setting's name and value, and returns the value as it is kept; raises WordelimError where it can't be."""


def setting(default: Any, help: str | None = None, check: Check | None = None, **more: str) -> Any:
    """A field of a settings class.

    Args:
        default: what it is unless given; where that is None, None is never checked.
        help: what ``--help`` says of it; None where it is no option of the command line.
        check: what it must be.
        more: ``panel``, the group that ``--help`` shows it in; ``called``, what the command line and errors call it,
            ``flag``, what the command line alone calls it, where these aren't the field's name; ``listed``, where
            several values are given in one, separated by commas, an example of them.
    """
    return field(default=default, metadata={"help": help, "check": check, **more})


def called(of: Field[Any]) -> str:
    """What errors call a field."""
    return str(of.metadata.get("called", of.name))


class Checked:
    """A base of frozen dataclasses whose fields are checked as :func:`setting` declares them."""

    def __post_init__(self) -> None:
        for of in fields(self):  # type: ignore[arg-type]
            check, value = of.metadata.get("check"), getattr(self, of.name)
            if check is not None and not (value is None and of.default is None):
                object.__setattr__(self, of.name, check(called(of), value))


def is_number(value: Any, *, finite: bool = True) -> bool:
    """Whether a value is an int or a float, and no bool."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, float) and (not finite or math.isfinite(value)))


def number(wanted: str, holds: Callable[[Any], bool]) -> Check:
    """A finite number for which something holds, which ``wanted`` says as in "give a number above 0"."""

    def check(name: str, value: Any) -> Any:
        if not (is_number(value) and holds(value)):
            raise WordelimError(f"{name} is {value}: give {wanted}.")
        return value

    return check


def whole(wanted: str, holds: Callable[[int], bool] = lambda value: True) -> Check:
    """A whole number for which something holds."""
    return number(wanted, lambda value: isinstance(value, int) and holds(value))


def one_of(names: Callable[[], Iterable[str]], *, quoted: bool = False) -> Check:
    """One of some names, which are asked for when there is something to check."""

    def check(name: str, value: Any) -> Any:
        known = list(names())
        if value not in known:
            *most, last = map(repr, known)
            listed = f"{', '.join(most)} or {last}" if quoted else f"one of {', '.join(known)}"
            raise WordelimError(f"{name.capitalize()} {value!r} is unknown: use {listed}.")
        return value

    return check
