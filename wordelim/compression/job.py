"""What the steps of one compression share: what they work on, and what they note."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..evaluation.inference import logits_of
from ..graph.cost import Text
from ..system.memory import give_back_memory
from ..system.progress import Progress
from ..training.teacher import Teacher
from .journal import Journal
from .prepare import Ready
from .settings import Settings

__all__ = ["SCREENED", "Job", "Log", "without_nan"]

SCREENED = 2000
"""Validation texts on which candidates are compared, at most."""


@dataclass(frozen=True)
class Job:
    """What the steps of one compression work on.

    Args:
        model: the model that is compressed; the steps change it, one after the other.
        teacher: a copy of it as it was, in fp32.
    """

    model: PreTrainedModel
    teacher: PreTrainedModel
    ready: Ready
    settings: Settings
    journal: Journal
    progress: Progress
    # What the teacher has said, of which texts and whether in bf16.
    _told: dict[tuple[int, bool], tuple[datasets.Dataset, NDArray[np.float32]]] = field(
        default_factory=dict, init=False, repr=False
    )

    @cached_property
    def taught(self) -> Teacher:
        """The teacher as a student learns from it."""
        return Teacher(self.teacher, self.ready.task)

    @cached_property
    def texts(self) -> Mapping[str, Sequence[Text]]:
        """Lengths of the encoded texts, by set."""
        return {name: part.sizes(self.ready.template) for name, part in self.ready.examples.items()}

    @cached_property
    def screen(self) -> datasets.Dataset:
        """The validation texts on which candidates are compared."""
        return self.ready.examples["validation"].sample(SCREENED, np.random.default_rng(self.settings.seed))

    @cached_property
    def sample(self) -> datasets.Dataset:
        """The training texts that the search measures on."""
        train = self.ready.examples["train"].dataset
        rows = np.random.default_rng(self.settings.seed).permutation(len(train))
        return train.select(rows[: self.settings.search_examples].tolist())

    def logits(
        self,
        model: PreTrainedModel,
        texts: datasets.Dataset,
        *,
        bf16: bool = False,
        progress: Callable[[int], None] = lambda done: None,
    ) -> NDArray[np.float32]:
        """What the model or the teacher says of encoded texts; the teacher is asked about the same ones once."""
        of_teacher, asked = model is self.teacher, (id(texts), bf16)
        if of_teacher and asked in self._told:
            progress(len(texts))
            return self._told[asked][1]
        who = "The dense model" if of_teacher else "The compressed model"
        # What is left of short texts is so few rows that matrix products are slow on a CPU.
        size = self.settings.batch_size * (1 if of_teacher or model.device.type != "cpu" else 4)
        said = logits_of(model, texts, self.ready.task, batch_size=size, bf16=bf16, progress=progress, who=who)
        give_back_memory()
        if of_teacher:
            self._told[asked] = texts, said
        return said


@dataclass
class Log:
    """What a report tells of the way to its result.

    Args:
        tried: each retention that was measured on the validation texts.
        history: the Trainer's logs, an entry a dictionary with its ``stage``.
        choice: how sure it is that what was chosen holds; see :meth:`.trial.Trial.choice`.
        warnings: sentences.
        seconds: by step.
    """

    tried: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    choice: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long a step takes."""
        start = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - start, 1)


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with None for what is no finite number."""
    return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in values.items()}
