"""What heads are asked: one module a kind of head."""

from __future__ import annotations

from typing import Any

import datasets
from transformers import PreTrainedModel

from wordelim.adapters import family_of

from ..data.problem import outputs_of
from ..errors import UnsupportedModelError
from ..retention import Retention
from .answering import Answering
from .choice import Choice
from .embedding import Embedding, embeds
from .metrics import ComputeMetrics
from .ranking import BY_QUERY, Ranking
from .similarity import Similarity
from .tagging import Tagging
from .task import Task, ask, batches

__all__ = ["Task", "ask", "batches", "task_for", "template_for"]

_HEADS: dict[str, type[Task]] = {
    "ForSequenceClassification": Task,
    "ForMultipleChoice": Choice,
    "ForTokenClassification": Tagging,
    "ForQuestionAnswering": Answering,
}


def task_for(
    name: str,
    config: Any,
    tokenizer: Any,
    data: datasets.Dataset | None = None,
    *,
    metric: str | ComputeMetrics | None = None,
    embedding: Embedding | None = None,
) -> Task:
    """What a model's head is asked.

    Args:
        name: of the model's class.
        data: what it is to be judged on. A model of one output, with columns of queries and documents, ranks.
        metric: the one asked for. Those of ranking make a model of one output rank, others keep it from that.
        embedding: how a model without a head makes one; None for the mean of all tokens.

    Raises:
        UnsupportedModelError: it has a head of no such kind.
    """
    if name.endswith("ForSequenceClassification") and outputs_of(config) == 1:
        ranks = data is not None and Ranking.looks_like(data) if metric is None else metric in BY_QUERY
        return Ranking(config, tokenizer) if ranks else Task(config, tokenizer)
    for ending, task in _HEADS.items():
        if name.endswith(ending):
            return task(config, tokenizer)
    if embeds(name):
        return Similarity(config, tokenizer, embedding)
    raise UnsupportedModelError(
        f"{name} has no head that can be trained and measured: use one of {', '.join(f'*{head}' for head in _HEADS)}, "
        "or a model without a head, for embeddings."
    )


def template_for(model: PreTrainedModel, task: Task, protect: tuple[str, ...] = ("first",)) -> Retention:
    """A retention that drops nothing, to fill in: what it protects, and what becomes of the dropped where all is read.

    Where the mean alone is read, a dropped word vector comes back as the mean of those that are left, so that the mean
    of all is theirs: what it was when it was dropped, layers before, would be a stranger among them.

    Raises:
        UnsupportedModelError: the model's family isn't supported.
    """
    layers = max(1, getattr(model.config, "num_hidden_layers", 0))
    mean = task.reads_mean and not family_of(model).normalises_after
    return Retention((1.0,) * layers, protect=protect, restore="mean" if mean else False)
