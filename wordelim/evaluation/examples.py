"""A task posed on rows: examples as a model reads them, checked, and what is asked about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow.compute
import torch
from transformers import PreTrainedModel

from ..data.columns import Columns
from ..data.encode import Encoded, sequences_of
from ..data.split import fingerprint
from ..data.usable import Skipped, usable
from ..errors import DataError
from ..graph.cost import Text
from ..graph.protect import sizes_of
from ..retention import Retention
from ..system.printable import short
from ..tasks import Task, task_for
from ..tasks.embedding import Embedding
from ..tasks.metrics import ComputeMetrics, Metric
from ..tasks.task import Array, Worst
from .timing import Workload, workload

__all__ = ["Examples", "check_tokenizer", "examples_of", "pose"]


@dataclass(frozen=True)
class Examples:
    """A task posed on rows.

    Args:
        task: what the model is asked.
        columns: where texts and labels stand.
        rows: those that can be used, as they came.
        encoded: the same as the model reads them.
        metric: what answers are judged by.
        max_length: tokens at which texts were cut; None for what tokenizer and model allow.
        skipped: the rows that were left out; None where all had to be usable.
    """

    task: Task
    columns: Columns
    rows: datasets.Dataset
    encoded: Encoded
    metric: Metric
    max_length: int | None = None
    skipped: Skipped | None = None

    @property
    def dataset(self) -> datasets.Dataset:
        """The encoded examples."""
        return self.encoded.dataset

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return self.encoded.lengths

    @property
    def sequences(self) -> datasets.Dataset:
        """The encoded examples as single sequences, which is what is timed."""
        return sequences_of(self.dataset)

    def sizes(self, retention: Retention) -> list[Text]:
        """What the sequences cost by; see :func:`wordelim.graph.protect.sizes_of`."""
        return sizes_of(self.dataset, retention)

    def answers(self, logits: Array) -> Array:
        """What was decided by logits, a row for each unit that is judged."""
        return self.task.answers(self.metric, logits, self.dataset)

    def sample(self, most: int, random: np.random.Generator) -> datasets.Dataset:
        """The encoded examples of ``most`` random units, in their order; all where there are fewer."""
        units = self.task.units(self.dataset)
        drawn = random.permutation(int(units.max()) + 1)[:most]
        if len(drawn) > units.max():
            return self.dataset
        return self.dataset.select(np.flatnonzero(np.isin(units, drawn)).tolist())

    @property
    def width(self) -> int:
        """Tokens to which every text is padded where padding is fixed."""
        return self.max_length or max(self.lengths)

    def workload(self, *, batch_size: int, texts: int, seed: int, device: torch.device) -> Workload:
        """Batches to time a model on; see :func:`wordelim.evaluation.timing.workload`."""
        return workload(
            self.sequences,
            self.task.tokenizer,
            max_length=self.width,
            batch_size=batch_size,
            texts=texts,
            seed=seed,
            device=device,
        )

    def worst(self, dense: Array, compressed: Array) -> Worst:
        """Where a compressed model fell behind most, by the logits of both."""
        return self.task.worst(
            self.metric, (dense, compressed), self.dataset, lambda row: self.task.shown(self.columns, self.rows[row])
        )

    def describe(self) -> dict[str, Any]:
        """What a report says of them, as plain data."""
        return {
            "columns": self.columns.to_dict(),
            "examples": len(self.rows),
            "truncated": self.encoded.truncated,
            "fingerprint": fingerprint(self.rows, self.columns),
            **(self.skipped.to_dict() if self.skipped is not None else {}),
        }


def pose(
    head: str,
    config: Any,
    tokenizer: Any,
    rows: datasets.Dataset,
    *,
    names: Mapping[str, Any] | None = None,
    metric: str | ComputeMetrics | None = None,
    embedding: Embedding | None = None,
    **reading: Any,
) -> Examples:
    """Ask of rows what a model's head is asked.

    Args:
        head: the name of the model's class.
        names: as ``find_columns`` of the task takes them: ``text``, ``text_pair`` and ``label``, where they aren't the
            usual ones, and ``need_label``.
        metric, embedding: see :func:`wordelim.tasks.task_for`.
        reading: see :func:`examples_of`.

    Raises:
        UnsupportedModelError: it is a head of no known kind.
        WordelimError: tokenizer, rows, metric and model don't fit each other; the message says what.
    """
    check_tokenizer(tokenizer)
    task = task_for(head, config, tokenizer, rows, metric=metric, embedding=embedding)
    return examples_of(task, rows, task.find_columns(rows, **(names or {})), metric=metric, **reading)


def examples_of(
    task: Task,
    rows: datasets.Dataset,
    columns: Columns,
    *,
    model: PreTrainedModel | None = None,
    max_length: int | None = None,
    metric: str | ComputeMetrics | None = None,
    part: str | None = None,
    skipped: Skipped | None = None,
) -> Examples:
    """Rows as a task's model reads them.

    Args:
        model: the one whose vocabulary they must stay within; None asks nothing.
        max_length: tokens at which texts are cut; None for what the tokenizer and the model allow.
        part: ``train``, ``validation`` or ``test``, which :meth:`wordelim.tasks.Task.require` is asked about; None asks
            nothing.
        skipped: takes the rows that can't be used; None refuses them.

    Raises:
        RowError: some rows can't be used, and ``skipped`` is None.
        DataError: no row can be used, or too few, or a token isn't in the vocabulary.
        WordelimError: the task has no such metric.
    """

    def read(rows: datasets.Dataset) -> Encoded:
        encoded = task.encode(rows, columns, max_length=max_length)
        if part is not None:
            task.require(encoded.dataset, part)
        return encoded

    rows, encoded = usable(read, rows, skipped)
    if model is not None:
        _check_vocabulary(encoded.dataset, model)
    return Examples(task, columns, rows, encoded, task.metric(metric), max_length, skipped)


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse a tokenizer whose batches a compressed model can't take: DataError."""
    if not callable(tokenizer) or not hasattr(tokenizer, "pad_token_id"):
        raise DataError(f"The tokenizer is a {type(tokenizer).__name__}: give the one that the model was trained with.")
    if getattr(tokenizer, "padding_side", "right") != "right":
        raise DataError(
            "The tokenizer pads on the left, but the head reads position 0: set padding_side to 'right' (in "
            "tokenizer_config.json)."
        )
    names = list(getattr(tokenizer, "model_input_names", ()) or ())
    if names[:1] != ["input_ids"] or "attention_mask" not in names:
        raise DataError(
            f"The tokenizer's model_input_names are {short(names)}, so that texts are padded without a mask: set them "
            'to ["input_ids", "attention_mask"] (in tokenizer_config.json).'
        )
    longest = getattr(tokenizer, "model_max_length", None)
    if longest is not None and not (isinstance(longest, (int, float)) and longest >= 1):
        raise DataError(
            f"The tokenizer's model_max_length is {short(longest)}: set it to a number of tokens (in "
            "tokenizer_config.json)."
        )
    if tokenizer.pad_token_id is None:
        raise DataError("The tokenizer has no padding token: give it the one that the model was trained with.")


def _check_vocabulary(encoded: datasets.Dataset, model: PreTrainedModel) -> None:
    """Refuse token ids that the model doesn't know: DataError."""
    largest = pyarrow.compute.max(
        pyarrow.compute.list_flatten(encoded.data.column("input_ids"), recursive=True)
    ).as_py()
    known = model.get_input_embeddings().num_embeddings
    if largest >= known:
        raise DataError(
            f"The tokenizer gives the token id {largest}, but the model knows {known} tokens: use the tokenizer that "
            "the model was trained with."
        )
