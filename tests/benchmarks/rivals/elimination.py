"""Elimination itself, and the same counts with chance or the place in the text deciding (glue.py's rules).

Strength: the FLOPs ratio that is asked of :func:`wordelim.compress_model`, with its own defaults. ``random`` and
``first`` keep as many word vectors as elimination does there, so that one has to be run before.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from glue import SELECTORS, decide_
from transformers import PreTrainedModel

import wordelim
from wordelim import Retention, eliminate_
from wordelim.elimination.significance import to_text

from .rival import Given, Rival, Shape

__all__ = ["Elimination"]


class Elimination(Rival):
    """Word vectors that matter least are dropped, layer by layer.

    Args:
        rule: of glue.py, by which those stay that do; None for the project's own.
    """

    def __init__(self, rule: str | None = None) -> None:
        self.rule = rule

    def train(self, given: Given, strength: float) -> tuple[PreTrainedModel, Shape]:
        model = self._deciding(copy.deepcopy(given.dense).requires_grad_(True))
        asked: dict[str, Any] = {"target_speedup": strength}
        if self.rule is not None:
            asked = {"keep": given.keep_of(strength), "significance": "attention"}
        found = wordelim.compress_model(
            model,
            given.task.tokenizer,
            train=given.sets["train"],
            validation=given.sets["validation"],
            epochs=given.how.epochs,
            learning_rate=given.how.learning_rate,
            batch_size=given.how.batch_size,
            seed=given.how.seed,
            max_drop=100.0,
            measure_speed=False,  # which is done for all alike
            **asked,
            **given.settings,
        )
        return found.model, found.retention.told()

    def build(self, dense: PreTrainedModel, shape: Shape) -> PreTrainedModel:
        shape = dict(shape)
        if shape.get("significance") == "linear":  # what these are is in no report; others take as long
            shape["significance"] = [to_text(torch.randn(dense.config.hidden_size)) for _ in shape["keep"]]
        return eliminate_(self._deciding(copy.deepcopy(dense)), Retention.from_dict(shape))

    def _deciding(self, model: PreTrainedModel) -> PreTrainedModel:
        if self.rule is not None:
            decide_(model, SELECTORS[self.rule])
        return model
