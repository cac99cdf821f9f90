"""Compress a fine-tuned model: search, retrain, verify, save."""

from __future__ import annotations

import copy
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, set_seed

from ._version import __version__
from .card import model_card
from .checkpoint import load_dense, refuse_existing, save
from .data import Columns, Encoded, encode, find_columns, fingerprint
from .errors import DataError, UnsupportedModelError, WordelimError
from .evaluation.inference import logits_of
from .evaluation.latency import measure_speed
from .evaluation.metrics import Metric, metric_for, predictions
from .evaluation.statistics import flips, paired_bootstrap
from .graph.cost import Cost, cost_of
from .graph.model import eliminate_, is_marked, restore_, retention_of
from .reading import read
from .retention import Retention
from .search.calibrated import SPEEDS, calibrated_search
from .search.frontier import Candidate
from .settings import Settings
from .training.retrain import Retraining, retrain_

__all__ = ["CompressionResult", "Progress", "compress", "compress_model"]

Progress = Callable[[str, float], None]
"""Called with the name of the running stage and the share of it that is done, 0..1."""

Data = datasets.Dataset | str | os.PathLike[str]

# How far, in points, a frontier point may be behind before retraining to be worth retraining at all.
_RECOVERABLE = 12.0
# Validation texts on which frontier points are compared.
_SCREENED = 2000
# A speed-up counts as reached when the validation texts' lengths, which the search didn't see, give this share of it.
_NEAR = 0.98


@dataclass(frozen=True)
class CompressionResult:
    """What a compression came to.

    Args:
        model: the compressed model.
        retention: how many word vectors each of its layers keeps.
        met: whether the drop, and the speed-up where one was asked for, were reached on the validation texts.
        report: everything measured, as plain data.
        output: the directory that was written, if any.
    """

    model: PreTrainedModel
    retention: Retention
    met: bool
    report: Mapping[str, Any]
    output: Path | None = None


def compress(
    model_dir: str | os.PathLike[str],
    *,
    train: Data,
    validation: Data,
    test: Data | None = None,
    output: str | os.PathLike[str] | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    device: str | torch.device | None = None,
    force: bool = False,
    progress: Progress = lambda stage, share: None,
    **settings: Any,
) -> CompressionResult:
    """Compress the model in a directory (or on the hub) and write the result to another; see :func:`compress_model`.

    Args:
        model_dir: a fine-tuned classifier with its tokenizer.
        train, validation, test: paths (CSV, TSV, JSON lines, also .gz, Parquet), hub names, or data sets.
        output: where the compressed model goes, if its drop is within bounds; None writes nothing.
        force: replace ``output`` when it exists.
        settings: fields of :class:`wordelim.Settings`.

    Raises:
        WordelimError: the model, the data or a setting can't be used; nothing has been written then.
    """
    from transformers import AutoTokenizer

    chosen = Settings(**settings)
    if output is not None:
        refuse_existing(output, force=force)
    model = load_dense(model_dir)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model_dir))
    except (OSError, ValueError) as error:
        raise WordelimError(f"{model_dir} has no tokenizer that loads: save one beside the model.") from error
    if device is not None:
        model.to(device)
    result = compress_model(
        model,
        tokenizer,
        train=_read(train),
        validation=_read(validation),
        test=None if test is None else _read(test),
        text=text,
        text_pair=text_pair,
        label=label,
        progress=progress,
        **chosen.__dict__,
    )
    if output is None or not result.met:
        return result
    report = {"model": str(model_dir), **result.report}
    written = save(
        result.model, tokenizer, output, report=report, card=model_card(report, result.model), force=force
    )
    return CompressionResult(result.model, result.retention, result.met, report, written)


def _read(source: Data) -> datasets.Dataset:
    return source if isinstance(source, datasets.Dataset) else read(source)


def compress_model(
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    train: datasets.Dataset,
    validation: datasets.Dataset,
    test: datasets.Dataset | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    progress: Progress = lambda stage, share: None,
    **settings: Any,
) -> CompressionResult:
    """Compress a fine-tuned classifier, in place.

    Finds how many word vectors each layer may drop, makes the model drop them, retrains it to do without, and measures
    what was lost. The search and the retraining see ``train``; choices are made on ``validation``; ``test`` is only
    reported on.

    Args:
        model: a dense classifier of a known family. It is compressed when this returns, and dense with its old weights
            when this raises.
        tokenizer: its tokenizer; pads on the right.
        train, validation, test: texts with labels.
        text, text_pair, label: names of the columns, where they aren't the usual ones.
        progress: called as the work goes on.
        settings: fields of :class:`wordelim.Settings`.

    Raises:
        WordelimError: the model, the data or a setting can't be used.
    """
    started = time.perf_counter()
    chosen = Settings(**settings)
    set_seed(chosen.seed)
    fixed = _fixed_retention(chosen)
    stored, device = model.dtype, model.device
    cost = _try_out(model, fixed)
    if getattr(tokenizer, "padding_side", "right") != "right":
        raise DataError("The tokenizer pads on the left, but the head reads position 0: set padding_side to 'right'.")
    names = find_columns(train, text=text, text_pair=text_pair, label=label)
    sets = {"train": train, "validation": validation, **({} if test is None else {"test": test})}
    encoded = _encode(sets, tokenizer, names, model, chosen)
    metric = metric_for(model.config, chosen.metric)

    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    model.float()
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    try:
        work = _Work(model, teacher, tokenizer, encoded, metric, chosen, cost, progress)
        candidates = work.search(fixed)
        history = work.choose(candidates)
        # What is measured from here on is what will be on the disk.
        model.to(stored).float()
        report = work.verify(history, candidates)
        model.to(stored)
    except BaseException:
        if is_marked(model.config):
            restore_(model)
        model.to(stored).load_state_dict(before)
        raise
    sources = {
        name: {"examples": len(data), "truncated": encoded[name].truncated, "fingerprint": fingerprint(data, names)}
        for name, data in sets.items()
    }
    report = {
        "wordelim_report": 1,
        **report,
        "data": {"columns": {"text": names.text, "text_pair": names.text_pair, "label": names.label}, **sources},
        "settings": chosen.to_dict(),
        "seconds": {**work.seconds, "total": round(time.perf_counter() - started, 1)},
        "machine": {"device": str(device), "threads": torch.get_num_threads(), "processor": platform.machine()},
        "versions": {
            "wordelim": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "datasets")},
        },
    }
    return CompressionResult(model, retention_of(model), bool(report["met"]), report)


