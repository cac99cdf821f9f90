"""Adapt a model's weights to the word vectors that it keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ..graph.splice import eliminate_
from ..retention import Retention
from ..tasks import Task
from ..tasks.metrics import Metric
from .checkpoints import Stateful
from .distillation import DistillationTrainer
from .fit import Fit, fit
from .teacher import Teacher

__all__ = ["retrain_"]


class _KeepBest(Stateful):
    """Keeps the best weights in memory. Never stops before the end, for only there the rate has fallen to 0."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.points = float("-inf")
        self.weights: dict[str, Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        points = kwargs["metrics"]["eval_points"]
        if points > self.points:
            self.points = points
            self.weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def store(self, folder: Path) -> None:
        if self.weights:
            save_file({name: tensor.contiguous() for name, tensor in self.weights.items()}, folder / "best.safetensors")
            (folder / "best.json").write_text(json.dumps({"points": self.points}))

    def restore(self, folder: Path) -> None:
        if (folder / "best.json").exists():
            self.points = json.loads((folder / "best.json").read_text())["points"]
            self.weights = load_file(folder / "best.safetensors")


def retrain_(
    model: PreTrainedModel,
    teacher: Teacher,
    task: Task,
    train: datasets.Dataset,
    retentions: Sequence[Retention],
    how: Fit,
    *,
    validation: datasets.Dataset | None = None,
    metric: Metric | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> list[dict[str, Any]]:
    """Retrain a compressed model in place under hard extraction (PoWER-BERT, section 3.4), distilling from the dense.

    Args:
        model: compressed already; its weights are changed.
        teacher: the dense model.
        task: what its head is asked.
        train: encoded texts with labels, perhaps with what :meth:`.Teacher.note` adds.
        retentions: one, or several that share the weights (each step takes one at random).
        validation: with ``metric``, the best weights on it are kept.
        progress: called with the share of steps that is done.

    Returns:
        The Trainer's log, one dictionary an entry.

    Raises:
        TrainingError: the loss, the output or a weight is not a number; the weights are then of no use.
    """
    eliminate_(model, retentions[0])
    best = _KeepBest(model)
    callbacks = [best] if validation is not None and metric is not None else []
    trainer = partial(DistillationTrainer, teacher=teacher, retentions=retentions, temperature=how.temperature)
    history = fit(
        trainer, model, task, train, how, validation=validation, metric=metric, callbacks=callbacks, progress=progress
    )
    if best.weights:
        model.load_state_dict(best.weights)
    return history
