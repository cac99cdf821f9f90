"""Before anything is run: whether model, data and settings fit each other, and the encoded data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import datasets
from transformers import PreTrainedModel

from ..data.columns import Columns
from ..data.usable import Skipped
from ..errors import DataError, UnsupportedModelError, WordelimError
from ..evaluation.examples import Examples, check_tokenizer, examples_of
from ..evaluation.proven import require_proven
from ..graph.cost import Flops, cost_of
from ..graph.protect import protect_rules
from ..graph.splice import eliminate_, restore_, retention_of
from ..graph.support import is_marked
from ..retention import Retention
from ..search.significance import may_rank
from ..tasks import Task, task_for, template_for
from ..tasks.embedding import Embedding
from ..tasks.metrics import Metric
from .settings import Settings

__all__ = ["Given", "Ready", "prepare", "sources"]


@dataclass(frozen=True)
class Given:
    """The data of a compression, as they are given.

    Args:
        sets: labelled texts, for ``train``, ``validation`` and perhaps ``test``; the first one's columns are those of
            all.
        names: ``text``, ``text_pair`` and ``label``, None where the usual names are to be found.
        skipped: takes the rows of each set that can't be used; those of a set without are refused.
    """

    sets: Mapping[str, datasets.Dataset]
    names: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, Skipped] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """What is known once model, data and settings have been found to fit.

    Args:
        examples: of each set, the rows that are used.
        cost: FLOPs of the encoder.
        template: what is protected and restored, whatever is kept.
        fixed: the retention that was asked for; None searches one.
    """

    task: Task
    columns: Columns
    metric: Metric
    examples: Mapping[str, Examples]
    cost: Flops
    template: Retention
    fixed: Retention | None

    @property
    def ranked(self) -> bool:
        """Whether linear maps may decide which word vectors stay."""
        return may_rank(self.task, self.cost)


def prepare(
    model: PreTrainedModel, tokenizer: Any, given: Given, settings: Settings, embedding: Embedding | None = None
) -> Ready:
    """Check that model, data and settings fit each other, and encode the data.

    Args:
        embedding: how a model without a head makes one; None for the pooling of the settings alone.

    Raises:
        WordelimError: something doesn't fit; the message says what.
    """
    keep, kind = (1.0,) * max(1, getattr(model.config, "num_hidden_layers", 0)), "fraction"
    if settings.keep is not None:
        counts = any(value > 1 for value in settings.keep) and all(value % 1 == 0 for value in settings.keep)
        keep, kind = tuple(settings.keep), "count" if counts else "fraction"
    tried, cost = _try_out(model, Retention(keep, kind))  # type: ignore[arg-type]
    check_tokenizer(tokenizer)
    first, data = next(iter(given.sets.items()))
    embedding = embedding or Embedding(settings.pooling)
    task = task_for(type(model).__name__, model.config, tokenizer, data, metric=settings.metric, embedding=embedding)
    template = template_for(model, task, protect_rules(settings.protect, tokenizer))
    restore = template.restore or tried.restore
    package = settings.package and not restore  # where all come back there is nothing to stand for
    template = replace(tried, protect=template.protect, restore=restore, package=package)
    examples: dict[str, Examples] = {}
    columns = None
    for name, data in given.sets.items():
        try:
            columns = columns or task.find_columns(data, **given.names)
            missing = next((column for column in columns.used if column not in data.column_names), None)
            if missing is not None:
                listed = ", ".join(map(repr, data.column_names))
                raise DataError(
                    f"there is no column {missing!r}, which the {first} data has; the columns are {listed}: give all "
                    "sets the same columns."
                )
            examples[name] = examples_of(
                task,
                data,
                columns,
                model=model,
                max_length=settings.max_length,
                metric=settings.metric,
                part=name,
                skipped=given.skipped.get(name),
            )
        except DataError as error:
            raise DataError(f"In the {name} data: {error}") from error
    assert columns is not None
    require_proven(model, task, examples["validation"].dataset)
    fixed = None if settings.keep is None else template
    return Ready(task, columns, task.metric(settings.metric), examples, cost, template, fixed)


def sources(ready: Ready) -> dict[str, dict[str, Any]]:
    """What a report tells of each set."""
    told = {name: {**of.describe(), "longest": max(of.lengths)} for name, of in ready.examples.items()}
    for each in told.values():
        del each["columns"]  # which are those of all sets, and stand by themselves
    return told


def _try_out(model: PreTrainedModel, retention: Retention) -> tuple[Retention, Flops]:
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
