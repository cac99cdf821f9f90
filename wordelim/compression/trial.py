"""A model that is tried out: what it loses on the validation texts, before and after retraining."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import AnswersError, TrainingError
from ..evaluation.smoothed import smoothed_bound
from ..evaluation.statistics import paired_bootstrap
from ..graph.splice import eliminate_
from ..retention import Retention
from ..search.method import Candidate
from ..system.machine import has_fast_bf16
from ..training.fit import Fit
from ..training.retrain import retrain_
from ..training.teacher import ASKING
from .job import Job, Log, without_nan

__all__ = ["Lost", "Trial", "Weights"]

Array: TypeAlias = NDArray[Any]

# Between two speeds of which the slower holds and the faster doesn't, so many more are looked at, at most, and none
# that is faster than the one before by less than this ratio.
_BETWEEN = 3
_STEP = 1.05


@dataclass(frozen=True)
class Lost:
    """Points that are lost on the validation texts.

    Args:
        drop: as measured.
        bound: at most so many, on texts like these, with the confidence that was asked for.
    """

    drop: float
    bound: float


@dataclass(frozen=True)
class Weights:
    """A model's weights, and the stage that they come from."""

    stage: str
    tensors: Mapping[str, Tensor]


class _Said(NamedTuple):
    """What a model answers the validation texts, and its logits where these are of one class out of some."""

    answers: Array
    logits: Array | None


