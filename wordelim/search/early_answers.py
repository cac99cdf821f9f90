"""What dropped word vectors could answer where they were dropped, for heads that answer for every token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, cat
from transformers import PreTrainedModel

from ..evaluation.inference import logits_of
from ..tasks import Task

__all__ = ["Exits"]

Array = NDArray[np.float32]

# Of the variance of a hidden state's numbers: what keeps a fit to some thousands of tokens from learning them by heart.
_RIDGE = 0.03
# How far, relative to its size, the state that comes back may be from what it was when it was dropped.
_SAME = 1e-3


class _WithStates:
    """A task whose logits have the last hidden states behind them: [examples, tokens, outputs + width]."""

    def __init__(self, task: Task, states: list[Tensor]) -> None:
        self.task, self.states = task, states

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def logits(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        logits = self.task.logits(output, inputs)
        return cat([logits, self.states.pop().to(logits.dtype)], -1)


class Exits:
    """Linear exits: from the state that a word vector has when it is dropped at a layer to the dense model's logits.

    A head that was never trained to read the states of early layers answers wildly from them, from those of late layers
    too, and retraining mends that at once. So what dropping costs can't be seen in the logits as they are. What the
    state still lacks is seen in how well the logits can be told from it, by a ridge regression that is fitted to one
    half of the examples and judged on the other.

    Args:
        model: compressed, in a state that drops nothing.
        task: what its head is asked.
        sample: encoded examples.
        options: of :func:`wordelim.evaluation.inference.logits_of`.
    """

    def __init__(self, model: PreTrainedModel, task: Task, sample: datasets.Dataset, **options: Any) -> None:
        self.model, self.task, self.sample, self.options = model, task, sample, options
        self.half = np.arange(len(sample)) % 2
        whole = self._run()
        self.outputs = whole.shape[-1] - int(model.config.hidden_size)
        self.dense, self.real = whole[..., : self.outputs], ~np.isnan(whole[..., 0])
        self.states = self.said = self.dense

    def _run(self) -> Array:
        states: list[Tensor] = []
        hook = self.model.base_model.register_forward_hook(lambda module, args, output: states.append(output[0]))
        try:
            task: Any = _WithStates(self.task, states)
            return logits_of(self.model, self.sample, task, **self.options)
        finally:
            hook.remove()

    def fit(self) -> None:
        """Learn the exits of a layer, of a model that drops at that layer all that it may."""
        states = self._run()[..., self.outputs :]
        self.states, self.said = states, np.full_like(self.dense, np.nan)
        for half in (0, 1):
            learnt, judged = self.real & (self.half != half)[:, None], self.real & (self.half == half)[:, None]
            x, y = states[learnt], self.dense[learnt]
            centre, offset = x.mean(0), y.mean(0)
            moments = (x - centre).T @ (x - centre)
            penalty = _RIDGE * np.trace(moments) / len(moments) * np.eye(len(moments), dtype=x.dtype)
            weights = np.linalg.solve(moments + penalty, (x - centre).T @ (y - offset))
            self.said[judged] = (states[judged] - centre) @ weights + offset

    def logits(self) -> Array:
        """Logits of a model that drops some at that layer, and none at any other: those dropped answer by the exits."""
        found = self._run()
        states = found[..., self.outputs :]
        size = np.nanmean(np.abs(self.states))
        with np.errstate(invalid="ignore"):
            dropped = np.abs(states - self.states).max(-1) < _SAME * size
        return np.where(dropped[..., None], self.said, found[..., : self.outputs])
