"""Third step: what was lost and what was won."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.compare import compare
from ..evaluation.timing import measure_speed, timing
from ..graph.cost import Cost
from ..graph.speeds import speeds_of
from ..graph.splice import eliminate_, retention_of
from ..retention import Retention
from ..search.method import Candidate
from ..search.milliseconds import Milliseconds
from ..system.processes import is_main
from ..system.progress import FAST
from .job import Job, Log, without_nan
from .settings import Settings

__all__ = ["verify", "verify_stages"]

# A speed-up counts as reached when the validation texts' lengths, which the search didn't see, give this share of it.
_NEAR = 0.98
_HELD_OUT = ("validation", "test")
_SPEED = "verify: speed"
_ROUNDS = 3  # of timing: on long texts each takes as long as asking both models about all of them


def verify_stages(settings: Settings, lengths: Mapping[str, Sequence[int]], exact: float = 1.0) -> dict[str, float]:
    """The stages of :func:`verify`, and what each takes, in tokens through the dense encoder.

    Args:
        exact: what a token takes in fp32, in tokens in bf16 where that is faster.
    """
    held_out = {name: sum(lengths[name]) * (1 + FAST) * exact for name in _HELD_OUT if name in lengths}
    stages = {
        _stage(name, speed): weight for speed in (None, *(settings.speeds or ())) for name, weight in held_out.items()
    }
    if settings.measure_speed:
        stages[_SPEED] = timing(lengths.get("test", lengths["validation"]), settings.max_length, _ROUNDS) * exact
    return stages


def _stage(name: str, speed: float | None = None) -> str:
    return f"verify: {name}" + ("" if speed is None else f" at {speed:g}x")


def verify(job: Job, candidates: Sequence[Candidate], cost: Cost, log: Log) -> dict[str, Any]:
    """The report on the model as it is, measured in fp32.

    Args:
        candidates: that were found, for the report.
        cost: what speeds are ratios of.
    """
    settings, ready, retention = job.settings, job.ready, retention_of(job.model)
    with log.timed("verify"):
        measured = {name: _compare(job, name, retention) for name in _HELD_OUT if name in ready.examples}
        won = cost.ratio(job.texts["validation"], retention)
        unmet = _unmet(job, measured["validation"]["drop"], won, cost.unit)
        report: dict[str, Any] = {
            "met": unmet is None,
            "unmet": unmet,
            "retention": retention.told(),
            "last_layer_cut_to_first_token": ready.cost.first_token,
            "task": ready.task.pipeline_tag,
            "metric": ready.metric.name,
            **measured,
        }
        if isinstance(cost, Milliseconds):
            report["latency"] = {"ratio": round(won, 3), "milliseconds": cost.to_dict()}
        if settings.speeds:
            report["speeds"] = _measure_speeds(job, retention)
        if settings.measure_speed and is_main():
            report["speed"] = _measure_speed(job)
        report["choice"] = log.choice
        report["tried"] = log.tried
        report["frontier"] = [without_nan(candidate.told()) for candidate in candidates]
        report["training"] = log.history
        report["warnings"] = log.warnings
    return report


def _unmet(job: Job, lost: float, won: float, unit: str) -> str | None:
    """What was asked for and isn't reached, in words."""
    settings = job.settings
    if not lost <= settings.max_drop + 1e-9:
        name = job.ready.metric.name
        return f"{lost:.2f} points of {name} are lost on validation, more than {settings.max_drop:g}"
    if settings.aim is not None and not won >= settings.aim * _NEAR:
        return f"the {unit} on validation is {won:.2f}, less than {settings.aim:g}"
    return None


def _measure_speeds(job: Job, retention: Retention) -> dict[str, Any]:
    """What each of the speeds that the weights serve loses."""
    found: dict[str, Any] = {}
    for speed, served in speeds_of(job.model).items():
        eliminate_(job.model, served)
        found[f"{speed:g}"] = {"keep": list(served.keep)} | {
            name: _compare(job, name, served, speed) for name in _HELD_OUT if name in job.ready.examples
        }
    eliminate_(job.model, retention)
    return found


def _measure_speed(job: Job) -> dict[str, Any]:
    settings = job.settings
    held_out = job.ready.examples.get("test", job.ready.examples["validation"])
    return measure_speed(
        job.teacher,
        job.model,
        held_out.sequences,
        job.ready.task.tokenizer,
        max_length=held_out.width,
        batch_size=settings.batch_size,
        rounds=_ROUNDS,
        progress=lambda share: job.progress(_SPEED, share),
    )


def _compare(job: Job, name: str, retention: Retention, speed: float | None = None) -> dict[str, Any]:
    """The teacher's answers on a set beside those of the model, which keeps what ``retention`` says."""
    ready, stage = job.ready, _stage(name, speed)
    examples = ready.examples[name]
    logits: list[NDArray[np.float32]] = []
    count = len(examples.dataset)

    def progress(done: int) -> None:
        job.progress(stage, (len(logits) * count + done) / (2 * count))

    for model in (job.teacher, job.model):
        logits.append(job.logits(model, examples.dataset, progress=progress))
    answers = [examples.answers(each) for each in logits]
    return {
        **compare(ready.task, ready.metric, answers[0], answers[1], examples.dataset, seed=job.settings.seed),
        "flops_ratio": round(job.ready.cost.ratio(job.texts[name], retention), 3),
        "lengths": examples.encoded.spread,
        "worst_flips": examples.worst(logits[0], logits[1]),
    }
