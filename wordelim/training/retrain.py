"""Adapt a model's weights to the word vectors that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import datasets
from transformers import PreTrainedModel

from ..graph.splice import eliminate_, eliminating_encoder
from ..retention import Retention
from ..tasks import Task
from .distillation import DistillationTrainer
from .fit import Fit, fit
from .teacher import Teacher

__all__ = ["retrain_"]


def retrain_(
    model: PreTrainedModel,
    teacher: Teacher,
    task: Task,
    train: datasets.Dataset,
    retentions: Sequence[Retention],
    how: Fit,
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> list[dict[str, Any]]:
    """Retrain a compressed model in place under hard extraction (PoWER-BERT, section 3.4), distilling from the dense.

    Args:
        model: compressed already; its weights are changed.
        teacher: the dense model.
        task: what its head is asked.
        train: encoded texts with labels, perhaps with what :meth:`.Teacher.note` adds.
        retentions: one, or several that share the weights (each step takes one at random).
        progress: called with the share of steps that is done.

    Returns:
        The Trainer's log, one dictionary an entry.

    Raises:
        TrainingError: the loss, the output or a weight is not a number; the weights are then of no use.
    """
    eliminate_(model, retentions[0])
    encoder = eliminating_encoder(model)
    trainer = partial(DistillationTrainer, teacher=teacher, retentions=retentions, temperature=how.temperature)
    before, encoder.layout = encoder.layout, "padded"  # batches are of like length: one call serves all texts
    try:
        return fit(trainer, model, task, train, how, progress=progress)
    finally:
        encoder.layout = before
