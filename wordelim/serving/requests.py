"""What a request may say, and how it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ..data.cells import is_unicode
from ..errors import DataError
from ..system.inputs import UnreadableError, parse_json
from ..system.printable import short

__all__ = ["Item", "Request", "RequestError", "parse_request"]

Item: TypeAlias = tuple[str, str | None]
"""A text, and the second one where it is a pair."""

_FIELDS = ("inputs", "truncate", "top_k")
_MOST = 1024


class RequestError(DataError):
    """A request can't be answered.

    Args:
        message: the sentence.
        status: of the answer in HTTP.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message, status)  # both, for what is pickled is made again of them
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class Request(NamedTuple):
    """Texts to answer.

    Args:
        items: in their order.
        truncate: whether texts that are too long are cut.
        top_k: see :class:`.answers.Row`.
    """

    items: list[Item]
    truncate: bool = False
    top_k: Any = ...


def parse_request(body: bytes | str | Mapping[str, Any]) -> Request:
    """What the body of a request asks.

    It is ``{"inputs": ...}`` with a text, a pair ``{"text": ..., "text_pair": ...}``, or a list of these; and, as it
    likes, ``"truncate": true`` and ``"top_k"``, a number, or null for all.

    Raises:
        RequestError: it is none.
    """
    if isinstance(body, Mapping):
        data: Any = body
    else:
        try:
            data = parse_json(body)
        except UnreadableError as error:
            raise RequestError(f'The body {error}: send {{"inputs": "a text"}}.') from error
    if not isinstance(data, Mapping) or "inputs" not in data:
        raise RequestError(f'The body is {short(data)}: send {{"inputs": "a text"}}, or a list of texts.')
    strange = sorted(set(data) - set(_FIELDS), key=str)
    if strange:
        raise RequestError(f"The field {short(strange[0])} is unknown: use {', '.join(_FIELDS)}.")
    truncate, top_k = data.get("truncate", False), data.get("top_k", ...)
    if not isinstance(truncate, bool):
        raise RequestError(f"truncate is {short(truncate)}: give true or false.")
    if top_k not in (..., None) and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise RequestError(f"top_k is {short(top_k)}: give a number of labels, or null for all.")
    inputs = data["inputs"]
    inputs = inputs if isinstance(inputs, list) else [inputs]
    if not 1 <= len(inputs) <= _MOST:
        raise RequestError(f"inputs holds {len(inputs)} texts: send 1 to {_MOST} at a time.")
    return Request([_item(value, number) for number, value in enumerate(inputs, 1)], truncate, top_k)


def _item(value: Any, number: int) -> Item:
    text, pair = value, None
    if isinstance(value, Mapping):
        if not {"text"} <= set(value) <= {"text", "text_pair"}:
            raise RequestError(
                f"Input {number} has the fields {short(sorted(value, key=str))}: give text, or text and text_pair."
            )
        text, pair = value["text"], value.get("text_pair")
    for part in (text, pair):
        if not (isinstance(part, str) or (part is None and part is pair and text is not None)):
            raise RequestError(f"Input {number} is {short(value)}: give a text, or a pair of text and text_pair.")
        if part is not None and not is_unicode(part):
            raise RequestError(f"Input {number} has half a character in it: write the text anew, as UTF-8.")
    if not text.strip():
        raise RequestError(f"Input {number} is empty: put words in, or leave it out.")
    return text, pair
