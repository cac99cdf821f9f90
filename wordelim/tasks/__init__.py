"""What heads are asked: one module a kind of head."""

from __future__ import annotations

from typing import Any

import datasets

from ..errors import UnsupportedModelError
from ..labels import outputs_of
from .answering import Answering
from .choice import Choice
from .ranking import Ranking
from .similarity import Pooling, Similarity
from .tagging import Tagging
from .task import Task, batches

__all__ = ["Task", "batches", "task_for"]

_HEADS: dict[str, type[Task]] = {
    "ForSequenceClassification": Task,
    "ForMultipleChoice": Choice,
    "ForTokenClassification": Tagging,
    "ForQuestionAnswering": Answering,
}
_RANKINGS = ("mrr", "map", "ndcg")


def task_for(
    name: str,
    config: Any,
    tokenizer: Any,
    data: datasets.Dataset | None = None,
    *,
    metric: str | None = None,
    pooling: Pooling = "mean",
) -> Task:
    """What a model's head is asked.

    Args:
        name: of the model's class.
        data: what it is to be judged on. A model of one output, with columns of queries and documents, ranks.
        metric: the one asked for. Those of ranking make a model of one output rank, others keep it from that.
        pooling: of a model without a head.

    Raises:
        UnsupportedModelError: it has a head of no such kind.
    """
    if name.endswith("ForSequenceClassification") and outputs_of(config) == 1:
        ranks = data is not None and Ranking.looks_like(data) if metric is None else metric in _RANKINGS
        return Ranking(config, tokenizer) if ranks else Task(config, tokenizer)
    for ending, task in _HEADS.items():
        if name.endswith(ending):
            return task(config, tokenizer)
    if name.endswith("Model"):
        return Similarity(config, tokenizer, pooling)
    raise UnsupportedModelError(
        f"{name} has no head that can be trained and measured: use one of {', '.join(f'*{head}' for head in _HEADS)}, "
        "or a model without a head, for embeddings."
    )
