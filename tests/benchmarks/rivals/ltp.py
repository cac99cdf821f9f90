"""LTP: learned token pruning (Kim et al., 2022).

Each layer but the last has a threshold on the attention that a row receives (the mean over heads and real rows), and
drops rows below it between attention and feed-forward. In the first half of the epochs thresholds are soft and learned
with the weights, against a penalty on FLOPs; in the second they are fixed and rows are really dropped. Other than in
the paper, a soft mask weighs rows as keys of the layers above, which is near to what dropping does; the penalty is on
FLOPs beyond the ratio asked for; and between the halves one factor on all thresholds brings that about on training
texts. Counts depend on the text, so texts lie packed: see packed.py. Strength: the FLOPs ratio.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from wordelim.graph.cost import Flops
from wordelim.training.distillation import DistillationTrainer
from wordelim.training.teacher import Said

from .layers import Attention
from .packed import PackedEncoder, Rows
from .rival import Given, Rival, Shape, bisect, counted_flops, dense_flops

__all__ = ["Ltp", "Pruning"]

_TEMPERATURE = 0.1  # of soft masks, in units of what a row receives on average
_RATE = 0.02  # at which thresholds are learned, in the same unit
_PENALTY = 10.0
_TEXTS = 128  # that FLOPs are counted on
_STEPS = 8


class Pruning(PackedEncoder):
    """An encoder that drops rows below thresholds.

    Args:
        thresholds: of each layer but the last, in units of ``1 / length``.
        length: mean tokens of training texts.
    """

    def __init__(self, model: PreTrainedModel, thresholds: list[float], length: float) -> None:
        super().__init__(model)
        self.thresholds = nn.Parameter(torch.tensor(thresholds))
        self.length, self.soft = length, False
        self.left: list[Tensor] = []  # rows that leave each layer, softly counted, [batch] each

    def begin(self, real: Tensor) -> Any:
        self.left.clear()
        return real.float()

    def prior(self, state: Any) -> Tensor | None:
        return state.clamp(min=1e-6).log() if self.soft else None

    def lessen(
        self,
        index: int,
        attention: Attention,
        x: Tensor,
        rows: Rows,
        p: Tensor,
        key: Tensor,
        value: Tensor,
        state: Any,
    ) -> tuple[Tensor, Rows, Any]:
        pays = state if self.soft else rows.real.float()
        above = _received(p, pays) * self.length - self.thresholds[index]
        first = torch.zeros_like(rows.real).index_fill(1, torch.tensor(0, device=x.device), True)
        if self.soft:
            state = state * torch.where(first, 1.0, (above / _TEMPERATURE).sigmoid())
            self.left.append(state.sum(1))
            return attention.project(rows.pack(self.context(p, value)), x), rows, state
        left, order = rows.choose((above > 0) | first)
        p = p.gather(2, order[:, None, :, None].expand(-1, p.shape[1], -1, p.shape[3]))
        entered = rows.pad(x).gather(1, order[..., None].expand(-1, -1, x.shape[1]))
        return attention.project(left.pack(self.context(p, value)), left.pack(entered)), left, state


def _received(p: Tensor, pays: Tensor) -> Tensor:
    """Attention that each row receives, the mean over heads and over the rows that pay it: [batch, rows].

    Args:
        pays: [batch, rows], how much of each row is left: 0 of padding.
    """
    return (p.mean(1) * pays[:, :, None]).sum(1) / pays.sum(1, keepdim=True)


class _Softly(DistillationTrainer):
    """Learns thresholds with the weights."""

    def __init__(self, *args: Any, flops: Flops, goal: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.flops, self.goal = flops, goal

    def create_optimizer(self, *args: Any, **options: Any) -> Any:
        if self.optimizer is None:
            super().create_optimizer(*args, **options)
            thresholds = self.compressed.base_model.encoder.thresholds
            for group in self.optimizer.param_groups:  # type: ignore[attr-defined]
                group["params"] = [each for each in group["params"] if each is not thresholds]
            self.optimizer.add_param_group(  # type: ignore[attr-defined]
                {"params": [thresholds], "lr": _RATE, "weight_decay": 0.0}
            )
        return self.optimizer

    def learn(
        self, model: nn.Module, inputs: dict[str, Any], known: dict[str, Tensor], taught: Said
    ) -> tuple[Tensor, Any]:
        loss, outputs = super().learn(model, inputs, known, taught)
        left, lengths = self.compressed.base_model.encoder.left, known["attention_mask"].sum(1).float()
        spent = self.flops.total(lengths, [*left, torch.ones_like(lengths)]).sum()
        share = spent / self.flops.total(lengths, [lengths] * self.flops.layers).sum()
        return loss + _PENALTY * (share - 1 / self.goal).relu(), outputs


class Ltp(Rival):
    """Rows that receive less attention than a learned threshold are dropped."""

    def train(self, given: Given, strength: float) -> tuple[PreTrainedModel, Shape]:
        layers, lengths = given.dense.config.num_hidden_layers, given.encoded["train"]["length"]
        shape = {
            "thresholds": [0.5 * (layer + 1) / layers for layer in range(layers - 1)],
            "length": sum(lengths) / len(lengths),
        }
        model = self.build(given.dense, shape).requires_grad_(True)
        encoder = model.base_model.encoder
        encoder.soft = True
        half, flops = given.how.epochs / 2, dense_flops(given.dense)
        given.fit(_Softly, model, epochs=half, flops=flops, goal=strength)
        encoder.soft = False
        learned, texts = encoder.thresholds.detach().clone(), given.sample("train", _TEXTS)
        encoder.thresholds.requires_grad_(False)
        whole = flops.spent(texts["length"])

        def ratio(factor: float) -> float:
            encoder.thresholds.copy_(factor * learned)
            return whole / counted_flops(model, texts, given.task)

        encoder.thresholds.copy_(bisect(ratio, strength, 0.0, 4.0, _STEPS) * learned)
        given.fit(DistillationTrainer, model, epochs=half - given.epochs_of(_STEPS * len(texts), forward_only=True))
        return model, {**shape, "thresholds": encoder.thresholds.tolist()}

    def build(self, dense: PreTrainedModel, shape: Shape) -> PreTrainedModel:
        model = copy.deepcopy(dense)
        model.base_model.encoder = Pruning(model, shape["thresholds"], shape["length"]).eval()
        return model
