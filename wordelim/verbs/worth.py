"""The verdict of a probe: is compressing worth it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["RECOVERABLE", "WORTH", "fastest", "judge"]

# Points above the bound that retraining may win back: a rule of thumb, put to the test by tests/benchmarks/probe.py.
RECOVERABLE = 3.0
# Tokens below which a text has little to drop: special tokens and the few words that decide are all there is.
_SHORT = 16
# What dropping must win over packing, and packing over padding, to be worth a user's while.
WORTH, _WORTH_PACKING = 1.2, 1.15


def judge(
    mean_length: float, packing: float, headroom: Sequence[Mapping[str, Any]], max_drop: float
) -> tuple[str, str]:
    """Whether compressing is worth it: ``worth it``, ``pack only`` or ``no``; and why in a sentence.

    Args:
        mean_length: tokens of a text, on average.
        packing: measured speed-up of the rewritten model that drops nothing.
        headroom: from slow to fast, with ``drop`` and ``speedup``.
        max_drop: points that may be lost.
    """
    packed = f"packing alone gives {packing:.2f}x on batches of mixed length here"
    reach = fastest(headroom, max_drop + RECOVERABLE)
    if mean_length < _SHORT:
        return "no", f"your inputs average {mean_length:.0f} tokens, too few to drop from; {packed}"
    if reach is not None and reach["speedup"] >= WORTH * packing:
        now = fastest(headroom, max_drop)
        held = "none of it without retraining" if now is None else f"{now['speedup']:.2f}x without retraining"
        return "worth it", f"about {reach['speedup']:.2f}x is in reach with retraining, {held}; {packed}"
    answer = "pack only" if packing >= _WORTH_PACKING else "no"
    return answer, f"{packed}, and dropping word vectors adds little within {max_drop:g} points"


def fastest(headroom: Sequence[Mapping[str, Any]], bound: float) -> Mapping[str, Any] | None:
    """The fastest point that loses no more than this; None where there is none."""
    return next((point for point in reversed(headroom) if point["drop"] <= bound + 1e-9), None)
