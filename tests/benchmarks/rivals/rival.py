"""What a rival is, what it is given, and what its models cost."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import PreTrainedModel

from wordelim import Retention, eliminate_
from wordelim.evaluation.inference import batches
from wordelim.graph.cost import Flops, cost_of
from wordelim.graph.protect import sizes_of
from wordelim.graph.splice import retention_of
from wordelim.graph.support import is_marked
from wordelim.tasks import Task, ask
from wordelim.training.distillation import DistillationTrainer
from wordelim.training.fit import Fit, fit
from wordelim.training.teacher import Teacher

__all__ = ["Given", "Rival", "Shape", "bisect", "counted_flops", "dense_flops", "flops_ratio"]

Shape = dict[str, Any]
"""What besides weights makes a rival's model of the dense one, as plain data."""

_FORWARD = 3  # passes forth that take as long as one forth and back


@dataclass(frozen=True)
class Given:
    """What every rival is given, and no more: test texts aren't among it.

    Args:
        dense: the fine-tuned model, fp32, which is everyone's teacher and stays as it is.
        task: what its head is asked.
        sets: ``train`` and ``validation`` as they were read.
        encoded: the same as the model reads them.
        teacher: the dense model, that knows the training texts already.
        how: the epochs in all, a search included; rate, batch size and seed.
        settings: more of :func:`wordelim.compress_model`.
        keep_of: from a speed to what elimination keeps there, for those that differ from it in what decides alone.
    """

    dense: PreTrainedModel
    task: Task
    sets: Mapping[str, datasets.Dataset]
    encoded: Mapping[str, datasets.Dataset]
    teacher: Teacher
    how: Fit
    settings: Mapping[str, Any]
    keep_of: Callable[[float], list[float]]

    def sample(self, name: str, most: int) -> datasets.Dataset:
        """At most so many random texts of a set."""
        texts = self.encoded[name]
        return texts.select(np.random.default_rng(self.how.seed).permutation(len(texts))[:most].tolist())

    def epochs_of(self, texts: float, *, forward_only: bool = False) -> float:
        """What it takes to pass so many texts through the model, in epochs of training."""
        return texts / len(self.encoded["train"]) / (_FORWARD if forward_only else 1)

    def fit(
        self,
        trainer: Callable[..., DistillationTrainer],
        model: PreTrainedModel,
        *,
        epochs: float | None = None,
        live: bool = False,
        **options: Any,
    ) -> None:
        """Train a model in place.

        Args:
            epochs: fewer than all.
            live: ask the dense model about each batch, because more than its logits is learned from.
        """
        train = self.encoded["train"]
        teacher = Teacher(self.dense, self.task) if live else self.teacher
        how = self.how if epochs is None else replace(self.how, epochs=epochs)
        noted = train if live else teacher.note(train)
        fit(partial(trainer, teacher=teacher, **options), model, self.task, noted, how)


class Rival(ABC):
    """A way to make a fine-tuned model faster."""

    strength: ClassVar[str] = "FLOPs ratio"
    """What is asked for."""
    plain: ClassVar[bool] = False
    """Whether what it makes computes all rows, so that its last layer may be cut to the first token exactly besides."""

    @abstractmethod
    def train(self, given: Given, strength: float) -> tuple[PreTrainedModel, Shape]:
        """Make a model of a copy of the dense one, and train it."""

    @abstractmethod
    def build(self, dense: PreTrainedModel, shape: Shape) -> PreTrainedModel:
        """A model of this shape with the weights of a dense one, which stays as it is."""


def dense_flops(dense: PreTrainedModel) -> Flops:
    """What the dense encoder costs, and what it does when it drops word vectors."""
    return cost_of(eliminate_(copy.deepcopy(dense), Retention.keep_all(dense.config.num_hidden_layers)))


def flops_ratio(dense: PreTrainedModel, model: PreTrainedModel, texts: datasets.Dataset, task: Task) -> float:
    """FLOPs of the dense encoder over those of a model, both without padding.

    Where the model drops word vectors in this project's encoder, as its reports tell them; else counted.
    """
    spent = dense_flops(dense).spent(texts["length"])
    if is_marked(model.config):
        retention = retention_of(model)
        return spent / cost_of(model).spent(sizes_of(texts, retention), retention)
    return spent / counted_flops(model, texts, task)


def counted_flops(model: PreTrainedModel, texts: datasets.Dataset, task: Task) -> float:
    """FLOPs of a model's matrix products, counted while it answers batches of texts of one length."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(texts["length"]):
        by_length[length].append(row)
    known = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=known) as counter:
        for rows in by_length.values():
            for batch in batches(texts, task.tokenizer, rows, 32):
                ask(model, {name: values.to(model.device) for name, values in batch.items()}, task.config)
    return float(counter.get_total_flops())


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Of the attention that PyTorch has on a CPU, whose FLOPs it doesn't know, by the shapes of its inputs."""
    return int(sdpa_flop_count(query, key, value))


def bisect(ratio: Callable[[float], float], goal: float, low: float, high: float, steps: int = 10) -> float:
    """The least value between two at which a ratio that grows with it reaches a goal, or the highest."""
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if ratio(middle) < goal else (low, middle)
    return high
