"""The story of one compression: search, retrain, verify."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import datasets
from transformers import PreTrainedModel, set_seed

from ..data.split import fingerprint
from ..data.usable import Skipped
from ..errors import DataError, UnsupportedModelError, WordelimError
from ..evaluation.examples import check_tokenizer, examples_of
from ..graph.cost import Cost, cost_of
from ..graph.protect import bare_rules, protect_rules
from ..graph.splice import eliminate_, restore_, retention_of
from ..graph.support import is_marked
from ..retention import Retention
from ..system.machine import environment, move
from ..system.processes import from_main, processes
from ..system.progress import Progress, expect
from ..tasks import task_for, template_for
from ..tasks.embedding import Embedding
from ..training.fit import unwrap_
from .expected import compress_stages
from .journal import Work, identity
from .settings import Settings
from .stages import Ready, Stages

__all__ = ["CompressionResult", "compress_model", "prepare", "run", "told"]


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


def told(settings: Settings) -> dict[str, Any]:
    """Settings for a report, without where a file stands."""
    return {**settings.to_dict(), "protect": bare_rules(settings.protect)}


def compress_model(
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    train: datasets.Dataset,
    validation: datasets.Dataset,
    test: datasets.Dataset | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    skip_bad_rows: bool = False,
    progress: Progress = lambda stage, share: None,
    **settings: Any,
) -> CompressionResult:
    """Compress a fine-tuned model, in place.

    Finds how many word vectors each layer may drop, makes the model drop them, retrains it to do without, and measures
    what was lost. The search and the retraining see ``train``; choices are made on ``validation``; ``test`` is only
    reported on.

    Args:
        model: a dense model of a known family. It is compressed when this returns, and dense with its old weights
            when this raises.
        tokenizer: its tokenizer; pads on the right.
        train, validation, test: texts with labels.
        text, text_pair, label, skip_bad_rows: as in :func:`compress`.
        progress: called as the work goes on.
        settings: fields of :class:`wordelim.Settings`.

    Raises:
        WordelimError: the model, the data or a setting can't be used.
    """
    sets = {"train": train, "validation": validation, **({} if test is None else {"test": test})}
    return run(
        model,
        tokenizer,
        sets,
        {"text": text, "text_pair": text_pair, "label": label},
        {name: Skipped() for name in sets} if skip_bad_rows else {},
        Settings(**settings),
        progress,
        lambda run: Work(None, run),
    )


def run(
    model: PreTrainedModel,
    tokenizer: Any,
    sets: Mapping[str, datasets.Dataset],
    names: Mapping[str, Any],
    skipped: Mapping[str, Skipped],
    chosen: Settings,
    progress: Progress,
    open_work: Callable[[Mapping[str, Any]], Work],
    embedding: Embedding | None = None,
) -> CompressionResult:
    started = time.perf_counter()
    set_seed(chosen.seed)
    unwrap_(model)
    stored, device = model.dtype, model.device
    ready = prepare(model, tokenizer, sets, names, chosen, embedding, skipped)
    expect(
        progress,
        compress_stages(chosen, {name: part.lengths for name, part in ready.encoded.items()}, ready.cost.layers),
    )
    sources = {
        name: {
            "examples": len(data),
            "truncated": ready.encoded[name].truncated,
            "longest": max(ready.encoded[name].lengths),
            "fingerprint": fingerprint(data, ready.columns),
            **(skipped[name].to_dict() if name in skipped else {}),
        }
        for name, data in ready.sets.items()
    }
    columns = ready.columns.to_dict()
    versions = environment(device)["versions"]
    work = open_work(
        {
            **identity(model, tokenizer),
            "data": {name: part["fingerprint"] for name, part in sources.items()},
            "columns": columns,
            "settings": {**chosen.to_dict(), "report_to": None},
            "protected": hashlib.sha256(" ".join(ready.template.protect).encode()).hexdigest(),
            "versions": versions,
            **({} if embedding is None else {"embedding": embedding.to_dict()}),
            "device": device.type,
            "processes": processes(),
        }
    )
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    training = model.training
    try:
        model.float()
        teacher = copy.deepcopy(model).eval().requires_grad_(False)
        stages = Stages(model, teacher, ready, chosen, progress, work)
        candidates = stages.search()
        stages.choose(candidates)
        # What is measured from here on is what will be on the disk.
        move(model, stored).float()
        measured = stages.verify(candidates)
        report = from_main(lambda: measured)  # timings differ from process to process
        move(model, stored)
    except BaseException:
        if is_marked(model.config):
            restore_(model)
        move(model, stored).load_state_dict(before)
        model.train(training)
        raise
    report = {
        "wordelim_report": 1,
        **report,
        "data": {"columns": columns, **sources},
        "settings": told(chosen),
        "seconds": {**stages.seconds, "total": round(time.perf_counter() - started, 1)},
        **environment(device),
    }
    return CompressionResult(model, retention_of(model), bool(report["met"]), report)


def prepare(
    model: PreTrainedModel,
    tokenizer: Any,
    sets: Mapping[str, datasets.Dataset],
    names: Mapping[str, Any],
    settings: Settings,
    embedding: Embedding | None = None,
    skipped: Mapping[str, Skipped] = MappingProxyType({}),
) -> Ready:
    """Check that model, data and settings fit each other, and encode the data.

    Args:
        sets: data sets by name; the first one's columns are those of all.
        names: ``text``, ``text_pair`` and ``label``, None where the usual names are to be found.
        embedding: how a model without a head makes one; None for the pooling of the settings alone.
        skipped: takes the rows of each set that can't be used; those of a set without are refused.

    Raises:
        WordelimError: something doesn't fit; the message says what.
    """
    keep, kind = (1.0,) * max(1, getattr(model.config, "num_hidden_layers", 0)), "fraction"
    if settings.keep is not None:
        counts = any(value > 1 for value in settings.keep) and all(value % 1 == 0 for value in settings.keep)
        keep, kind = tuple(settings.keep), "count" if counts else "fraction"
    tried, cost = _try_out(model, Retention(keep, kind))  # type: ignore[arg-type]
    check_tokenizer(tokenizer)
    first = next(iter(sets.values()))
    task = task_for(
        type(model).__name__,
        model.config,
        tokenizer,
        first,
        metric=settings.metric,
        embedding=embedding or Embedding(settings.pooling),
    )
    template = template_for(model, task, protect_rules(settings.protect, tokenizer))
    template = replace(tried, protect=template.protect, restore=template.restore or tried.restore)
    encoded, usable = {}, {}
    columns = None
    for name, data in sets.items():
        try:
            if columns is None:
                columns = task.find_columns(data, **names)
            missing = next((column for column in columns.used if column not in data.column_names), None)
            if missing is not None:
                listed = ", ".join(map(repr, data.column_names))
                raise DataError(
                    f"there is no column {missing!r}, which the {next(iter(sets))} data has; the columns are {listed}: "
                    "give all sets the same columns."
                )
            given = skipped.get(name)
            found = examples_of(
                task, data, columns, model=model, max_length=settings.max_length, part=name, skipped=given
            )
            usable[name], encoded[name] = found.rows, found.encoded
        except DataError as error:
            raise DataError(f"In the {name} data: {error}") from error
    assert columns is not None
    fixed = None if settings.keep is None else template
    return Ready(task, columns, usable, encoded, task.metric(settings.metric), cost, template, fixed)


def _try_out(model: PreTrainedModel, retention: Retention) -> tuple[Retention, Cost]:
    """Splice and undo, so that a model which can't be served is refused before anything is read or run.

    Returns:
        The retention as the model has it, and what the model costs.
    """
    if is_marked(getattr(model, "config", None)):
        raise UnsupportedModelError(
            f"{type(model).__name__} is compressed already: call wordelim.restore_(model) to start from dense again."
        )
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise WordelimError(f"The weight {name} holds NaN or infinity: train or load the model again.")
    eliminate_(model, retention)
    try:
        return retention_of(model), cost_of(model)
    finally:
        restore_(model)
