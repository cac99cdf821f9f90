"""The stages of one compression: search, choose and retrain, verify."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from .data import Columns, Encoded
from .errors import NotMetError
from .evaluation.inference import has_fast_bf16, logits_of
from .evaluation.latency import measure_speed
from .evaluation.metrics import Metric, predictions
from .evaluation.statistics import flips, paired_bootstrap
from .graph.cost import Cost
from .graph.model import eliminate_, retention_of
from .retention import Retention
from .search.calibrated import SPEEDS, calibrated_search
from .search.frontier import Candidate
from .settings import Settings
from .training.retrain import Retraining, retrain_

__all__ = ["Progress", "Ready", "Stages"]

Progress = Callable[[str, float], None]
"""Called with the name of the running stage and the share of it that is done, 0..1."""

# How far, in points, a frontier point may be behind before retraining to be worth retraining at all.
_RECOVERABLE = 12.0
# Validation texts on which frontier points are compared.
_SCREENED = 2000
# A speed-up counts as reached when the validation texts' lengths, which the search didn't see, give this share of it.
_NEAR = 0.98


@dataclass(frozen=True)
class Ready:
    """What is known once model, data and settings have been found to fit."""

    columns: Columns
    encoded: Mapping[str, Encoded]
    metric: Metric
    cost: Cost
    fixed: Retention | None


@dataclass
class Stages:
    """The stages of one compression over the objects that they share."""

    model: PreTrainedModel
    teacher: PreTrainedModel
    tokenizer: Any
    ready: Ready
    settings: Settings
    progress: Progress

    def __post_init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.encoded, self.metric, self.cost = self.ready.encoded, self.ready.metric, self.ready.cost
        self.validation = self.encoded["validation"].dataset
        rows = np.random.default_rng(self.settings.seed).permutation(len(self.validation))[:_SCREENED]
        self.screen = self.validation.select(sorted(rows.tolist()))

    def search(self) -> Sequence[Candidate]:
        """The retentions to choose from, from slow to fast."""
        train, fixed = self.encoded["train"], self.ready.fixed
        if fixed is not None:
            return (Candidate(fixed, self.cost.ratio(train.lengths, fixed), float("nan")),)
        start = time.perf_counter()
        target = self.settings.target_speedup
        speeds = SPEEDS if target is None else (target,)
        most = self.cost.ratio(train.lengths, Retention((0.0,) * self.cost.layers))
        rows = np.random.default_rng(self.settings.seed).permutation(len(train.dataset))
        found: Sequence[Candidate] = ()
        if most >= min(speeds):
            found = calibrated_search(
                self.model,
                self.tokenizer,
                train.dataset.select(rows[: self.settings.search_examples].tolist()),
                speeds=speeds,
                progress=lambda stage, share: self.progress(f"search: {stage}", share),
            )
        if not found:
            raise NotMetError(
                f"A FLOPs ratio of {min(speeds):g} is out of reach: one word vector left in each layer gives "
                f"{most:.2f} on these texts; ask for less, or use longer texts or a model with more layers."
            )
        self.seconds["search"] = round(time.perf_counter() - start, 1)
        return found if target is None else found[-1:]

    def choose(self, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
        """Leave the model at the fastest candidate whose drop is within bounds, or at the nearest to them."""
        start = time.perf_counter()
        self.dense_screen = self._points(self.teacher, self.screen)
        history: list[dict[str, Any]] = []
        if len(candidates) > 1 and self.settings.retrain:
            candidates = self._worth_retraining(candidates)
        if len(candidates) > 1 and self.settings.retrain:
            half = self.settings.epochs / 2
            history += self._retrain([c.retention for c in candidates], half, "retrain: all speeds")
            chosen = self._fastest_within(candidates)
            shared = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            shared_drop = self._drop(chosen.retention)
            history += self._retrain([chosen.retention], half, "retrain: chosen speed")
            if self._drop(chosen.retention) > max(shared_drop, self.settings.max_drop):
                self.model.load_state_dict(shared)
        elif self.settings.retrain:
            chosen = candidates[0]
            history += self._retrain([chosen.retention], self.settings.epochs, "retrain")
        else:
            chosen = self._fastest_within(candidates)
        eliminate_(self.model, chosen.retention)
        self.seconds["choose and retrain"] = round(time.perf_counter() - start, 1)
        return history

    def _points(self, model: PreTrainedModel, texts: datasets.Dataset) -> float:
        logits = self._logits(model, texts, bf16=has_fast_bf16(model.device))
        return self.metric(logits, np.asarray(texts["labels"]))

    def _logits(self, model: PreTrainedModel, texts: datasets.Dataset, *, bf16: bool) -> NDArray[np.float32]:
        return logits_of(model, texts, self.tokenizer, batch_size=self.settings.batch_size, bf16=bf16)

    def _drop(self, retention: Retention) -> float:
        eliminate_(self.model, retention)
        return self.dense_screen - self._points(self.model, self.screen)

    def _fastest_within(self, candidates: Sequence[Candidate]) -> Candidate:
        """The fastest candidate whose drop is within bounds; where none is, the one that loses least."""
        drops = []
        for candidate in reversed(candidates):
            drops.append((self._drop(candidate.retention), candidate))
            if drops[-1][0] <= self.settings.max_drop + 1e-9:
                return candidate
        return min(drops, key=lambda pair: pair[0])[1]

    def _worth_retraining(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """From the fastest candidate that holds without retraining to the fastest that retraining may win back."""
        first, last = 0, 0
        for position, candidate in enumerate(candidates):
            drop = self._drop(candidate.retention)
            first = position if drop <= self.settings.max_drop else first
            last = position if drop <= self.settings.max_drop + _RECOVERABLE else last
            self.progress("screening", (position + 1) / len(candidates))
        return candidates[first : last + 1]

    def _retrain(self, retentions: Sequence[Retention], epochs: float, stage: str) -> list[dict[str, Any]]:
        watch = len(retentions) == 1
        history = retrain_(
            self.model,
            self.teacher,
            self.tokenizer,
            self.encoded["train"].dataset,
            retentions,
            Retraining(
                epochs=epochs,
                learning_rate=self.settings.learning_rate,
                batch_size=self.settings.batch_size,
                temperature=self.settings.temperature,
                seed=self.settings.seed,
            ),
            validation=self.screen if watch else None,
            metric=self.metric if watch else None,
            progress=lambda share: self.progress(stage, share),
        )
        return [{"stage": stage, **entry} for entry in history]

    def verify(self, history: list[dict[str, Any]], candidates: Sequence[Candidate]) -> dict[str, Any]:
        """Measure what was lost and what was won, in fp32."""
        start = time.perf_counter()
        retention = retention_of(self.model)
        measured = {}
        for name in ("validation", "test"):
            if name in self.encoded:
                self.progress(f"verify: {name}", 0.0)
                measured[name] = self._compare(name, retention)
                self.progress(f"verify: {name}", 1.0)
        target = self.settings.target_speedup
        lost, won = measured["validation"]["drop"], measured["validation"]["flops_ratio"]
        unmet = None
        if lost > self.settings.max_drop + 1e-9:
            unmet = (
                f"{lost:.2f} points of {self.metric.name} are lost on validation, more than {self.settings.max_drop:g}"
            )
        elif target is not None and won < target * _NEAR:
            unmet = f"the FLOPs ratio on validation is {won:.2f}, less than {target:g}"
        report: dict[str, Any] = {
            "met": unmet is None,
            "unmet": unmet,
            "retention": retention.to_dict(),
            "last_layer_cut_to_first_token": self.cost.first_token,
            "metric": self.metric.name,
            **measured,
        }
        if self.settings.measure_speed:
            held_out = self.encoded.get("test", self.encoded["validation"])
            speed = measure_speed(
                self.teacher,
                self.model,
                held_out.dataset,
                self.tokenizer,
                max_length=self.settings.max_length or max(held_out.lengths),
                batch_size=self.settings.batch_size,
                progress=lambda share: self.progress("verify: speed", share),
            )
            report["speed"] = speed.to_dict()
        report["frontier"] = [_without_nan(candidate.to_dict()) for candidate in candidates]
        report["training"] = [_without_nan(entry) for entry in history]
        self.seconds["verify"] = round(time.perf_counter() - start, 1)
        return report

    def _compare(self, name: str, retention: Retention) -> dict[str, Any]:
        encoded = self.encoded[name]
        labels = np.asarray(encoded.dataset["labels"])
        dense, compressed = (self._logits(model, encoded.dataset, bf16=False) for model in (self.teacher, self.model))
        config = self.model.config
        interval = paired_bootstrap(self.metric, dense, compressed, labels, seed=self.settings.seed)
        changed = flips(predictions(dense, config), predictions(compressed, config), labels)
        return {
            "examples": len(labels),
            "dense": round(self.metric(dense, labels), 3),
            "compressed": round(self.metric(compressed, labels), 3),
            "drop": round(interval.drop, 3),
            "drop_interval_95": [round(interval.low, 3), round(interval.high, 3)],
            "flips": None if changed is None else changed.__dict__,
            "flops_ratio": round(self.cost.ratio(encoded.lengths, retention), 3),
            "lengths": encoded.spread,
        }


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in values.items()}
