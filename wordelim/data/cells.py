"""What a cell of a table holds, whatever file the table came from.

A CSV file has only texts, so that a list stands in it as JSON, as Python writes it (``['a', 'b']``) or as numpy prints
it (``['a' 'b']``), and a number as "1.0". JSON lines and Parquet have values of their own. Everything that reads a cell
for a head reads it here, so that all formats give the same.
"""

from __future__ import annotations

import ast
import json
import math
import re
import reprlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from .usable import Unusable

__all__ = [
    "is_truth",
    "is_unicode",
    "items_of",
    "mapping_of",
    "number",
    "plain",
    "read_json",
    "require_unicode",
    "shown",
    "whole",
    "words_of",
]

# Lists within lists that a cell may have, and characters of a number.
_DEEPEST, _LONGEST_NUMBER = 16, 400
_STARTS = ("[", "(", "{", "array(")
_NOTHING = object()

# As a list is written, of texts in quotes or with commas: a text in brackets has blanks inside these.
_LISTED = re.compile(r"[\[(](?=\S)(?:['\"].*|.*,.*)(?<=\S)[\])]", re.DOTALL)
_HALF = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"\s*")
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])", re.ASCII)
_WORD = re.compile(r"[A-Za-z]+(?![\w.(])")
_CALL = re.compile(r"(?:np\.|numpy\.)?(?:array|str_|bool_?|u?int\d+|float\d+)\(")
_DTYPE = re.compile(r"\s*,\s*dtype=(?:\w+|'[^']*')")
_CONSTANTS = {"True": True, "False": False, "None": None, "nan": math.nan, "inf": math.inf} | {
    "true": True,
    "false": False,
    "null": None,
}


def read_json(text: str) -> Any:
    """``json.loads`` of a text that nobody vouches for.

    Raises:
        ValueError: it is no JSON (:class:`json.JSONDecodeError`), or too deep or too long for a cell; the message says
            which.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:  # Python's own bound on the digits of a whole number
        raise ValueError("it has a number of thousands of digits") from None
    if _depth(value) > _DEEPEST:
        raise ValueError("it is nested too deep")
    return value


def is_unicode(text: str) -> bool:
    """Whether no half of a surrogate pair stands in a text, which no file can hold."""
    return _HALF.search(text) is None


def require_unicode(value: Any) -> Any:
    """The value itself; Unusable where half of a surrogate pair stands in a text of it, which no file can hold."""
    if isinstance(value, str) and (half := _HALF.search(value)) is not None:
        raise Unusable(f"has half a character, {half[0]!a}, in a text: write the text anew, as UTF-8.")
    if isinstance(value, (list, dict)):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            require_unicode(inner)
    return value


def items_of(value: Any) -> list[Any] | None:
    """The list that a cell holds, as a list or as its text; None where it holds none."""
    value = _literal(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else None


def words_of(value: Any) -> list[str] | None:
    """The words that a cell holds: a list of texts and numbers, or a text that is split at its spaces.

    None where it has none, and where it is written as a list is, but holds something else or can't be read.
    """
    items = items_of(value)
    if items is None and isinstance(value, str):
        return None if _LISTED.fullmatch(value.strip()) else value.split() or None
    if not items or not all(isinstance(item, (str, int)) and not isinstance(item, bool) for item in items):
        return None
    return [str(item) for item in items]


def mapping_of(value: Any) -> dict[str, Any] | None:
    """The names and values that a cell holds, as a dictionary or as its text; None where it holds none.

    A list of such cells, as SQuAD's own files have, is one of lists.
    """
    value = _literal(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
        names = list(value[0])
        if all(list(item) == names for item in value):
            return {name: [item[name] for item in value] for name in names}
    return None


def plain(value: Any) -> Any:
    """A number of numpy or of decimals as Python's own; any other value as it is."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() and value.adjusted() < _LONGEST_NUMBER else float(value)
    return value


