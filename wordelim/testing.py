"""For tests of your own: a compressed model as an assertion."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .data.read import Data
from .report.check import summary
from .verbs.check import check

__all__ = ["assert_accuracy_drop"]


def assert_accuracy_drop(
    base: str | os.PathLike[str] | None,
    compressed: str | os.PathLike[str],
    data: Data,
    *,
    max_drop: float = 1.0,
    **options: Any,
) -> Mapping[str, Any]:
    """Assert that a compressed model loses at most ``max_drop`` points on labelled examples.

    Args:
        base, compressed, data, options: as in :func:`wordelim.check`; with ``baseline_report``, ``base`` may be None.
        max_drop: points of the metric, which is the task's usual one unless ``metric`` names another.

    Returns:
        The report of the check.

    Raises:
        AssertionError: the drop, or the speed-up where one is asked for, is out of bounds.
        WordelimError: something can't be used.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    result = check(base, compressed, data=data, max_drop=max_drop, **options)
    if not result.passed:
        raise AssertionError(summary(result.report))
    return result.report
