"""What is said of a measured speed-up: of the compressed model, against the dense one under SDPA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .parts import Fact, Section, Table

__all__ = ["fact", "how_measured", "rows", "section", "sentence", "slower", "threads"]

_PROTOCOLS = {
    "dynamic": (
        "both in random batches padded to their longest text, as pipelines do",
        "measured, batches padded to their longest text (as in pipelines)",
    ),
    "unpadded": (
        "both in batches of nearly equal length, so that neither computes padding",
        "measured, batches of texts of equal length (no padding)",
    ),
    "fixed": (
        "the dense model padded to {max_length} tokens, the paper's protocol",
        "measured, against a dense model padded to {max_length} tokens",
    ),
}
"""What runs in each protocol: in a page, and in a terminal."""


def threads(count: int) -> str:
    """How many threads computed."""
    return "1 thread" if count == 1 else f"{count} threads"


def how_measured(speed: Mapping[str, Any]) -> str:
    """On what a speed was measured."""
    return f"{speed['texts']} texts, batches of {speed['batch_size']}, {threads(speed['threads'])}, {speed['dtype']}"


def section(speed: Mapping[str, Any] | None) -> Section:
    """Each protocol in a row of a page's table."""
    if not speed:
        return Section("", [])
    found = [[name, f"{speed[name]:.2f}×", runs.format(**speed)] for name, (runs, _) in _PROTOCOLS.items()]
    caption = (
        f"Compressed against the dense model under SDPA, measured side by side in one run: {how_measured(speed)}, "
        f"median of {speed['rounds']} rounds."
    )
    table = Table(["protocol", "speed-up", "what runs"], found, caption, texts=(2,))
    return Section("How much faster", [table], "speed")


def rows(speed: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The same as names and values for a terminal."""
    found = [(f"{speed[name]:.2f}x", runs.format(**speed)) for name, (_, runs) in _PROTOCOLS.items()]
    return [*found, ("", f"({how_measured(speed)})")]


def fact(speed: Mapping[str, Any], protocol: str = "dynamic") -> Fact:
    """A figure that a page opens with."""
    how = "faster, measured" if speed[protocol] >= 1 else "as fast, measured"
    notes = {"dynamic": "in batches padded to their longest text", "unpadded": "where neither computes padding"}
    return Fact(f"{speed[protocol]:.2f}×", how, notes[protocol])


def sentence(speed: Mapping[str, Any]) -> str:
    """All three in one sentence, without its beginning and its full stop."""
    return (
        f"{speed['dynamic']:.2f}x in random batches of {speed['batch_size']} padded to their longest text, "
        f"{speed['unpadded']:.2f}x in batches of equal length, {speed['fixed']:.2f}x over texts padded to "
        f"{speed['max_length']} tokens ({speed['texts']} texts, {threads(speed['threads'])}, {speed['dtype']})"
    )


def slower(speed: float, machine: Mapping[str, Any], rival: str = "the dense one") -> list[str]:
    """What is said where a card's answers come later than the dense model's: a sentence, or none."""
    if speed >= 1 or "card" not in machine:
        return []
    return [
        f"On this card the compressed model is slower than {rival} ({speed:.2f}x): a card isn't served well yet. "
        "Use that one there, or larger batches."
    ]
