"""What a user can choose about a compression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import WordelimError

__all__ = ["Settings"]

_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Settings:
    """Choices of one compression; the defaults suit most.

    Args:
        max_drop: points of the metric that may be lost on the validation texts.
        target_speedup: a FLOPs ratio against the dense encoder without padding to reach, instead of the fastest within
            ``max_drop``.
        keep: fractions (or, where they are whole numbers and one is above 1, counts) of word vectors to keep in each
            layer, instead of a search.
        method: ``"calibrated"``, the training-free search.
        metric: its name; None for the task's usual one.
        retrain: adapt the weights to the elimination.
        epochs: passes over the training texts while retraining, in all.
        learning_rate, batch_size, temperature: of the retraining.
        max_length: tokens at which texts are cut; None for what the tokenizer and the model allow.
        search_examples: training texts that the search measures on.
        measure_speed: time both models at the end.
        seed: of everything that is random.

    Raises:
        WordelimError: a value is out of its range, or two exclude each other.
    """

    max_drop: float = 1.0
    target_speedup: float | None = None
    keep: Sequence[float] | None = None
    method: str = "calibrated"
    metric: str | None = None
    retrain: bool = True
    epochs: float = 2.0
    learning_rate: float = 5e-5
    batch_size: int = 32
    temperature: float = 2.0
    max_length: int | None = None
    search_examples: int = 512
    measure_speed: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method != "calibrated":
            raise WordelimError(f"Method {self.method!r} is unknown: use 'calibrated'.")
        if self.keep is not None and self.target_speedup is not None:
            raise WordelimError("Both keep and target_speedup are given: give one of them.")
        if not _is_number(self.max_drop) or self.max_drop < 0:
            raise WordelimError(f"max_drop is {self.max_drop}: give 0 or more points, such as 1.")
        if self.target_speedup is not None and (not _is_number(self.target_speedup) or self.target_speedup <= 1):
            raise WordelimError(f"target_speedup is {self.target_speedup}: give a ratio above 1, such as 2.")
        for name in ("epochs", "learning_rate", "temperature"):
            if not _is_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise WordelimError(f"{name} is {getattr(self, name)}: give a number above 0.")
        for name in ("batch_size", "search_examples"):
            if not _is_whole(getattr(self, name)) or getattr(self, name) < 1:
                raise WordelimError(f"{name} is {getattr(self, name)}: give a whole number of at least 1.")
        if self.max_length is not None and not _is_whole(self.max_length):
            raise WordelimError(f"max_length is {self.max_length}: give a whole number of tokens.")
        if not _is_whole(self.seed) or not 0 <= self.seed <= _LARGEST_SEED:
            raise WordelimError(f"seed is {self.seed}: give a whole number from 0 to {_LARGEST_SEED}.")
        if self.keep is not None:
            if isinstance(self.keep, str) or not all(_is_number(value, finite=False) for value in self.keep):
                raise WordelimError(f"keep is {self.keep!r}: give one number for each layer, such as [0.9, 0.5, 0.3].")
            object.__setattr__(self, "keep", tuple(self.keep))

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a report."""
        return {**asdict(self), "keep": None if self.keep is None else list(self.keep)}


def _is_number(value: Any, *, finite: bool = True) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and (not finite or math.isfinite(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