class Trial:
    """The model of a job, whose weights are those of one stage or another.

    What it loses on the validation texts at a stage, keeping what a candidate says, is measured once.
    """

    def __init__(self, job: Job, log: Log) -> None:
        self.job, self.log = job, log
        self.stage = "found"
        self._dense: dict[bool, _Said] = {}
        self._said: dict[tuple[Retention, bool], _Said] = {}
        self._measured: dict[tuple[str, Retention], Lost] = {}

    def drop(self, candidate: Candidate) -> float:
        """Points that are lost on validation when a candidate is kept, roughly: in bf16 where that is faster."""
        dense, compressed = self._both(candidate, exact=False)
        return self._noted(candidate, self._points(dense) - self._points(compressed))

    def lost(self, candidate: Candidate) -> Lost:
        """The same in fp32, as what is lost in the end is measured, and how much it may be on other texts."""
        asked = self.stage, candidate.retention
        if asked not in self._measured:
            dense, compressed = self._both(candidate, exact=True)
            drop = self._points(dense) - self._points(compressed)
            lost = Lost(drop, max(drop, self._bound(dense, compressed, drop)))
            self._noted(candidate, lost.drop, bound=round(lost.bound, 3))
            self._measured[asked] = lost
        return self._measured[asked]

    def _bound(self, dense: _Said, compressed: _Said, drop: float) -> float:
        """At most so many points are lost, with the confidence asked for; with one of a half, those as measured."""
        settings, ready, texts = self.job.settings, self.job.ready, self.job.screen
        metric, truth = ready.metric.of_answers(), ready.task.truth(texts)
        if settings.confidence == 0.5:
            return drop
        if dense.logits is not None and compressed.logits is not None and (metric.is_mean or metric.finish is not None):
            logits = dense.logits, compressed.logits
            return smoothed_bound(metric, *logits, truth, confidence=settings.confidence, seed=settings.seed)
        found = paired_bootstrap(
            metric,
            dense.answers,
            compressed.answers,
            truth,
            seed=settings.seed,
            confidence=2 * settings.confidence - 1,
            clusters=ready.task.clusters(texts),
        )
        return found.high if np.isfinite(found.high) else drop

    def _points(self, said: _Said) -> float:
        ready = self.job.ready
        return ready.metric.of_answers()(said.answers, ready.task.truth(self.job.screen))

    def _both(self, candidate: Candidate, *, exact: bool) -> tuple[_Said, _Said]:
        """Of the dense model, and of this one when it keeps what the candidate says."""
        job, ready, texts = self.job, self.job.ready, self.job.screen
        bf16 = not exact and has_fast_bf16(job.model.device)

        def said(model: PreTrainedModel) -> _Said:
            logits = job.logits(model, texts, bf16=bf16)
            of_classes = ready.task.kind == "single_label_classification"
            return _Said(ready.task.answers(ready.metric, logits, texts), logits if of_classes else None)

        if bf16 not in self._dense:
            self._dense[bf16] = said(job.teacher)
        asked = candidate.retention, bf16
        if asked not in self._said:
            eliminate_(job.model, candidate.retention)
            try:
                self._said[asked] = said(job.model)
            except AnswersError as error:
                if self.stage == "found":
                    raise
                raise TrainingError(f"Retrained, the compressed model {error.found}: lower --learning-rate.") from error
        return self._dense[bf16], self._said[asked]

    def _noted(self, candidate: Candidate, drop: float, **more: float) -> float:
        ratio = self.job.ready.cost.ratio(self.job.texts["validation"], candidate.retention)
        told = {"keep": list(candidate.retention.keep), "flops_ratio": round(ratio, 3), "drop": round(drop, 3)}
        self.log.tried.append({"stage": self.stage, **told, **more})
        return drop

    def between(self, slow: Candidate, fast: Candidate) -> Sequence[Candidate]:
        """Some candidates between two, from slow to fast, where there is room."""
        if slow.retention.kind != "fraction":
            return ()
        texts, cost = self.job.texts["train"], self.job.ready.cost
        steps = min(_BETWEEN, int(np.log(fast.flops_ratio / slow.flops_ratio) / np.log(_STEP)))
        found = []
        for step in range(1, steps + 1):
            pairs = zip(slow.retention.keep, fast.retention.keep, strict=True)
            keep = tuple(round(a + (b - a) * step / (steps + 1), 3) for a, b in pairs)
            retention = replace(slow.retention, keep=keep)
            found.append(Candidate(retention, cost.ratio(texts, retention), float("nan")))
        return found

    def choice(self, chosen: Candidate, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """For the report: what may be lost by what was chosen, and what the figures as measured would have chosen.

        Of the candidates, from slow to fast, those faster than the chosen one are looked at until one loses too much as
        measured.

        ``texts`` were chosen on; with about ``enough_texts`` like them the bound would be within what may be lost, None
        where none would do.
        """
        settings, lost, texts = self.job.settings, self.lost(chosen), len(self.job.screen)
        room, doubt = settings.max_drop - lost.drop, lost.bound - lost.drop
        enough = int(np.ceil(texts * max(1.0, (doubt / room) ** 2))) if room > 0 else None
        for candidate in candidates:
            if candidate.flops_ratio > chosen.flops_ratio and self.lost(candidate).drop > settings.max_drop:
                break
        within = [
            tried for tried in self.log.tried if tried["stage"] == self.stage and tried["drop"] <= settings.max_drop
        ]
        if lost.bound > settings.max_drop >= lost.drop:
            self.log.warnings.append(
                f"{texts} validation texts don't make it {settings.confidence:.0%} sure that at most "
                f"{settings.max_drop:g} points are lost: it may be {lost.bound:.2f}; "
                + (f"about {enough} texts would do." if enough else "no number of such texts would.")
            )
        return {
            "confidence": settings.confidence,
            "drop": round(lost.drop, 3),
            "bound": round(lost.bound, 3),
            "texts": texts,
            "enough_texts": enough,
            "fastest_as_measured": max(within, key=lambda tried: tried["flops_ratio"], default=None),
        }

    def weights(self) -> Weights:
        """The weights as they are, to come back to."""
        return Weights(self.stage, {name: tensor.clone() for name, tensor in self.job.model.state_dict().items()})

    def dense_weights(self) -> Weights:
        """The weights before any retraining."""
        return Weights("found", self.job.teacher.state_dict())

    def take_back(self, weights: Weights) -> None:
        """Give the model these weights again."""
        self.job.model.load_state_dict(weights.tensors)
        self._begin(weights.stage)

    def _begin(self, stage: str) -> None:
        """Take note that the weights are others now. What was lost with others stays known, not what they answered."""
        self.stage = stage
        self._said.clear()

    def retrain(self, candidates: Sequence[Candidate], epochs: float, stages: Sequence[str]) -> None:
        """Retrain for all candidates at once: once for each stage, with one seed after the other.

        Of several the weights are kept that lose least.
        """
        if len(stages) == 1:
            self._retrain(candidates, epochs, stages[0], 0)
            return
        best, least = self.weights(), float("inf")
        start = best
        for number, stage in enumerate(stages):
            self.take_back(start)
            self._retrain(candidates, epochs, stage, number)
            lost = float(np.mean([self.drop(candidate) for candidate in candidates]))
            if lost < least:
                best, least = self.weights(), lost
        self.take_back(best)

    def _retrain(self, candidates: Sequence[Candidate], epochs: float, stage: str, number: int) -> None:
        job, settings, ready = self.job, self.job.settings, self.job.ready
        name = re.sub(r"\W+", "-", stage)
        retentions = [candidate.retention for candidate in candidates]
        told = job.journal.known(name)
        assert settings.learning_rate is not None  # whoever made the job has decided
        if told is not None:
            eliminate_(job.model, retentions[0])
            job.model.load_state_dict(job.journal.weights(name))
        else:
            history = retrain_(
                job.model,
                job.taught,
                ready.task,
                job.taught.note(ready.examples["train"].dataset, lambda share: job.progress(ASKING, share)),
                retentions,
                Fit(
                    epochs=epochs,
                    learning_rate=settings.learning_rate,
                    batch_size=settings.batch_size,
                    seed=settings.seed + number,
                    temperature=settings.temperature,
                    report_to=settings.report_to,
                    name=f"wordelim {stage}",
                    place=job.journal.place(name),
                ),
                progress=lambda share: job.progress(stage, share),
            )
            told = [{"stage": stage, **without_nan(entry)} for entry in history]
            job.journal.keep(name, told, job.model)
        self.log.history += told
        self._begin(stage)
