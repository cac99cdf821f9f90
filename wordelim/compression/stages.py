"""The stages of one compression: search, choose and retrain, verify."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ..data.columns import Columns
from ..data.encode import Encoded, sequences_of
from ..errors import NotMetError
from ..evaluation.compare import compare
from ..evaluation.inference import logits_of
from ..evaluation.timing import measure_speed
from ..graph.cost import Cost, Text
from ..graph.protect import sizes_of
from ..graph.speeds import offer_speeds_
from ..graph.splice import eliminate_, retention_of
from ..retention import Retention
from ..search.calibrated import calibrated_search
from ..search.learned import Learning, learned_search
from ..search.method import SPEEDS, Candidate
from ..search.milliseconds import Latency, measure_latency
from ..system.machine import has_fast_bf16
from ..system.processes import agree, from_main, is_main
from ..system.progress import Progress
from ..tasks import Task
from ..tasks.metrics import Metric
from ..training.retrain import Retraining, retrain_
from .journal import Work
from .settings import Settings

__all__ = ["Ready", "Stages"]

# How far, in points, a frontier point may be behind before retraining to be worth retraining at all.
_RECOVERABLE = 12.0
# The same for a point that is faster than the one that has been retrained alone.
_CLIMBABLE = 4.0
# The FLOPs ratio up to which those are retrained that answer for every token, whatever they lose before.
_UNREAD = 2.0
# Validation texts on which frontier points are compared.
_SCREENED = 2000
# A speed-up counts as reached when the validation texts' lengths, which the search didn't see, give this share of it.
_NEAR = 0.98


@dataclass(frozen=True)
class Ready:
    """What is known once model, data and settings have been found to fit."""

    task: Task
    columns: Columns
    sets: Mapping[str, datasets.Dataset]
    encoded: Mapping[str, Encoded]
    metric: Metric
    cost: Cost
    template: Retention
    fixed: Retention | None


@dataclass
class Stages:
    """The stages of one compression over the objects that they share."""

    model: PreTrainedModel
    teacher: PreTrainedModel
    ready: Ready
    settings: Settings
    progress: Progress
    work: Work

    def __post_init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self.history: list[dict[str, Any]] = []
        self.price: Cost = self.ready.cost
        self.unit = "FLOPs ratio" if self.settings.cost == "flops" else "ratio of measured latencies"
        self.served: dict[float, Retention] = {}
        self.tried: list[dict[str, Any]] = []
        self.stage = "found"
        self.dense: dict[bool, float] = {}
        self.encoded, self.metric, self.cost = self.ready.encoded, self.ready.metric, self.ready.cost
        self.task = self.ready.task
        self.texts = {name: sizes_of(part.dataset, self.ready.template) for name, part in self.encoded.items()}
        self.validation = self.encoded["validation"].dataset
        units = self.task.units(self.validation)
        chosen = np.random.default_rng(self.settings.seed).permutation(int(units.max()) + 1)[:_SCREENED]
        self.screen = self.validation.select(np.flatnonzero(np.isin(units, chosen)).tolist())

    def search(self) -> Sequence[Candidate]:
        """The retentions to choose from, from slow to fast."""
        fixed = self.ready.fixed
        if fixed is not None:
            return (Candidate(fixed, self.cost.ratio(self.texts["train"], fixed), float("nan")),)
        start = time.perf_counter()
        self.price = self._measure_price()
        known = self.work.known("search")
        if known is None:
            found = self._found()
            known = {
                "candidates": [_without_nan(candidate.to_dict()) for candidate in found],
                "warnings": self.warnings,
                "history": self.history,
            }
            self.work.keep("search", known)
        found = tuple(Candidate.from_dict(candidate) for candidate in known["candidates"])
        self.warnings, self.history = known["warnings"], known["history"]
        agree("keep counts", [candidate.retention.keep for candidate in found])
        self.seconds["search"] = round(time.perf_counter() - start, 1)
        return found

    def _found(self) -> Sequence[Candidate]:
        asked, aim = self.settings.speeds, self.settings.aim
        speeds = asked or (SPEEDS if aim is None else (aim,))
        least = max(speeds) if asked else min(speeds)
        texts = self._counted()
        nothing = replace(self.ready.template, keep=(0.0,) * self.cost.layers)
        most = self.price.ratio(texts, nothing)
        found: Sequence[Candidate] = ()
        if most >= least:
            speeds = [speed for speed in speeds if speed <= most]
            found = self._learn(speeds) if self.settings.method == "learned" else self._calibrate(speeds)
        if asked:
            served = [next((c for c in found if self.price.ratio(texts, c.retention) >= s), None) for s in asked]
            found = [candidate for candidate in served if candidate is not None]
            found = found if len(found) == len(asked) else ()
        if not found:
            raise NotMetError(
                f"A {self.unit} of {least:g} is out of reach: one word vector left in each layer gives "
                f"{most:.2f} on these texts; ask for less, or use longer texts or a model with more layers.",
                best={"retention": nothing.to_dict(), "flops_ratio": self.cost.ratio(texts, nothing)},
            )
        return found if aim is None else found[-1:]

    def _counted(self) -> Sequence[Text]:
        """The texts that the search counts speeds on: on others, what it pulled to a speed may miss it by a hair."""
        if self.settings.method == "learned":
            return self.texts["train"]
        return sizes_of(self._sample(), self.ready.template)

    def _measure_price(self) -> Cost:
        """What the search saves: FLOPs, or milliseconds on this machine, the same in every process and when resumed."""
        if self.settings.cost == "flops":
            return self.cost
        known = self.work.known("latency")
        if known is None:
            longest = max(max(encoded.lengths) for encoded in self.encoded.values())
            known = from_main(
                lambda: measure_latency(
                    self.model, longest, progress=lambda share: self.progress("search: timing layers", share)
                ).to_dict()
            )
            self.work.keep("latency", known)
        return Latency.from_dict(known, self.cost)

    def _calibrate(self, speeds: Sequence[float]) -> Sequence[Candidate]:
        return calibrated_search(
            self.model,
            self.task,
            self._sample(),
            cost=self.price,
            template=self.ready.template,
            speeds=speeds,
            progress=self._searching,
        )

    def _learn(self, speeds: Sequence[float]) -> Sequence[Candidate]:
        settings = self.settings
        found = learned_search(
            self.model,
            self.teacher,
            self.task,
            self.encoded["train"].dataset,
            self._sample(),
            self.price,
            Learning(
                epochs=settings.search_epochs,
                learning_rate=settings.learning_rate,
                batch_size=settings.batch_size,
                temperature=settings.temperature,
                seed=settings.seed,
                form=settings.form,
                report_to=settings.report_to,
                name="wordelim search",
                place=self.work.place("search"),
                retention_rate=settings.retention_lr,
                price=settings.price,
            ),
            template=self.ready.template,
            speeds=speeds,
            progress=self._searching,
        )
        self.warnings += found.warnings
        self.history += [{"stage": "search", **_without_nan(entry)} for entry in found.history]
        return found.candidates

    def _sample(self) -> datasets.Dataset:
        train = self.encoded["train"].dataset
        rows = np.random.default_rng(self.settings.seed).permutation(len(train))
        return train.select(rows[: self.settings.search_examples].tolist())

    def _searching(self, stage: str, share: float) -> None:
        self.progress(f"search: {stage}", share)

    def choose(self, candidates: Sequence[Candidate]) -> None:
        """Leave the model at the fastest candidate whose drop is within bounds, or at the nearest to them."""
        start = time.perf_counter()
        settings, speeds = self.settings, self.settings.speeds
        if len(candidates) > 1 and settings.retrain and not speeds:
            candidates = self._worth_retraining(candidates)
        if not settings.retrain:
            chosen = self._fastest_within(candidates)
        elif len(candidates) == 1 or speeds:
            self._retrain_best([c.retention for c in candidates], settings.epochs, "retrain")
            chosen = self._fastest_within(candidates)
        else:
            half = settings.epochs / 2
            self._retrain([c.retention for c in candidates], half, "retrain: all speeds", settings.seed)
            chosen = self._fastest_within(candidates, exact=False)
            if self._retrained_within(chosen, self._drop(chosen.retention, exact=True), half, "retrain: chosen speed"):
                chosen = self._climb(chosen, candidates[candidates.index(chosen) + 1 :], half)
        eliminate_(self.model, chosen.retention)
        if speeds:
            self.served = {speed: c.retention for speed, c in zip(speeds, candidates, strict=True)}
            offer_speeds_(self.model, self.served)
        agree("keep counts", chosen.retention.keep)
        self.seconds["choose and retrain"] = round(time.perf_counter() - start, 1)

    def _retrained_within(self, candidate: Candidate, lost: float, epochs: float, stage: str) -> bool:
        """Retrain one candidate alone, unless it then loses more than ``lost``; whether it is within bounds."""
        before, bound = self._weights(), self.settings.max_drop + 1e-9
        self._retrain_best([candidate.retention], epochs, stage)
        after = self._drop(candidate.retention, exact=True)
        if not after <= max(lost, bound):
            self.model.load_state_dict(before)
        return min(lost, after) <= bound

    def _climb(self, chosen: Candidate, faster: Sequence[Candidate], epochs: float) -> Candidate:
        """The fastest that fits once it is retrained alone, which wins back more than all at once did."""
        for candidate in faster:
            lost = self._drop(candidate.retention, exact=True)
            if not lost <= self.settings.max_drop + _CLIMBABLE:
                break
            if not lost <= self.settings.max_drop + 1e-9:
                before, stage = self._weights(), f"retrain: FLOPs ratio {candidate.flops_ratio:.2f}"
                if not self._retrained_within(candidate, lost, epochs, stage):
                    self.model.load_state_dict(before)
                    break
            chosen = candidate
        return chosen

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def _points(self, model: PreTrainedModel, *, exact: bool) -> float:
        logits = self._logits(model, self.screen, bf16=not exact and has_fast_bf16(model.device))
        return self.task.points(self.metric, logits, self.screen)

    def _dense_points(self, *, exact: bool) -> float:
        if exact not in self.dense:
            self.dense[exact] = self._points(self.teacher, exact=exact)
        return self.dense[exact]

    def _logits(
        self,
        model: PreTrainedModel,
        texts: datasets.Dataset,
        *,
        bf16: bool,
        progress: Callable[[int], None] = lambda done: None,
    ) -> NDArray[np.float32]:
        who = "The dense model" if model is self.teacher else "The compressed model"
        size = self.settings.batch_size
        return logits_of(model, texts, self.task, batch_size=size, bf16=bf16, progress=progress, who=who)

    def _drop(self, retention: Retention, *, exact: bool = False) -> float:
        """Points that are lost on validation when this is kept, noted for the report.

        Args:
            exact: in fp32, as what is lost in the end is measured; else in bf16 where that is faster.
        """
        eliminate_(self.model, retention)
        drop = self._dense_points(exact=exact) - self._points(self.model, exact=exact)
        ratio = self.cost.ratio(self.texts["validation"], retention)
        tried = {"keep": list(retention.keep), "flops_ratio": round(ratio, 3), "drop": round(drop, 3)}
        self.tried.append({"stage": self.stage, **tried})
        return drop

    def _fastest_within(self, candidates: Sequence[Candidate], *, exact: bool = True) -> Candidate:
        """The fastest candidate whose drop is within bounds; where none is, the one that loses least."""
        drops = []
        for candidate in reversed(candidates):
            drops.append((self._drop(candidate.retention, exact=exact), candidate))
            if drops[-1][0] <= self.settings.max_drop + 1e-9:
                return candidate
        return min(drops, key=lambda pair: pair[0])[1]

    def _worth_retraining(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """From the fastest candidate that holds without retraining to the fastest that retraining may win back."""
        first, last = 0, 0
        for position, candidate in enumerate(candidates):
            drop = self._drop(candidate.retention)
            first = position if drop <= self.settings.max_drop else first
            # A head that has never read what comes back from early layers says nothing of what it will once it has.
            unread = candidate.retention.restore is True and candidate.flops_ratio <= _UNREAD
            last = position if unread or drop <= self.settings.max_drop + _RECOVERABLE else last
            self.progress("screening", (position + 1) / len(candidates))
        return candidates[first : last + 1]

    def _retrain_best(self, retentions: Sequence[Retention], epochs: float, stage: str) -> None:
        """Retrain once for each seed, and keep the weights that lose least."""
        first, best, least = self.settings.seed, self._weights(), float("inf")
        start = best
        for number in range(self.settings.seeds):
            self.model.load_state_dict(start)
            several = self.settings.seeds > 1
            self._retrain(retentions, epochs, f"{stage}, seed {first + number}" if several else stage, first + number)
            lost = float(np.mean([self._drop(retention) for retention in retentions])) if several else 0.0
            if lost < least:
                best, least = self._weights(), lost
        self.model.load_state_dict(best)

    def _retrain(self, retentions: Sequence[Retention], epochs: float, stage: str, seed: int) -> None:
        name = re.sub(r"\W+", "-", stage)
        known = self.work.known(name)
        if known is not None:
            eliminate_(self.model, retentions[0])
            self.model.load_state_dict(self.work.weights(name))
            self.history += known
            self.stage = stage
            return
        watch = len(retentions) == 1
        history = retrain_(
            self.model,
            self.teacher,
            self.task,
            self.encoded["train"].dataset,
            retentions,
            Retraining(
                epochs=epochs,
                learning_rate=self.settings.learning_rate,
                batch_size=self.settings.batch_size,
                seed=seed,
                report_to=self.settings.report_to,
                name=f"wordelim {stage}",
                place=self.work.place(name),
                temperature=self.settings.temperature,
            ),
            validation=self.screen if watch else None,
            metric=self.metric if watch else None,
            progress=lambda share: self.progress(stage, share),
        )
        told = [{"stage": stage, **_without_nan(entry)} for entry in history]
        self.work.keep(name, told, self.model)
        self.history += told
        self.stage = stage

    def verify(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """Measure what was lost and what was won, in fp32."""
        start = time.perf_counter()
        retention = retention_of(self.model)
        measured = {}
        for name in ("validation", "test"):
            if name in self.encoded:
                measured[name] = self._compare(f"verify: {name}", name, retention)
        target = self.settings.aim
        lost = measured["validation"]["drop"]
        won = self.price.ratio(self.texts["validation"], retention)
        unmet = None
        if not lost <= self.settings.max_drop + 1e-9:
            unmet = (
                f"{lost:.2f} points of {self.metric.name} are lost on validation, more than {self.settings.max_drop:g}"
            )
        elif target is not None and not won >= target * _NEAR:
            unmet = f"the {self.unit} on validation is {won:.2f}, less than {target:g}"
        report: dict[str, Any] = {
            "met": unmet is None,
            "unmet": unmet,
            "retention": retention.to_dict(),
            "last_layer_cut_to_first_token": self.cost.first_token,
            "task": self.task.pipeline_tag,
            "metric": self.metric.name,
            **measured,
        }
        if isinstance(self.price, Latency):
            report["latency"] = {"ratio": round(won, 3), "milliseconds": self.price.to_dict()}
        if self.served:
            report["speeds"] = self._measure_speeds(retention)
        if self.settings.measure_speed and is_main():
            held_out = self.encoded.get("test", self.encoded["validation"])
            speed = measure_speed(
                self.teacher,
                self.model,
                sequences_of(held_out.dataset),
                self.task.tokenizer,
                max_length=self.settings.max_length or max(held_out.lengths),
                batch_size=self.settings.batch_size,
                progress=lambda share: self.progress("verify: speed", share),
            )
            report["speed"] = speed.to_dict()
        report["tried"] = self.tried
        report["frontier"] = [_without_nan(candidate.to_dict()) for candidate in candidates]
        report["training"] = self.history
        report["warnings"] = self.warnings
        self.seconds["verify"] = round(time.perf_counter() - start, 1)
        return report

    def _measure_speeds(self, retention: Retention) -> dict[str, Any]:
        """What each of the speeds that the weights serve loses."""
        found: dict[str, Any] = {}
        for speed, served in self.served.items():
            eliminate_(self.model, served)
            found[f"{speed:g}"] = {"keep": list(served.keep)} | {
                name: self._compare(f"verify: {name} at {speed:g}x", name, served)
                for name in ("validation", "test")
                if name in self.encoded
            }
        eliminate_(self.model, retention)
        return found

    def _compare(self, stage: str, name: str, retention: Retention) -> dict[str, Any]:
        encoded, task = self.encoded[name], self.task
        logits: list[NDArray[np.float32]] = []
        whole = 2 * len(encoded.dataset)
        for model in (self.teacher, self.model):
            before = len(logits) * len(encoded.dataset)
            logits.append(
                self._logits(
                    model,
                    encoded.dataset,
                    bf16=False,
                    progress=lambda done, before=before: self.progress(stage, (before + done) / whole),  # type: ignore[misc]
                )
            )
        answers = [task.answers(self.metric, each, encoded.dataset) for each in logits]
        columns, rows = self.ready.columns, self.ready.sets[name]
        return {
            **compare(task, self.metric, answers[0], answers[1], encoded.dataset, seed=self.settings.seed),
            "flops_ratio": round(self.cost.ratio(self.texts[name], retention), 3),
            "lengths": encoded.spread,
            "worst_flips": task.worst(
                self.metric, (logits[0], logits[1]), encoded.dataset, lambda row: task.shown(columns, rows[row])
            ),
        }


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in values.items()}
