"""What a head is asked, and what every kind of head shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.columns import Columns
from ..data.encode import INPUTS, Encoded, encode
from ..data.problem import outputs_of, problem_type
from ..errors import DataError, WordelimError
from .label_columns import find_label_columns
from .metrics import ComputeMetrics, Metric, metrics_of, predictions
from .worst import worst_flips

__all__ = ["Array", "Logits", "Task", "TextsOf", "Worst", "batches", "flatten_rows", "spread_over"]

Array: TypeAlias = NDArray[Any]
Logits: TypeAlias = tuple[Array, Array]
"""Of a dense model, and of the one compressed from it."""
TextsOf: TypeAlias = Callable[[int], Sequence[str]]
Worst: TypeAlias = list[dict[str, Any]]


class Task:
    """How data is read for a head, what the head answers, how that is judged, and what a student learns of a teacher.

    This is a single- or multi-label classification or a regression of texts, by the problem type of the config; other
    heads change what is different with them.

    Args:
        config: of the model.
        tokenizer: of the model.
    """

    title = ""
    """What an error calls it; the problem type where there is none."""
    pipeline_tag = "text-classification"
    """What the hub calls it."""
    targets: tuple[str, ...] = ("labels",)
    """Columns of encoded examples that a model is trained to answer."""
    reads_mean = False
    """Whether nothing is read of the last hidden states but their mean."""
    own_loss = False
    """Whether the loss is this task's own, so that the model is not given the targets."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        self.config, self.tokenizer = config, tokenizer

    @property
    def kind(self) -> str:
        """A problem type of transformers, which decides the losses of search and training."""
        return problem_type(self.config)

    # --- data

    def find_columns(self, data: datasets.Dataset, **names: Any) -> Columns:
        """The columns that are used; ``names`` as in :func:`wordelim.data.columns.find_columns`.

        Where a text may have several labels, a column each of 0 and 1 may stand for them: those that ``label`` names,
        or, without it, those that bear the names of all the model's labels.

        Raises:
            DataError: columns are missing, or don't stand for the model's labels.
        """
        return find_label_columns(data, self.config, self.kind, names)

    def encode(self, data: datasets.Dataset, columns: Columns, *, max_length: int | None = None) -> Encoded:
        """Examples as the model takes them, without padding; see :func:`wordelim.data.encode.encode`."""
        return encode(data, self.tokenizer, columns, self.config, max_length=max_length)

    def require(self, encoded: datasets.Dataset, part: str) -> None:
        """Refuse encoded examples that can't serve as the ``train``, ``validation`` or ``test`` part: DataError."""
        labels = encoded["labels"]
        if part != "test" and len(labels) > 1 and all(label == labels[0] for label in labels):
            raise DataError(
                f"All {len(labels)} labels are the same: give texts of every kind that the model shall tell apart."
            )

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A padded batch of encoded examples, with their targets where they have some."""
        batch = self.pad([{name: row[name] for name in INPUTS if name in row} for row in rows])
        for name in self.targets:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])
        return batch

    def pad(self, sequences: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Sequences padded to the longest."""
        return dict(self.tokenizer.pad(list(sequences), return_tensors="pt"))

    # --- answers

    def logits(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the model says to examples, [examples, outputs], or to each token, [examples, tokens, outputs]."""
        return output.logits  # type: ignore[no-any-return]

    takes_metrics = True
    """Whether a metric may be a function of logits and labels."""

    def metric(self, metric: str | ComputeMetrics | None = None) -> Metric:
        """The metric of this name, the usual one, or a function of the user's own.

        Raises:
            WordelimError: there is none of this name, or the task has no logits and labels that a function could take.
        """
        if metric is None or isinstance(metric, str):
            return self.named_metric(metric)
        if not self.takes_metrics:
            raise WordelimError(f"A metric of {self.title} is chosen by its name: give no function.")
        return Metric.computed(metric)

    def named_metric(self, name: str | None) -> Metric:
        """The metric of this name, or the usual one; WordelimError where there is none of this name."""
        known, title = self.metrics(), self.title or self.kind.replace("_", " ")
        name = next(iter(known)) if name is None else name
        if name not in known:
            raise WordelimError(f"There is no metric {name!r} for {title}; choose one of {', '.join(known)}.")
        return known[name]

    def metrics(self) -> Mapping[str, Metric]:
        """Every metric by its name, the usual one first."""
        return metrics_of(self.kind, outputs_of(self.config), partial(predictions, config=self.config))

    def decided(self, metric: Metric, answers: Array) -> Array:
        """Answers as labels, also where a metric takes logits."""
        return self.named_metric(None).decide(answers) if metric.of_logits else answers

    def answers(self, metric: Metric, logits: Array, encoded: datasets.Dataset) -> Array:
        """What was decided, one row for each unit that is judged: an example, a question, or a query."""
        return metric.decide(logits)

    def truth(self, encoded: datasets.Dataset) -> Array:
        """What is right, in the form of the answers."""
        return np.asarray(encoded["labels"])

    def points(self, metric: Metric, logits: Array, encoded: datasets.Dataset) -> float:
        """How good logits are, by a metric."""
        return metric.of_answers()(self.answers(metric, logits, encoded), self.truth(encoded))

    @property
    def names(self) -> Sequence[str]:
        """Names of the labels that recall is told of, by id."""
        if self.kind == "regression":
            return ()
        names: Mapping[Any, Any] = self.config.id2label or {}
        return [str(names.get(index, index)) for index in range(outputs_of(self.config))]

    def units(self, encoded: datasets.Dataset) -> Array:
        """The unit that each encoded row belongs to, as a number [rows]: units are numbered as they appear."""
        return np.arange(len(encoded))

    def rows(self, encoded: datasets.Dataset) -> Array:
        """The row of the data that each encoded row is of, as a number [rows]."""
        return np.arange(len(encoded))

    def unit_lengths(self, encoded: datasets.Dataset) -> Sequence[int]:
        """Tokens of each unit that is judged."""
        return list(encoded["length"])

    def clusters(self, encoded: datasets.Dataset) -> Array | None:
        """What units belong to that aren't independent of each other; None where they all are."""
        return None

    def worst(self, metric: Metric, logits: Logits, encoded: datasets.Dataset, texts_of: TextsOf) -> Worst:
        """Where the compressed model fell behind most; see :func:`wordelim.tasks.worst.worst_flips`.

        Args:
            logits: of the dense model and of the compressed one.
            texts_of: from a row of the data to its texts.
        """
        return worst_flips(self.config, *logits, self.truth(encoded), texts_of)

    # --- training

    def state(self, hidden_states: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """What of the last hidden states [sequences, tokens, width] a student shall share with its teacher."""
        return hidden_states[:, 0]

    def loss(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """The task's own loss on a batch with targets."""
        return output.loss  # type: ignore[no-any-return]

    def shown(self, columns: Columns, row: Mapping[str, Any]) -> list[str]:
        """The texts of a row of the data, for people."""
        return [str(row[name]) for name in (columns.text, columns.text_pair) if name is not None]


def ask(model: Any, inputs: Mapping[str, Tensor], config: Any) -> Any:
    """What a model answers, with names also where its ``config`` says ``return_dict: false``."""
    return model(**inputs) if config.return_dict else model(**inputs, return_dict=True)


def batches(rows: datasets.Dataset, task: Task, order: Sequence[int], batch_size: int) -> Iterator[dict[str, Tensor]]:
    """Padded batches of model inputs, taken in ``order``."""
    inputs = rows.select_columns([name for name in INPUTS if name in rows.column_names])
    for start in range(0, len(order), batch_size):
        columns = inputs[list(order[start : start + batch_size])]
        yield task.collate([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def flatten_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of several sequences each as sequences, one behind the other."""
    return [
        {name: row[name][part] for name in INPUTS if name in row}
        for row in rows
        for part in range(len(row["input_ids"]))
    ]


def spread_over(units: Array, values: Array, fill: float) -> Array:
    """Values [rows] as a table [units, most rows of a unit], with ``fill`` behind the last of each."""
    order = np.argsort(units, kind="stable")
    counts = np.bincount(units)
    table = np.full((len(counts), counts.max()), fill, dtype=np.float64)
    table[np.repeat(np.arange(len(counts)), counts), np.concatenate([np.arange(count) for count in counts])] = values[
        order
    ]
    return table
