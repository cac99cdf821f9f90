"""Settings that several verbs have, declared once; what ``--help`` says of them differs by a word."""

from __future__ import annotations

from typing import Any

from ..errors import WordelimError
from ..system.declared import Check, number, setting, whole

__all__ = ["at_least", "batch_size", "max_drop", "max_length", "metric", "positive", "seed", "share"]

_LARGEST_SEED = 2**32 - 1

positive = number("a number above 0", lambda value: value > 0)


def share(example: str) -> Check:
    return number(f"a share between 0 and 1, such as {example}", lambda value: 0 < value < 1)


def at_least(least: int) -> Check:
    return whole(f"a whole number of at least {least}", lambda value: value >= least)


def max_drop(where: str = "") -> Any:
    check = number("0 or more points, such as 1", lambda value: value >= 0)
    return setting(1.0, f"Points of the metric that may be lost{where}.", check, panel="Goal")


def _metric(name: str, value: Any) -> Any:
    if not isinstance(value, str) and not callable(value):
        raise WordelimError(f"{name} is {value!r}: give a name, or a function as the Trainer's compute_metrics.")
    return value


def metric() -> Any:
    return setting(None, "Metric; the task's usual one unless given.", _metric, panel="Goal")


def max_length(more: str = "") -> Any:
    return setting(None, f"Cut texts at this many tokens{more}.", whole("a whole number of tokens"), panel="Data")


def batch_size(help: str) -> Any:
    return setting(32, help, at_least(1), panel="Run")


def seed(of: str) -> Any:
    check = whole(f"a whole number from 0 to {_LARGEST_SEED}", lambda value: 0 <= value <= _LARGEST_SEED)
    return setting(0, f"Seed of {of}.", check, panel="Run")
