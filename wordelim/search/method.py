"""What a search returns: retentions from slow to fast, with what each is expected to cost in accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..retention import Retention

__all__ = ["SPEEDS", "Candidate", "frontier"]


@dataclass(frozen=True)
class Candidate:
    """A retention and what a search measured of it.

    Args:
        retention: how many word vectors each layer keeps.
        flops_ratio: FLOPs of the dense encoder over those left, on the searched texts without padding.
        divergence: mean divergence of its logits from the dense ones, under hard extraction and before retraining.
    """

    retention: Retention
    flops_ratio: float
    divergence: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a report."""
        return {**asdict(self), "retention": self.retention.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Read what :meth:`to_dict` wrote."""
        return cls(Retention.from_dict(data["retention"]), data["flops_ratio"], data["divergence"])


def frontier(
    candidates: Iterable[Candidate], speed: Callable[[Candidate], float] = lambda candidate: candidate.flops_ratio
) -> Sequence[Candidate]:
    """The candidates to which no other is both faster and nearer to the dense model, from slow to fast.

    Args:
        speed: how fast a candidate is; another measure than FLOPs would else lose the fastest by its own.
    """
    best: list[Candidate] = []
    lowest = float("inf")
    for candidate in sorted(candidates, key=lambda c: (-speed(c), c.divergence)):
        if candidate.divergence < lowest:
            best.append(candidate)
            lowest = candidate.divergence
    return tuple(reversed(best))


SPEEDS = (1.25, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
"""FLOPs ratios that are searched for unless others are asked for."""
