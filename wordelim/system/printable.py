"""Text and data that are safe to show: no character in them acts on a terminal, or reorders what stands around it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from reprlib import repr as short
from typing import Any

__all__ = ["bare_name", "first_line", "is_hub_name", "json_text", "one_line", "printable", "short"]

_LINES = "\t\n"
_LONGEST = 300  # characters of a message that is quoted
# Control characters of ASCII have pictures of their own; what else acts without being seen has none.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in _LINES} | {0x7F: 0x2421}
_UNSEEN = (
    (0x80, 0x9F),  # control characters too: U+009B begins a terminal's sequences as ESC [ does
    (0x200B, 0x200B),  # takes no room
    (0x2028, 0x202E),  # separators of lines and paragraphs, and what turns the direction of writing
    (0x2060, 0x206F),  # the same again
    (0xD800, 0xDFFF),  # half a character, which no file or terminal can be given
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0xFFFE, 0xFFFF),  # no characters, and not allowed in XML
    (0xE0000, 0xE007F),  # tags, which nobody sees
)
_PRINTABLE = _PICTURES | {code: 0xFFFD for first, last in _UNSEEN for code in range(first, last + 1)}
_IN_JSON = f"[\x7f{''.join(f'{chr(first)}-{chr(last)}' for first, last in _UNSEEN)}]"


def printable(text: str) -> str:
    """Text with a visible character for each one that isn't: ``␛`` for ESC. Tabs and ends of lines stay."""
    return text.translate(_PRINTABLE)


def one_line(text: str) -> str:
    """The same in one line, each run of white space a blank."""
    return re.sub(r"\s+", " ", printable(text))


def json_text(data: Any) -> str:
    """Plain data as JSON, with every character escaped that is not printable.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has no form for.
    """
    import json  # which takes its time, and the command line imports this module first

    written = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    # Such characters stand in strings alone, as json escapes those of ASCII itself.
    return re.sub(_IN_JSON, lambda found: json.dumps(found[0])[1:-1], written)


def is_hub_name(name: str | os.PathLike[str]) -> bool:
    """Whether what a user named is nothing on this machine, but something on the hub."""
    return not str(name).startswith((".", "/", "~")) and not Path(name).exists()


def bare_name(name: str | os.PathLike[str]) -> str:
    """What a user named, without where it stands on this machine: a hub name, or the last part of a path."""
    return str(name) if is_hub_name(name) else Path(os.path.abspath(Path(name).expanduser())).name


def first_line(error: BaseException) -> str:
    """The first line of an error's message as it is quoted in a sentence, or the error's name where it has none."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
