"""LAT: Length-Adaptive Transformer (Kim and Cho, 2021), in this project's encoder, so that rows are really dropped.

LengthDrop: each step trains the whole model on the task and the teacher, and the shortest and two random lengths on
what the whole model answers (sandwich rule, in-place distillation). Lengths leave each layer with a share of those that
entered it, drawn between 1 - p and 1; p is 0.2, or what it takes for the shortest to be a quarter faster than is asked
for. Then an evolutionary search finds the lengths that lose least on validation texts at the FLOPs ratio asked for; its
passes come off the epochs. Those stay that receive most attention, as in LAT. Strength: the FLOPs ratio.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from wordelim import Retention, eliminate_
from wordelim.evaluation.inference import logits_of
from wordelim.graph.cost import Flops
from wordelim.graph.splice import eliminating_encoder
from wordelim.tasks import Task
from wordelim.training.distillation import DistillationTrainer
from wordelim.training.teacher import Said

from .rival import Given, Rival, Shape, dense_flops

__all__ = ["Lat", "evolve", "fitted"]

_DROPPED = 0.2
_SHORTER = 1.25
_RANDOM = 2
_TEXTS = 256  # that the search judges on
_TRIES = 40
_PARENTS, _YOUNG = 4, 8

Keep = tuple[float, ...]


class Lat(Rival):
    """Lengths that are drawn in training and searched afterwards."""

    def train(self, given: Given, strength: float) -> tuple[PreTrainedModel, Shape]:
        layers, lengths = given.dense.config.num_hidden_layers, given.encoded["train"]["length"]
        flops = dense_flops(given.dense)
        least = lengths_of([1 - _DROPPED] * layers)
        wanted = _SHORTER * strength
        shortest = least if _ratio(flops, lengths, least) >= wanted else fitted(least, wanted, flops, lengths)
        model = self.build(given.dense, {"keep": [1.0] * layers}).requires_grad_(True)
        texts = given.sample("validation", _TEXTS)
        searched = given.epochs_of(_TRIES * len(texts) / strength, forward_only=True)
        encoder = eliminating_encoder(model)
        encoder.layout = "padded"
        given.fit(_Trainer, model, epochs=max(given.how.epochs / 2, given.how.epochs - searched), shortest=shortest)
        encoder.layout = "auto"

        def lost(keep: Keep) -> float:
            eliminate_(model, Retention.fractions(keep))
            return _loss(model, texts, given.task)

        keep = evolve(lost, lambda keep: fitted(keep, strength, flops, lengths), layers, given.how.seed)
        return eliminate_(model, Retention.fractions(keep)), {"keep": list(keep)}

    def build(self, dense: PreTrainedModel, shape: Shape) -> PreTrainedModel:
        return eliminate_(copy.deepcopy(dense), Retention.fractions(shape["keep"]))


class _Trainer(DistillationTrainer):
    def __init__(self, *args: Any, shortest: Keep, **options: Any) -> None:
        super().__init__(*args, **options)
        self.shortest = shortest

    def learn(
        self, model: nn.Module, inputs: dict[str, Any], known: dict[str, Tensor], taught: Said
    ) -> tuple[Tensor, Any]:
        eliminate_(self.compressed, Retention.keep_all(len(self.shortest)))
        loss, outputs = super().learn(model, inputs, known, taught)
        whole = self.task.logits(outputs, known).detach().float()
        chance = random.Random(f"{self.args.seed} {self.state.global_step}")
        steps = [after / before for before, after in zip((1.0, *self.shortest), self.shortest, strict=False)]
        drawn = [lengths_of([chance.uniform(step, 1.0) for step in steps]) for _ in range(_RANDOM)]
        for keep in (self.shortest, *drawn):
            eliminate_(self.compressed, Retention.fractions(keep))
            loss = loss + self.apart(self.answer(model, dict(known), known), known, whole)
        return loss, outputs


def lengths_of(steps: Sequence[float]) -> Keep:
    """What is left behind each layer of which so much of what enters is left."""
    return tuple(np.cumprod(steps).tolist())


def fitted(keep: Keep, ratio: float, flops: Flops, lengths: Sequence[int]) -> Keep:
    """Fractions raised to the one power at which they have this FLOPs ratio on texts of these lengths."""
    low, high = 0.0, 64.0
    for _ in range(24):
        power = (low + high) / 2
        found = _ratio(flops, lengths, tuple(fraction**power for fraction in keep))
        low, high = (power, high) if found < ratio else (low, power)
    return tuple(fraction**high for fraction in keep)


def _ratio(flops: Flops, lengths: Sequence[int], keep: Keep) -> float:
    return flops.ratio(lengths, Retention.fractions(keep))


def evolve(lost: Callable[[Keep], float], fit: Callable[[Keep], Keep], layers: int, seed: int) -> Keep:
    """The best lengths of an evolution: of even ones and random ones, crossed and mutated.

    Args:
        lost: how bad lengths are.
        fit: makes them as fast as was asked for.
    """
    chance = random.Random(seed)

    def drawn() -> Keep:
        return lengths_of([chance.uniform(0.5, 1.0) for _ in range(layers)])

    def child(parents: Sequence[Keep]) -> Keep:
        one, two = chance.choice(parents), chance.choice(parents)
        mixed = [chance.choice(pair) for pair in zip(_steps(one), _steps(two), strict=True)]
        if one is two or chance.random() < 0.5:
            mixed = [min(1.0, max(0.05, step + chance.gauss(0, 0.1))) for step in mixed]
        return lengths_of(mixed)

    judged: dict[Keep, float] = {}
    young = [lengths_of([0.8] * layers), *(drawn() for _ in range(_YOUNG - 1))]
    while len(judged) < _TRIES:
        for keep in map(fit, young[: _TRIES - len(judged)]):
            judged.setdefault(keep, lost(keep))
        parents = sorted(judged, key=judged.__getitem__)[:_PARENTS]
        young = [child(parents) for _ in range(_YOUNG)]
    return min(judged, key=judged.__getitem__)


def _steps(keep: Keep) -> list[float]:
    return [after / max(before, 1e-9) for before, after in zip((1.0, *keep), keep, strict=False)]


def _loss(model: PreTrainedModel, texts: datasets.Dataset, task: Task) -> float:
    """The loss on labelled texts: smoother than a metric on so few."""
    logits, labels = torch.from_numpy(logits_of(model, texts, task)), torch.tensor(texts["labels"])
    if task.kind == "regression":
        return float(functional.mse_loss(logits.flatten(), labels.flatten().float()))
    return float(functional.cross_entropy(logits, labels))
