"""Prove on a user's own texts that a head reads what it is taken to read."""

from __future__ import annotations

import copy

import datasets
import numpy as np
from transformers import PreTrainedModel

from wordelim.adapters import family_of

from ..errors import UnsupportedModelError
from ..graph.proof import is_known
from ..graph.splice import eliminate_
from ..retention import Retention
from ..tasks import Task
from .inference import logits_of

__all__ = ["require_proven"]

_TEXTS = 64
_ROUNDING = 1e-3


def require_proven(model: PreTrainedModel, task: Task, encoded: datasets.Dataset) -> None:
    """Refuse a class of somebody's own, or a module of theirs, that reads more of these texts than its name says.

    :func:`.graph.splice.eliminate_` has it answer to random tokens; a head may look for words that don't stand there.

    Args:
        model: a dense model, which stays as it is.
        encoded: texts as it reads them; some are taken, the longest among them.

    Raises:
        UnsupportedModelError: with every word vector kept it answers otherwise than the dense model.
    """
    if is_known(model, getattr(model.base_model, family_of(model).encoder)):
        return
    longest = np.argsort(np.asarray(encoded["length"]), kind="stable")[::-1]
    chosen = np.unique(np.concatenate([longest[: _TEXTS // 4], np.linspace(0, len(encoded) - 1, _TEXTS, dtype=int)]))
    texts = encoded.select(chosen.tolist())
    dense = copy.deepcopy(model).float()
    answers = [logits_of(dense, texts, task)]
    layers = max(1, getattr(model.config, "num_hidden_layers", 0))
    answers.append(logits_of(eliminate_(dense, Retention.keep_all(layers)), texts, task))
    apart, spread = np.nanmax(np.abs(answers[1] - answers[0])), np.nanmax(answers[0]) - np.nanmin(answers[0])
    if not apart <= _ROUNDING * spread + 1e-5:
        raise UnsupportedModelError(
            f"{type(model).__name__} answers by up to {apart:.2g} otherwise than the dense model on these texts when "
            "every word vector is kept, so its head reads more than a head of this name is taken to read: register a "
            "wordelim.adapters.Family whose heads say that it reads 'all'."
        )
