"""A setting that is declared once: its default, what it must be, and what the command line says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from ..errors import WordelimError

__all__ = ["Check", "Checked", "Option", "is_number", "number", "one_of", "option_of", "setting", "whole"]

Check = Callable[[str, Any], Any]
"""Takes a setting's name and value, and returns the value as it is kept; raises WordelimError where it can't be."""


@dataclass(frozen=True)
class Option:
    """What the command line says of a setting.

    Args:
        help: one sentence.
        panel: the group that ``--help`` shows it in; empty for those without one.
        flag: its name, where that isn't the field's.
        listed: where several values are given in one, separated by commas: an example of them.
    """

    help: str
    panel: str
    flag: str | None = None
    listed: str | None = None


def setting(
    default: Any,
    help: str | None = None,
    panel: str = "",
    *,
    check: Check | None = None,
    called: str | None = None,
    flag: str | None = None,
    listed: str | None = None,
) -> Any:
    """A field of a settings class.

    Args:
        default: what it is unless given; where that is None, None is never checked.
        help, panel, flag, listed: of its :class:`Option`; without ``help`` it is none of the command line's.
        check: what it must be.
        called: what the command line and errors call it, where that is another word than the field's name.
    """
    flag = flag or (called and f"--{called}")
    option = None if help is None else Option(help, panel, flag, listed)
    return field(default=default, metadata={"check": check, "called": called, "option": option})


def option_of(of: Field[Any]) -> Option | None:
    """What the command line says of a field; None where it doesn't have it."""
    return of.metadata.get("option")


def called(of: Field[Any]) -> str:
    """What errors call a field."""
    return of.metadata.get("called") or of.name


class Checked:
    """A base of frozen dataclasses whose fields are checked as :func:`setting` declares them."""

    def __post_init__(self) -> None:
        for of in fields(self):  # type: ignore[arg-type]
            check, value = of.metadata.get("check"), getattr(self, of.name)
            if check is not None and not (value is None and of.default is None):
                object.__setattr__(self, of.name, check(called(of), value))


def is_number(value: Any, *, finite: bool = True) -> bool:
    """Whether a value is an int or a float, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and (not finite or math.isfinite(value))


def number(wanted: str, holds: Callable[[Any], bool]) -> Check:
    """A finite number for which something holds, which ``wanted`` says as in "give a number above 0"."""
    return _check(wanted, lambda value: is_number(value) and holds(value))


def whole(wanted: str, holds: Callable[[int], bool] = lambda value: True) -> Check:
    """A whole number for which something holds."""
    return _check(wanted, lambda value: isinstance(value, int) and not isinstance(value, bool) and holds(value))


def _check(wanted: str, holds: Callable[[Any], bool]) -> Check:
    def check(name: str, value: Any) -> Any:
        if not holds(value):
            raise WordelimError(f"{name} is {value}: give {wanted}.")
        return value

    return check


def one_of(names: Callable[[], Iterable[str]], *, quoted: bool = False) -> Check:
    """One of some names, which are asked for when there is something to check."""

    def check(name: str, value: Any) -> Any:
        known = list(names())
        if value not in known:
            *most, last = map(repr, known) if quoted else known
            listed = f"{', '.join(most)} or {last}" if quoted else f"one of {', '.join(known)}"
            raise WordelimError(f"{name.capitalize()} {value!r} is unknown: use {listed}.")
        return value

    return check
