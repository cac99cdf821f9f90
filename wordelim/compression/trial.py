"""A model that is tried out: what it loses on the validation texts, before and after retraining."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from ..graph.splice import eliminate_
from ..search.method import Candidate
from ..system.machine import has_fast_bf16
from ..training.fit import Fit
from ..training.retrain import retrain_
from ..training.teacher import ASKING
from .job import Job, Log, without_nan

__all__ = ["Trial", "Weights"]


@dataclass(frozen=True)
class Weights:
    """A model's weights, and the stage that they come from."""

    stage: str
    tensors: Mapping[str, Tensor]


class Trial:
    """The model of a job, whose weights are those of one stage or another."""

    def __init__(self, job: Job, log: Log) -> None:
        self.job, self.log = job, log
        self.stage = "found"
        self._dense: dict[bool, float] = {}

    def drop(self, candidate: Candidate, *, exact: bool = True) -> float:
        """Points that are lost on validation when a candidate is kept, noted for the report.

        Args:
            exact: in fp32, as what is lost in the end is measured; else in bf16 where that is faster.
        """
        job, retention = self.job, candidate.retention
        eliminate_(job.model, retention)
        if exact not in self._dense:
            self._dense[exact] = self._points(job.teacher, exact=exact)
        drop = self._dense[exact] - self._points(job.model, exact=exact)
        ratio = job.ready.cost.ratio(job.texts["validation"], retention)
        tried = {"keep": list(retention.keep), "flops_ratio": round(ratio, 3), "drop": round(drop, 3)}
        self.log.tried.append({"stage": self.stage, **tried})
        return drop

    def _points(self, model: PreTrainedModel, *, exact: bool) -> float:
        ready, texts = self.job.ready, self.job.screen
        logits = self.job.logits(model, texts, bf16=not exact and has_fast_bf16(model.device))
        return ready.task.points(ready.metric, logits, texts)

    def weights(self) -> Weights:
        """The weights as they are, to come back to."""
        return Weights(self.stage, {name: tensor.clone() for name, tensor in self.job.model.state_dict().items()})

    def take_back(self, weights: Weights) -> None:
        """Give the model these weights again."""
        self.job.model.load_state_dict(weights.tensors)
        self.stage = weights.stage

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
            lost = float(np.mean([self.drop(candidate, exact=False) for candidate in candidates]))
            if lost < least:
                best, least = self.weights(), lost
        self.take_back(best)

    def _retrain(self, candidates: Sequence[Candidate], epochs: float, stage: str, number: int) -> None:
        job, settings, ready = self.job, self.job.settings, self.job.ready
        name = re.sub(r"\W+", "-", stage)
        retentions = [candidate.retention for candidate in candidates]
        told = job.journal.known(name)
        if told is not None:
            eliminate_(job.model, retentions[0])
            job.model.load_state_dict(job.journal.weights(name))
        else:
            watch = len(retentions) == 1
            history = retrain_(
                job.model,
                job.taught,
                ready.task,
                job.taught.note(ready.encoded["train"].dataset, lambda share: job.progress(ASKING, share)),
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
                validation=job.screen if watch else None,
                metric=ready.metric if watch else None,
                progress=lambda share: job.progress(stage, share),
            )
            told = [{"stage": stage, **without_nan(entry)} for entry in history]
            job.journal.keep(name, told, job.model)
        self.log.history += told
        self.stage = stage
