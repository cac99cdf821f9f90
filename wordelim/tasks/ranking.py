"""Reranking: a cross-encoder scores each document against its query, and what counts is the order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import datasets
import numpy as np
from torch import Tensor
from torch.nn import functional

from ..data.cells import shown
from ..data.columns import Columns
from ..data.encode import Encoded, column_values
from ..data.usable import Unusable, each_row
from ..errors import DataError
from .metrics import Metric, mean
from .task import Array, Logits, Task, TextsOf, Worst, spread_over
from .worst import worst_units

__all__ = ["BY_QUERY", "Ranking"]

# What stands in a table of queries behind a query's last document: as its score, and as its relevance.
_NO_SCORE, _NO_DOCUMENT = -1e9, -1.0


class Ranking(Task):
    """One logit a pair; a unit is a query with its documents."""

    title = "ranking"
    pipeline_tag = "text-ranking"
    takes_metrics = False
    own_loss = True
    names = ()

    @staticmethod
    def looks_like(data: datasets.Dataset) -> bool:
        """Whether a data set has queries and documents, by the names of its columns."""
        return {"query", "document"} <= {name.casefold() for name in data.column_names} or {"query", "passage"} <= {
            name.casefold() for name in data.column_names
        }

    @property
    def kind(self) -> str:
        stated = getattr(self.config, "problem_type", None)
        return "regression" if stated == "regression" else "multi_label_classification"

    def encode(self, data: datasets.Dataset, columns: Columns, *, max_length: int | None = None) -> Encoded:
        if columns.text_pair is None:
            raise DataError("Ranking needs a query and a document: name their columns with --text and --text-pair.")
        encoded = super().encode(data, columns, max_length=max_length)
        rows = encoded.dataset.add_column("query", column_values(data, columns.text))
        if "labels" in rows.column_names:
            labels = np.asarray(rows["labels"], dtype=np.float64).reshape(len(rows)).tolist()
            each_row(_require_relevance, labels)
            rows = rows.remove_columns("labels").add_column("labels", labels)
        return Encoded(rows, encoded.truncated, encoded.lengths)

    def require(self, encoded: datasets.Dataset, part: str) -> None:
        super().require(encoded, part)
        if part == "train":
            return
        best = self.truth(encoded).max(1)[self.units(encoded)]
        each_row(_require_relevant, encoded["query"], best)

    def metrics(self) -> Mapping[str, Metric]:
        return {name: Metric(name, parts=partial(_by_query, score), finish=mean) for name, score in BY_QUERY.items()}

    def units(self, encoded: datasets.Dataset) -> Array:
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(query, len(numbers)) for query in encoded["query"]])

    def _first_rows(self, encoded: datasets.Dataset) -> Array:
        return np.unique(self.units(encoded), return_index=True)[1]

    def truth(self, encoded: datasets.Dataset) -> Array:
        return spread_over(self.units(encoded), np.asarray(encoded["labels"]), _NO_DOCUMENT)

    def answers(self, metric: Metric, logits: Array, encoded: datasets.Dataset) -> Array:
        return spread_over(self.units(encoded), np.asarray(logits, dtype=np.float64).reshape(-1), _NO_SCORE)

    def unit_lengths(self, encoded: datasets.Dataset) -> Sequence[int]:
        units, lengths = self.units(encoded), np.asarray(encoded["length"])
        return [int(mean) for mean in np.bincount(units, lengths) / np.bincount(units)]

    def worst(self, metric: Metric, logits: Logits, encoded: datasets.Dataset, texts_of: TextsOf) -> Worst:
        truth, first = self.truth(encoded), self._first_rows(encoded)
        answers = [self.answers(metric, each, encoded) for each in logits]
        assert metric.parts is not None
        values = [metric.parts(truth, each)[:, 0] for each in answers]
        ranks = [[f"first relevant at {_rank(*pair)}" for pair in zip(truth, each, strict=True)] for each in answers]
        said = [["first relevant at 1"] * len(truth), *ranks]
        return worst_units(values, lambda unit: texts_of(int(first[unit]))[:1], said=said, rows=first)

    def loss(self, output: Any, inputs: Any) -> Tensor:
        scores, labels = output.logits.reshape(-1), inputs["labels"].reshape(-1)
        if self.kind == "regression":
            return functional.mse_loss(scores, labels.to(scores.dtype))
        return functional.binary_cross_entropy_with_logits(scores, (labels > 0).to(scores.dtype))


def _require_relevance(label: float) -> None:
    if label < 0:
        raise Unusable(f"has the label {label:g}: give relevance as 0 or more.")


def _require_relevant(query: str, best: float) -> None:
    if best <= 0:
        raise Unusable(
            f"has the query {shown(query)}, which has no relevant document, so that no order of its documents is "
            "better than another: leave it out (--skip-bad-rows)."
        )


def _by_query(of_query: Callable[[Array, Array], float], truth: Array, answers: Array) -> Array:
    """The metric of each query, and 1."""
    parts = np.ones((len(truth), 2))
    for row, (relevance, scores) in enumerate(zip(truth, answers, strict=True)):
        there = relevance != _NO_DOCUMENT
        parts[row, 0] = of_query(relevance[there], scores[there])
    return parts


def _rank(relevance: Array, scores: Array) -> int:
    """The rank of the best relevant document; equal scores count against it."""
    there = relevance != _NO_DOCUMENT
    best = scores[there & (relevance > 0)].max()
    return int((scores[there & (relevance == 0)] >= best).sum()) + 1


def _reciprocal_rank(relevance: Array, scores: Array) -> float:
    return 1 / _rank(relevance, scores)


def _average_precision(relevance: Array, scores: Array) -> float:
    from sklearn.metrics import average_precision_score  # late: most who load a model never rank

    return float(average_precision_score(relevance > 0, scores))


def _ndcg(relevance: Array, scores: Array) -> float:
    from sklearn.metrics import ndcg_score

    return float(ndcg_score([relevance], [scores])) if len(relevance) > 1 else 1.0


BY_QUERY: Mapping[str, Callable[[Array, Array], float]] = {
    "mrr": _reciprocal_rank,
    "map": _average_precision,
    "ndcg": _ndcg,
}
"""Metrics of one query, from the relevance of its documents and their scores; the usual one first."""
