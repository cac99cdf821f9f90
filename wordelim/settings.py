"""What a user can choose about a compression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import WordelimError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Choices of one compression; the defaults suit most.

    Args:
        max_drop: points of the metric that may be lost on the validation texts.
        target_speedup: a FLOPs ratio against the dense encoder without padding to reach, instead of the fastest within
            ``max_drop``.
        keep: fractions (or, where one is above 1, counts) of word vectors to keep in each layer, instead of a search.
        method: ``"calibrated"``, the training-free search.
        metric: its name; None for the task's usual one.
        retrain: adapt the weights to the elimination.
        epochs: passes over the training texts while retraining, in all.
        learning_rate, batch_size, temperature: of the retraining.
        max_length: tokens at which texts are cut; None for what the tokenizer and the model allow.
        search_examples: training texts that the search measures on.
        measure_speed: time both models at the end.
        seed: of everything that is random.
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
        if not self.max_drop >= 0:
            raise WordelimError(f"max_drop is {self.max_drop}: give 0 or more points.")
        if self.target_speedup is not None and not self.target_speedup > 1:
            raise WordelimError(f"target_speedup is {self.target_speedup}: give a ratio above 1.")
        for name in ("epochs", "learning_rate", "batch_size", "temperature", "search_examples"):
            if not getattr(self, name) > 0:
                raise WordelimError(f"{name} is {getattr(self, name)}: give a number above 0.")

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a report."""
        return {**asdict(self), "keep": None if self.keep is None else list(self.keep)}
