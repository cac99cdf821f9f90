"""DistilBERT's way: a student with every n-th layer of the fine-tuned model (Sanh et al., 2019).

It learns the task, the teacher's logits, and the direction of its last hidden states (cosine) at every real token. It
does so on the task's texts alone: DistilBERT itself was first distilled on what BERT was trained on.
Strength: how many layers it has.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from wordelim.training.distillation import DistillationTrainer
from wordelim.training.teacher import LastHiddenState, Said

from .layers import layers_of
from .rival import Given, Rival, Shape

__all__ = ["DistilBert", "every", "student"]


def every(layers: int, taken: int) -> list[int]:
    """Which of so many layers a student of ``taken`` has: evenly spread, the last among them.

    Raises:
        SystemExit: no whole number of at least one layer, and fewer than there are.
    """
    if taken != int(taken) or not 0 < taken < layers:
        raise SystemExit(f"A student of {taken:g} of {layers} layers can't be made: give 1 to {layers - 1} layers.")
    return [-(-(place + 1) * layers // int(taken)) - 1 for place in range(int(taken))]


def student(dense: PreTrainedModel, layers: list[int]) -> PreTrainedModel:
    """A copy of a model with these of its layers."""
    model = copy.deepcopy(dense).requires_grad_(True)
    chosen = layers_of(model)
    model.base_model.encoder.layer = nn.ModuleList(chosen[layer] for layer in layers)
    model.config.num_hidden_layers = len(layers)
    return model


class _Trainer(DistillationTrainer):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.shown = LastHiddenState(self.teacher.model)

    def learn(
        self, model: nn.Module, inputs: dict[str, Any], known: dict[str, Tensor], taught: Said
    ) -> tuple[Tensor, Any]:
        outputs = self.answer(model, inputs, known)
        alike = functional.cosine_similarity(self.seen.value.float(), self.shown.value.float(), dim=-1)
        cosine = 1 - alike[known["attention_mask"].bool()].mean()
        return self.of_logits(outputs, inputs, known, taught.logits) + cosine, outputs

    def train(self, *args: Any, **options: Any) -> Any:
        try:
            return super().train(*args, **options)
        finally:
            self.shown.hook.remove()


class DistilBert(Rival):
    """A student of fewer layers."""

    strength = "layers"
    plain = True
    trainer: type[DistillationTrainer] = _Trainer

    def train(self, given: Given, strength: float) -> tuple[PreTrainedModel, Shape]:
        shape = {"layers": every(len(layers_of(given.dense)), strength)}  # type: ignore[arg-type]
        model = self.build(given.dense, shape)
        given.fit(self.trainer, model, live=True, **self.more(shape))
        return model, shape

    def more(self, shape: Shape) -> dict[str, Any]:
        """More arguments of the trainer."""
        return {}

    def build(self, dense: PreTrainedModel, shape: Shape) -> PreTrainedModel:
        return student(dense, shape["layers"])
