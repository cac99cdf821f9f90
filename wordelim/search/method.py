"""What a method of search is: what it is given, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import datasets
from transformers import PreTrainedModel

from ..graph.cost import Cost, Flops, Text, cost_of
from ..graph.protect import sizes_of
from ..graph.splice import eliminate_, restore_
from ..graph.support import is_marked
from ..retention import Retention
from ..system.progress import FAST, Progress, tokens
from ..tasks import Task
from ..training.teacher import Teacher
from .registry import METHODS, register

__all__ = ["CONFIRMED", "METHODS", "SPEEDS", "Candidate", "Context", "Found", "Search", "frontier", "register"]

SPEEDS = (1.25, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
"""Ratios that are searched for unless others are asked for."""
CONFIRMED = 256
"""Texts of the sample that candidates are measured on, at most."""


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
        """As plain data."""
        return {**asdict(self), "retention": self.retention.to_dict()}

    def told(self) -> dict[str, Any]:
        """The same for a report."""
        return {**self.to_dict(), "retention": self.retention.told()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Read what :meth:`to_dict` wrote."""
        return cls(Retention.from_dict(data["retention"]), data["flops_ratio"], data["divergence"])


@dataclass(frozen=True)
class Context:
    """What a search has to work with.

    Args:
        model: a dense model of a known family.
        teacher: the dense model again, which stays as it is; the same model where nothing is trained.
        task: what its head is asked.
        train: encoded texts with labels.
        sample: some of them in random order; no labels needed.
        texts: their lengths, or those of ``train``: see :attr:`Search.counted`.
        cost: what the search saves, in FLOPs or in time.
        flops: of the encoder.
        template: a retention whose ``protect`` and ``restore`` those found have.
        speeds: ratios of ``cost`` to find, against the dense encoder without padding, from low to high.
        batch_size: texts that are run, or trained on, at once.
        progress: called with a stage of :meth:`Search.stages` and the share of it that is done.
        place: where checkpoints of a training go and are looked for, so that a run that was killed goes on; None keeps
            none.
    """

    model: PreTrainedModel
    teacher: Teacher
    task: Task
    train: datasets.Dataset
    sample: datasets.Dataset
    texts: Sequence[Text]
    cost: Cost
    flops: Flops
    template: Retention
    speeds: Sequence[float] = SPEEDS
    batch_size: int = 32
    progress: Progress = lambda stage, share: None
    place: Callable[[], Path | None] = lambda: None

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        task: Task,
        sample: datasets.Dataset,
        *,
        template: Retention | None = None,
        flops: Flops | None = None,
        **more: Any,
    ) -> Context:
        """For a search that trains nothing and saves FLOPs.

        Args:
            template: None protects the first token alone.
            flops: None counts them.
        """
        template = template or Retention.keep_all(model.config.num_hidden_layers)
        if flops is None:
            flops = cost_of(eliminate_(model, template))
            restore_(model)
        texts = sizes_of(sample, template)
        return cls(model, Teacher(model, task), task, sample, sample, texts, flops, flops, template, **more)


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Args:
        candidates: from slow to fast, each measured under hard extraction on the dense weights; speeds out of reach are
            left out.
        warnings: sentences on what makes the result doubtful.
        history: the Trainer's log, where something was trained.
    """

    candidates: Sequence[Candidate]
    warnings: Sequence[str] = ()
    history: Sequence[dict[str, Any]] = ()


class Search(ABC):
    """A method, as a frozen dataclass of its options; each is taken from the field of its name in the settings."""

    counted: ClassVar[Literal["sample", "train"]] = "sample"
    """The texts of which ``Context.texts`` has the lengths: speeds are counted on them."""

    def stages(self, lengths: Sequence[int], layers: int, speeds: int) -> Mapping[str, float]:
        """The stages to come, in their order, and what each takes, in tokens through the dense encoder.

        Args:
            lengths: tokens of every training text.
            layers: of the encoder.
            speeds: how many are searched for.
        """
        return {"confirming": speeds * tokens(lengths, CONFIRMED) * FAST}

    def __call__(self, context: Context) -> Found:
        """Search, and leave the model dense."""
        try:
            return self.find(context)
        finally:
            if is_marked(context.model.config):
                restore_(context.model)

    @abstractmethod
    def find(self, context: Context) -> Found:
        """The search itself, which may leave the model compressed, but its weights as they were."""


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
