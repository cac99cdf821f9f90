"""Head-Prune: heads that matter least are removed (Michel et al., 2019, "Are Sixteen Heads Really Better than One?").

A head matters as much as the loss would change with a mask on it: the mean over training texts of the size of the
gradient, normalised in each layer. The least important of all layers are removed in a few steps, with the importance
measured anew in between, and the model is retrained. They are gone from the weights of query, key, value and output.
Strength: the share of all heads that is removed; one of each layer stays. Feed-forward layers stay whole, so no share
makes a model twice as fast.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import datasets
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from wordelim.data.encode import INPUTS
from wordelim.tasks import Task, ask
from wordelim.training.distillation import DistillationTrainer

from .layers import attention_of, layers_of
from .rival import Given, Rival, Shape

__all__ = ["HeadPrune", "importance", "remove_"]

_STEPS = 4
_TEXTS = 256  # that importance is measured on in each
_TOGETHER = 32


class HeadPrune(Rival):
    """Fewer heads."""

    strength = "share of heads"
    plain = True

    def train(self, given: Given, strength: float) -> tuple[PreTrainedModel, Shape]:
        heads = [attention_of(layer).heads for layer in layers_of(given.dense)]
        most = sum(heads) - len(heads)
        if not 0 < strength <= 1:
            raise SystemExit(f"A share of heads of {strength:g} can't be removed: give one above 0, at most 1.")
        goal = min(most, round(strength * sum(heads)))
        kept = [list(range(count)) for count in heads]
        texts = given.sample("train", _TEXTS)
        for step in range(1, _STEPS + 1):
            found = importance(self.build(given.dense, {"heads": kept}), given.task, texts)
            gone = sum(heads) - sum(map(len, kept))
            _drop(kept, found, goal * step // _STEPS - gone)
        model = self.build(given.dense, {"heads": kept})
        given.fit(DistillationTrainer, model, epochs=given.how.epochs - given.epochs_of(_STEPS * len(texts)))
        return model, {"heads": kept}

    def build(self, dense: PreTrainedModel, shape: Shape) -> PreTrainedModel:
        model = copy.deepcopy(dense).requires_grad_(True)
        for layer, kept in zip(layers_of(model), shape["heads"], strict=True):
            remove_(layer, kept)
        return model


def _drop(kept: list[list[int]], found: list[Tensor], count: int) -> None:
    """Take so many of the least important heads out of those that are kept, in place."""
    ranked = sorted(
        (float(value), layer, head)
        for layer, values in enumerate(found)
        for head, value in zip(list(kept[layer]), values, strict=True)
    )
    for _, layer, head in ranked:
        if count > 0 and len(kept[layer]) > 1:
            kept[layer].remove(head)
            count -= 1


def importance(model: PreTrainedModel, task: Task, texts: datasets.Dataset) -> list[Tensor]:
    """How much each head matters, [heads] of each layer; in each layer the squares sum to 1."""
    masks: list[Tensor] = []
    hooks = []
    for layer in layers_of(model):
        attention = attention_of(layer)
        linear, heads = getattr(attention.place, attention.out), attention.heads
        hooks.append(linear.register_forward_pre_hook(partial(_masked, heads=heads, masks=masks)))
    found: list[Tensor] = []
    names = [name for name in (*INPUTS, *task.targets) if name in texts.column_names]
    rows = texts.select_columns(names)
    model.eval()
    try:
        for start in range(0, len(rows), _TOGETHER):
            batch = task.collate([rows[row] for row in range(start, min(start + _TOGETHER, len(rows)))])
            batch = {name: values.to(model.device) for name, values in batch.items()}
            masks.clear()
            known = {name: values for name, values in batch.items() if name not in task.targets}
            loss = task.loss(ask(model, known if task.own_loss else batch, task.config), batch)
            grads = torch.autograd.grad(loss * len(batch["input_ids"]), masks)  # the loss is a mean over texts
            sums = [grad.abs().sum(0) for grad in grads]
            found = [before + now for before, now in zip(found, sums, strict=True)] if found else sums
    finally:
        for hook in hooks:
            hook.remove()
    return [values / values.norm().clamp(min=1e-20) for values in found]


def _masked(module: nn.Module, args: Any, *, heads: int, masks: list[Tensor]) -> Any:
    """A mask of ones for each head of each text on the context [batch, tokens, heads * size], kept in ``masks``."""
    context = args[0]
    mask = torch.ones(len(context), heads, device=context.device, requires_grad=True)
    masks.append(mask)
    return ((context.unflatten(-1, (heads, -1)) * mask[:, None, :, None]).flatten(-2), *args[1:])


def remove_(layer: nn.Module, kept: list[int]) -> None:
    """Remove all heads of a layer but some, in place: from its weights, and from what is added to their scores."""
    attention = attention_of(layer)
    if len(kept) == attention.heads:
        return
    own, size = attention.own, attention.size
    rows = (torch.tensor(kept)[:, None] * size + torch.arange(size)).flatten()
    for name in attention.names:
        old = getattr(own, name)
        setattr(own, name, _linear(old.weight[rows], old.bias[rows]))
    old = getattr(attention.place, attention.out)
    setattr(attention.place, attention.out, _linear(old.weight[:, rows], old.bias))
    own.num_attention_heads, own.all_head_size = len(kept), len(rows)
    if attention.out == "o":  # MPNet's scores have a bias of each head's
        own.register_forward_pre_hook(partial(_of_heads, kept=kept))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    made.weight, made.bias = (nn.Parameter(values.detach().clone()) for values in (weight, bias))
    return made


def _of_heads(module: nn.Module, args: Any, *, kept: list[int]) -> Any:
    hidden_states, mask, bias, *rest = args
    return hidden_states, mask, None if bias is None else bias[:, kept], *rest
