"""BERT-PKD: patient knowledge distillation (Sun et al., 2019).

The student of distilbert.py, that learns the task, the teacher's logits, and the normalised states of the first token
behind each of its layers but the last, from those behind the teacher's layers that they were taken from (PKD-Skip).
Strength: how many layers it has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wordelim.training.distillation import DistillationTrainer
from wordelim.training.teacher import Said

from .distilbert import DistilBert
from .layers import LayerStates
from .rival import Shape

__all__ = ["Pkd"]


class _Trainer(DistillationTrainer):
    def __init__(self, *args: Any, layers: list[int], **options: Any) -> None:
        super().__init__(*args, **options)
        self.own = LayerStates(self.compressed, range(len(layers) - 1))
        self.shown = LayerStates(self.teacher.model, layers[:-1])

    def learn(
        self, model: nn.Module, inputs: dict[str, Any], known: dict[str, Tensor], taught: Said
    ) -> tuple[Tensor, Any]:
        outputs = self.answer(model, inputs, known)
        loss = self.of_logits(outputs, inputs, known, taught.logits)
        if self.own.values:
            mine, theirs = (torch.stack([_unit(each) for each in of.values]) for of in (self.own, self.shown))
            loss = loss + (mine - theirs).pow(2).sum(-1).mean()
        return loss, outputs

    def train(self, *args: Any, **options: Any) -> Any:
        try:
            return super().train(*args, **options)
        finally:
            self.own.remove()
            self.shown.remove()


def _unit(states: Tensor) -> Tensor:
    """Of the first tokens, [batch, width]."""
    return functional.normalize(states[:, 0].float(), dim=-1)


class Pkd(DistilBert):
    """A student of fewer layers that learns patiently."""

    trainer = _Trainer

    def more(self, shape: Shape) -> dict[str, Any]:
        return {"layers": shape["layers"]}