def _fixed_retention(settings: Settings) -> Retention | None:
    if settings.keep is None:
        return None
    counts = any(value > 1 for value in settings.keep)
    return Retention.counts(settings.keep) if counts else Retention.fractions(settings.keep)  # type: ignore[arg-type]


def _try_out(model: PreTrainedModel, retention: Retention | None) -> Cost:
    """Splice and undo, so that a model which can't be served is refused before anything is read or run."""
    if is_marked(getattr(model, "config", None)):
        raise UnsupportedModelError(
            f"{type(model).__name__} is compressed already: call wordelim.restore_(model) to start from dense again."
        )
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise WordelimError(f"The weight {name} holds NaN or infinity: train or load the model again.")
    layers = getattr(model.config, "num_hidden_layers", 0)
    eliminate_(model, retention or Retention.keep_all(max(1, layers)))
    try:
        return cost_of(model)
    finally:
        restore_(model)


def _encode(
    sets: Mapping[str, datasets.Dataset], tokenizer: Any, names: Columns, model: PreTrainedModel, settings: Settings
) -> dict[str, Encoded]:
    encoded = {}
    for name, data in sets.items():
        columns = find_columns(data, text=names.text, text_pair=names.text_pair, label=names.label)
        try:
            encoded[name] = encode(data, tokenizer, columns, model.config, max_length=settings.max_length)
        except DataError as error:
            raise DataError(f"In the {name} data: {error}") from error
    return encoded


@dataclass
class _Work:
    """The stages of one compression over the objects that they share."""

    model: PreTrainedModel
    teacher: PreTrainedModel
    tokenizer: Any
    encoded: Mapping[str, Encoded]
    metric: Metric
    settings: Settings
    cost: Cost
    progress: Progress

    def __post_init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.validation = self.encoded["validation"].dataset
        rows = np.random.default_rng(self.settings.seed).permutation(len(self.validation))[:_SCREENED]
        self.screen = self.validation.select(sorted(rows.tolist()))

    def search(self, fixed: Retention | None) -> Sequence[Candidate]:
        """The retentions to choose from, from slow to fast."""
        train = self.encoded["train"]
        if fixed is not None:
            return (Candidate(fixed, self.cost.ratio(train.lengths, fixed), float("nan")),)
        start = time.perf_counter()
        rows = np.random.default_rng(self.settings.seed).permutation(len(train.dataset))
        sample = train.dataset.select(sorted(rows[: self.settings.search_examples].tolist()))
        target = self.settings.target_speedup
        found = calibrated_search(
            self.model,
            self.tokenizer,
            sample,
            speeds=SPEEDS if target is None else (target,),
            progress=lambda stage, share: self.progress(f"search: {stage}", share),
        )
        if not found:
            raise WordelimError(
                "No retention reaches the speed-up asked for"
                + (f" ({target}x)" if target else "")
                + ": the texts are too short, or the model has too few layers."
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
        return self.metric(self._logits(model, texts), np.asarray(texts["labels"]))

    def _logits(self, model: PreTrainedModel, texts: datasets.Dataset) -> NDArray[np.float32]:
        return logits_of(model, texts, self.tokenizer, batch_size=self.settings.batch_size)

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
        met = measured["validation"]["drop"] <= self.settings.max_drop + 1e-9 and (
            target is None or measured["validation"]["flops_ratio"] >= target * _NEAR
        )
        report: dict[str, Any] = {
            "met": met,
            "retention": retention.to_dict(),
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
        dense, compressed = (self._logits(model, encoded.dataset) for model in (self.teacher, self.model))
        interval = paired_bootstrap(self.metric, dense, compressed, labels, seed=self.settings.seed)
        changed = flips(*(predictions(logits, self.model.config) for logits in (dense, compressed)), labels)
        lengths = np.asarray(encoded.lengths)
        return {
            "examples": len(labels),
            "dense": round(self.metric(dense, labels), 3),
            "compressed": round(self.metric(compressed, labels), 3),
            "drop": round(interval.drop, 3),
            "drop_interval_95": [round(interval.low, 3), round(interval.high, 3)],
            "flips": None if changed is None else changed.__dict__,
            "flops_ratio": round(self.cost.ratio(encoded.lengths, retention), 3),
            "lengths": {
                "mean": round(float(lengths.mean()), 1),
                "median": int(np.median(lengths)),
                "p95": int(np.quantile(lengths, 0.95)),
                "max": int(lengths.max()),
            },
        }


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in values.items()}
