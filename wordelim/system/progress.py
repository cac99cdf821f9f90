"""What is told of the work as it goes on, and what it is expected to take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

__all__ = ["FAST", "Foreseeing", "Progress", "expect", "tokens"]

Progress = Callable[[str, float], None]
"""Called with the name of the running stage and the share of it that is done, 0..1."""

FAST = 0.6
"""What a token takes of a model that drops word vectors. Weights of stages are in tokens through the dense encoder, and
rough: the clock corrects them as the run goes on."""


@runtime_checkable
class Foreseeing(Protocol):
    """A progress callback that is told what comes, too."""

    def expect(self, stages: Mapping[str, float], seconds: float | None = None) -> None:
        """Take note of the stages to come, in their order, and what each takes relative to the others.

        ``seconds`` is what they take in all, roughly; None where nobody knows.
        """


def expect(progress: Progress, stages: Mapping[str, float], seconds: float | None = None) -> None:
    """Tell a progress callback what comes, if it is one that wants to know."""
    if isinstance(progress, Foreseeing):
        progress.expect(stages, seconds)


def tokens(lengths: Sequence[int], most: int) -> float:
    """Tokens of ``most`` texts of these lengths on average, or of all where there are fewer."""
    return sum(lengths) * min(1.0, most / len(lengths))