def number(value: Any) -> float | None:
    """The finite number that a cell holds: a number or a truth value, or the text of one; None where it holds none."""
    value = plain(value)
    if isinstance(value, str):
        text = value.strip()
        if is_truth(text):
            return float(text.casefold() == "true")
        if len(text) > _LONGEST_NUMBER or _NUMBER.fullmatch(text) is None:
            return None
        value = float(text)
    if not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def is_truth(value: Any) -> bool:
    """Whether a cell holds a truth value, as itself or as its text."""
    return isinstance(value, bool) or (isinstance(value, str) and value.strip().casefold() in ("true", "false"))


def whole(value: Any) -> int | None:
    """The whole number that a cell holds, as 1, 1.0, True or the text of one of these; None where it holds none."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def shown(value: Any) -> str:
    """A value as an error shows it, shortened."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python refuses to print numbers of thousands of digits
        return "a number of thousands of digits"


def _depth(value: Any) -> int:
    """Lists and dictionaries within each other."""
    depth, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, (list, dict))]:
        depth += 1
        layer = [inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _literal(value: Any) -> Any:
    """The list or dictionary that stands in a text; any other value, and any other text, as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.startswith(_STARTS):
        return value
    try:
        found = read_json(text)
    except ValueError:
        try:
            found = _Literal(text).value()
        except ValueError:
            return value
    return require_unicode(found)


class _Literal:
    """A list or dictionary as Python and numpy print it; ValueError where a text is anything else.

    ``ast.literal_eval`` would read numpy's ``['a' 'b']`` as ``['ab']``, and knows no ``array(...)``.
    """

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def value(self) -> Any:
        found = self._value(0)
        if self.at < len(self.text):
            raise ValueError(self.text)
        return found

    def _value(self, depth: int) -> Any:
        if depth >= _DEEPEST:
            raise ValueError(self.text)
        for opening, closing in ("[]", "()"):
            if self._take(opening):
                return self._list(depth, closing)
        if self._take("{"):
            return self._dictionary(depth)
        if self._match(_CALL) is not None:
            found = self._value(depth + 1)
            self._match(_DTYPE)
            self._expect(")")
            return found
        if (token := self._match(_STRING)) is not None:
            try:
                return ast.literal_eval(token)
            except (SyntaxError, ValueError):
                raise ValueError(self.text) from None
        if (token := self._match(_NUMBER)) is not None and len(token) <= _LONGEST_NUMBER:
            return float(token) if set(token) & set(".eE") else int(token)
        found = _CONSTANTS.get(self._match(_WORD) or "", _NOTHING)
        if found is _NOTHING:
            raise ValueError(self.text)
        return found

    def _list(self, depth: int, closing: str) -> list[Any]:
        """Up to the bracket; between its items stand either commas everywhere, or blanks everywhere."""
        items: list[Any] = []
        commas = None
        while not self._take(closing):
            if items:
                before = self.at
                comma = self._take(",")
                if comma and self._take(closing):  # as Python allows behind the last
                    break
                if commas not in (None, comma) or not (comma or self.text[before - 1].isspace()):
                    raise ValueError(self.text)
                commas = comma
            items.append(self._value(depth + 1))
            self._match(_SPACE)
        return items

    def _dictionary(self, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        while not self._take("}"):
            if found:
                self._expect(",")
            name = self._value(depth + 1)
            if not isinstance(name, str):
                raise ValueError(self.text)
            self._expect(":")
            found[name] = self._value(depth + 1)
        return found

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        """The token here, behind blanks, of which this is then behind; None where another stands here."""
        blanks = _SPACE.match(self.text, self.at)
        found = pattern.match(self.text, self.at if blanks is None else blanks.end())
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def _take(self, character: str) -> bool:
        return self._match(re.compile(re.escape(character))) is not None

    def _expect(self, character: str) -> None:
        if not self._take(character):
            raise ValueError(self.text)
