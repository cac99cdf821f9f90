"""The regression gate: is a compressed model still good enough, on the same examples as the one before?"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.read import Data, read
from ..data.split import fingerprint
from ..data.usable import Skipped
from ..errors import AnswersError, WordelimError
from ..evaluation.examples import Examples
from ..evaluation.timing import measure_speed, timing
from ..system.machine import environment, open_device
from ..system.printable import bare_name
from ..system.progress import FAST, Progress, expect
from ..tasks.metrics import name_of
from .baseline import CHECK_VERSION, Baseline
from .comparable import label_names, require_one_task
from .gate import judge, suspicions
from .opened import Opened, open_model
from .settings import CheckSettings

__all__ = ["CheckResult", "CheckSettings", "check", "check_stages"]


@dataclass(frozen=True)
class CheckResult:
    """Whether a model passed, and everything measured as plain data.

    Example:
        >>> result = wordelim.check("my-bert", "my-bert-fast", data="dev.csv", max_drop=100)
        >>> result.passed, result.report["data"]["examples"]
        (True, 24)
    """

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

    Example:
        >>> result = wordelim.check("my-bert", "my-bert-fast", data="dev.csv", max_drop=100)
        >>> result.passed, result.report["data"]["examples"]
        (True, 24)
    """
    started = time.perf_counter()
    chosen = CheckSettings(**settings)
    if base is None and baseline_report is None:
        raise WordelimError("There is nothing to compare with: name the base model, or give a baseline report.")
    if base is None and chosen.min_speedup is not None:
        raise WordelimError("A speed-up is measured against a model that runs: name the base model too.")
    place, stored = open_device(device), None if baseline_report is None else Baseline.read(baseline_report)
    fast = open_model(compressed, device=place, dtype=torch.float32)
    skipped = Skipped() if skip_bad_rows else None
    examples = fast.pose(
        read(data, delimiter=delimiter, encoding=encoding, skipped=skipped),
        {"text": text, "text_pair": text_pair, "label": label},
        max_length=chosen.max_length,
        metric=chosen.metric,
        skipped=skipped,
    )
    slow, measured = None, chosen.min_speedup is not None
    if base is not None and (stored is None or measured):
        slow = open_model(base, device=place, dtype=torch.float32)
        require_one_task(slow, fast, examples)
    expect(progress, check_stages(examples.lengths, base=stored is None, speed=measured))
    inputs = fingerprint(examples.dataset)
    found = _answers(fast, stored or slow, examples, inputs, chosen, progress)
    judged = judge(examples, found.before, found.after, chosen)
    speed, slower = _speed(slow, fast, found.after, examples, chosen, progress)
    said = {"drop": found.failure or judged.failure, "speed": slower}
    failures = {name: sentence for name, sentence in said.items() if sentence is not None}
    report = {
        "wordelim_check": CHECK_VERSION,
        "passed": not failures,
        "failures": failures,
        "warnings": suspicions(examples, found.before),
        "base": bare_name(str(base) if stored is None else stored.path),
        "compressed": bare_name(fast.name),
        "metric": examples.metric.name,
        "judged": judged.drop,
        "result": {**judged.result, **found.worst, "lengths": examples.encoded.spread, **_flops(slow, fast, examples)},
        **speed,
        "labels": label_names(fast.config),
        "data": {**examples.describe(), "longest": max(examples.lengths), "inputs": inputs},
        "settings": {**asdict(chosen), "metric": name_of(chosen.metric)},
        "seconds": round(time.perf_counter() - started, 1),
        **environment(place),
        "answers": {"base": found.before.tolist(), "compressed": None if found.after is None else found.after.tolist()},
    }
    return CheckResult(not failures, report)


@dataclass(frozen=True)
class _Answers:
    """To the same examples: before and after compression, and where they are worst, for the report.

    There are none after compression where ``failure`` says why.
    """

    before: NDArray[Any]
    after: NDArray[Any] | None
    failure: str | None
    worst: Mapping[str, Any]


def _answers(
    compressed: Opened,
    base: Opened | Baseline | None,
    examples: Examples,
    inputs: str,
    settings: CheckSettings,
    progress: Progress,
) -> _Answers:
    def run(model: Opened, name: str) -> NDArray[Any]:
        return model.logits(examples, batch_size=settings.batch_size, progress=partial(progress, f"{name} model"))

    logits, after, failure = None, None, None
    try:
        logits = run(compressed, "compressed")
        form = after = examples.answers(logits)
    except AnswersError as error:
        failure = f"the compressed model {error.found}, so that what is lost is no number"
        form = examples.answers(np.zeros_like(error.logits))
    if isinstance(base, Baseline):
        return _Answers(base.answers(inputs, examples.task, form), after, failure, {})
    assert base is not None
    dense = run(base, "base")
    worst = {} if logits is None else {"worst_flips": examples.worst(dense, logits)}
    return _Answers(examples.answers(dense), after, failure, worst)


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
    base: Opened | None,
    compressed: Opened,
    answers: NDArray[Any] | None,
    examples: Examples,
    settings: CheckSettings,
    progress: Progress,
) -> tuple[dict[str, Any], str | None]:
    """The speed, where some is asked for, and what it fails by."""
    if settings.min_speedup is None:
        return {}, None
    if answers is None:
        return {}, "the speed of a model that doesn't answer with numbers isn't measured"
    assert base is not None
    if "exported" in (base.kind, compressed.kind):
        raise WordelimError("Speed is measured between two PyTorch models: leave the speed-up out.")
    speed = measure_speed(
        base.model,
        compressed.model,
        examples.sequences,
        compressed.tokenizer,
        max_length=examples.width,
        batch_size=settings.batch_size,
        seed=settings.seed,
        progress=partial(progress, "speed"),
    )
    if speed["dynamic"] >= settings.min_speedup:
        return {"speed": speed}, None
    return {"speed": speed}, f"the speed-up is {speed['dynamic']:.2f}x, less than {settings.min_speedup:g}x"


def _flops(base: Opened | None, compressed: Opened, examples: Examples) -> dict[str, Any]:
    """The retention, and what it saves of the encoder's FLOPs against the dense one."""
    if compressed.kind != "compressed" or compressed.retention is None:
        return {}
    retention = compressed.retention
    known = {"retention": retention.told()}
    if base is not None and base.retention is not None:
        return known
    return {**known, "flops_ratio": round(compressed.cost().ratio(examples.sizes(retention), retention), 3)}
