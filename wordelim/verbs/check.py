"""The regression gate: is a compressed model still good enough, on the same examples as the one before?"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.encode import Encoded, sequences_of
from ..data.read import Data, open_data
from ..data.split import describe, fingerprint
from ..data.usable import Skipped
from ..errors import AnswersError, WordelimError
from ..evaluation.compare import compare
from ..evaluation.statistics import paired_bootstrap
from ..evaluation.timing import measure_speed, timing
from ..graph.cost import cost_of
from ..graph.protect import sizes_of
from ..graph.splice import retention_of
from ..graph.support import is_marked
from ..system.machine import environment, open_device
from ..system.printable import bare_name
from ..system.progress import FAST, Progress, expect
from ..tasks.metrics import Metric, name_of
from .baseline import CHECK_VERSION, Baseline
from .settings import CheckSettings
from .subject import Subject, encode_for, open_subject, require_same_task, task_of

__all__ = ["CheckResult", "CheckSettings", "check", "check_stages"]


@dataclass(frozen=True)
class CheckResult:
    """Whether a model passed, and everything measured as plain data."""

    passed: bool
    report: Mapping[str, Any]


def check(
    base: str | os.PathLike[str] | None,
    compressed: str | os.PathLike[str],
    *,
    data: Data,
    baseline_report: str | os.PathLike[str] | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    skip_bad_rows: bool = False,
    device: str | None = None,
    progress: Progress = lambda stage, share: None,
    **settings: Any,
) -> CheckResult:
    """Run the same labelled examples through two models, and say whether the second stays within its bounds.

    The same inputs give the same verdict, unless speed is asked for, which is measured. A compressed model that answers
    with NaN or infinity doesn't pass, whatever the bounds are; what can't be said of it is None in the report.

    Args:
        base: the model to compare with, dense or compressed. Not needed with ``baseline_report``, except for speed.
        compressed: the model to judge.
        data: labelled examples: a path, a hub name, or a data set.
        baseline_report: the report of an earlier check on the same data; the answers of *its* compressed model stand
            for the base's, which isn't run then.
        text, text_pair, label: names of the columns, where they aren't the usual ones; ``label`` may be several, of 0
            and 1 each, where a text may have several labels.
        delimiter, encoding: of data files, where they aren't the usual ones; see :func:`wordelim.data.read.read`.
        skip_bad_rows: leave out rows that can't be used, and list them in the report, instead of refusing them.
        device: where to compute; None for the accelerator that is there, else the processor.
        progress: called as the work goes on.
        settings: fields of :class:`CheckSettings`.

    Raises:
        AnswersError: the base model answers with NaN or infinity.
        WordelimError: a model, the data, the stored report or a setting can't be used, or they don't fit each other.
    """
    started = time.perf_counter()
    chosen = CheckSettings(**settings)
    if base is None and baseline_report is None:
        raise WordelimError("There is nothing to compare with: name the base model, or give a baseline report.")
    if base is None and chosen.min_speedup is not None:
        raise WordelimError("A speed-up is measured against a model that runs: name the base model too.")
    place, stored = open_device(device), None if baseline_report is None else Baseline.read(baseline_report)
    subject = open_subject(compressed, device=place, batch_size=chosen.batch_size)
    skipped = Skipped() if skip_bad_rows else None
    rows = open_data(data, delimiter=delimiter, encoding=encoding, skipped=skipped)
    names = {"text": text, "text_pair": text_pair, "label": label}
    task, columns, rows, encoded = encode_for(subject, rows, names, chosen.max_length, chosen.metric, skipped)
    metric = task.metric(chosen.metric)
    truth = task.truth(encoded.dataset)
    inputs = fingerprint(encoded.dataset)
    runs = {"compressed": subject}
    if base is not None and (stored is None or chosen.min_speedup is not None):
        runs["base"] = open_subject(base, device=place, batch_size=chosen.batch_size)
        require_same_task(runs["base"], subject, rows, task, columns, encoded, chosen.max_length)

    logits: dict[str, NDArray[Any]] = {}

    def run(name: str) -> NDArray[Any]:
        texts, stage = encoded.dataset, f"{name} model"
        return runs[name].logits(task, texts, lambda done: progress(stage, done / len(texts)))

    measured = chosen.min_speedup is not None
    expect(progress, check_stages(encoded.lengths, base=stored is None, speed=measured))
    failures, after = {}, None
    try:
        logits["compressed"] = run("compressed")
        form = after = task.answers(metric, logits["compressed"], encoded.dataset)
    except AnswersError as error:
        failures["drop"] = f"the compressed model {error.found}, so that what is lost is no number"
        form = task.answers(metric, np.zeros_like(error.logits), encoded.dataset)
    if stored is not None:
        before = stored.answers(inputs, task, form)
    else:
        logits["base"] = run("base")
        before = task.answers(metric, logits["base"], encoded.dataset)
    result = compare(task, metric, before, after, encoded.dataset, seed=chosen.seed)
    if len(logits) == 2:
        result["worst_flips"] = task.worst(
            metric,
            (logits["base"], logits["compressed"]),
            encoded.dataset,
            lambda row: task.shown(columns, rows[row]),
        )
    judged = result["drop"]
    if chosen.strict and after is not None:
        interval = paired_bootstrap(
            metric.of_answers(),
            before,
            after,
            truth,
            seed=chosen.seed,
            confidence=chosen.confidence,
            clusters=task.clusters(encoded.dataset),
        )
        judged = interval.ends[1]
        if judged is None:
            failures["drop"] = (
                f"the {100 * chosen.confidence:g} % interval has no upper end, for {metric.name} is undefined on too "
                "many resamples"
            )
    if judged is not None and not judged <= chosen.max_drop + 1e-9:
        what = f"the upper end of the {100 * chosen.confidence:g} % interval" if chosen.strict else "the drop"
        failures["drop"] = f"{what} is {judged:.2f} points of {metric.name}, more than {chosen.max_drop:g}"
    speed = None
    if chosen.min_speedup is not None and after is None:
        failures["speed"] = "the speed of a model that doesn't answer with numbers isn't measured"
    elif chosen.min_speedup is not None:
        speed = _speed(runs["base"], subject, encoded, chosen, progress)
        if not speed["dynamic"] >= chosen.min_speedup:
            failures["speed"] = f"the speed-up is {speed['dynamic']:.2f}x, less than {chosen.min_speedup:g}x"
    report = {
        "wordelim_check": CHECK_VERSION,
        "passed": not failures,
        "failures": failures,
        "warnings": _warnings(metric, before, truth, encoded),
        "base": bare_name(str(base) if stored is None else stored.path),
        "compressed": bare_name(subject.name),
        "metric": metric.name,
        "judged": judged,
        "result": {**result, "lengths": encoded.spread, **_flops(runs.get("base"), subject, encoded)},
        **({} if speed is None else {"speed": speed}),
        "labels": task_of(subject.config)[1],
        "data": {**describe(rows, columns, encoded, skipped), "longest": max(encoded.lengths), "inputs": inputs},
        "settings": {**asdict(chosen), "metric": name_of(chosen.metric)},
        "seconds": round(time.perf_counter() - started, 1),
        **environment(place),
        "answers": {"base": before.tolist(), "compressed": None if after is None else after.tolist()},
    }
    return CheckResult(not failures, report)


def check_stages(lengths: Sequence[int], *, base: bool, speed: bool) -> dict[str, float]:
    """The stages of a check, and what each takes, in tokens through the dense encoder.

    Args:
        lengths: tokens of every text.
        base: whether the base model is run.
        speed: whether speed is measured.
    """
    stages = {"compressed model": sum(lengths) * FAST}
    if base:
        stages["base model"] = float(sum(lengths))
    if speed:
        stages["speed"] = timing(lengths)
    return stages


def _speed(
    base: Subject, compressed: Subject, encoded: Encoded, settings: CheckSettings, progress: Progress
) -> dict[str, Any]:
    if base.model is None or compressed.model is None:
        raise WordelimError("Speed is measured between two PyTorch models: leave the speed-up out.")
    return measure_speed(
        base.model,
        compressed.model,
        sequences_of(encoded.dataset),
        compressed.tokenizer,
        max_length=settings.max_length or max(encoded.lengths),
        batch_size=settings.batch_size,
        seed=settings.seed,
        progress=lambda share: progress("speed", share),
    ).to_dict()


def _flops(base: Subject | None, compressed: Subject, encoded: Encoded) -> dict[str, Any]:
    """The retention, and what it saves of the encoder's FLOPs against the dense one."""
    model = compressed.model
    if model is None or not is_marked(model.config):
        return {}
    retention = retention_of(model)
    saved = {"flops_ratio": round(cost_of(model).ratio(sizes_of(encoded.dataset, retention), retention), 3)}
    return {"retention": retention.to_dict(), **({} if base and is_marked(base.config) else saved)}


def _warnings(metric: Metric, base: NDArray[Any], labels: NDArray[Any], encoded: Encoded) -> list[str]:
    found = []
    if metric.is_mean and labels.ndim == 1:
        _, counts = np.unique(labels, return_counts=True)
        commonest, right = 100 * counts.max() / len(labels), 100 * float((base == labels).mean())
        if len(counts) > 1 and right <= commonest:
            found.append(
                f"the base model is right on {right:.1f} %, no more than the commonest label alone would be "
                f"({commonest:.1f} %): is this data of its task?"
            )
    if encoded.truncated:
        found.append(
            f"{encoded.truncated} of {len(labels)} texts were longer than {max(encoded.lengths)} tokens and were cut"
        )
    return found
