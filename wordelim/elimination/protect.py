"""Which word vectors a retention never drops, found by their tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import torch
from torch import Tensor

from ..retention import Retention
from .mask import real_rows

__all__ = ["announce", "announced", "protected_rows"]

# A base model takes token ids and its encoder gets embeddings, so which rows are protected can't be an argument. Base
# and encoder run one behind the other in one thread.
_LATEST = threading.local()


def announce(to: object, retention: Retention, protected: Tensor | None) -> None:
    """Say what holds for the batch that is about to enter an encoder.

    Args:
        to: the encoder's entry.
        retention: how many word vectors each layer keeps of it.
        protected: which of its rows are never dropped, [batch, tokens] bool; None where no rule names tokens.
    """
    _LATEST.said = (to, retention, protected)


def announced(to: object) -> tuple[Retention, Tensor | None] | None:
    """What was last announced in this thread, once; None where that was for another entry than ``to``."""
    said = vars(_LATEST).pop("said", None)
    return said[1:] if said is not None and said[0] is to else None


def protected_rows(rules: Iterable[str], input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Find the word vectors that rules name.

    Args:
        rules: as in :class:`wordelim.Retention`.
        input_ids: [batch, tokens].
        attention_mask: as :func:`.mask.real_rows` reads it, or None when all are real.

    Returns:
        [batch, tokens] bool.
    """
    found = torch.zeros_like(input_ids, dtype=torch.bool)
    for rule in rules:
        name, _, value = rule.partition(":")
        if name == "first":
            found = found | (torch.arange(input_ids.shape[1], device=input_ids.device) < int(value or 1))
        elif name == "separators":
            found = found | (input_ids == int(value))
        elif name == "query":
            found = found | _first_segment(input_ids == int(value))
        else:
            sequences = [tuple(map(int, sequence.split("-"))) for sequence in value.split(",")]
            single = [ids[0] for ids in sequences if len(ids) == 1]
            found = found | torch.isin(input_ids, torch.tensor(single, device=input_ids.device, dtype=input_ids.dtype))
            for ids in sequences:
                found = found | _sequence(input_ids, ids) if len(ids) > 1 else found
    return found if attention_mask is None else found & real_rows(attention_mask)


def _first_segment(separators: Tensor) -> Tensor:
    """Everything up to the first separator and it, in examples that have another behind it."""
    before = separators.cumsum(1) - separators.long()
    return (before == 0) & (separators.sum(1, keepdim=True) > 1)


def _sequence(input_ids: Tensor, ids: tuple[int, ...]) -> Tensor:
    """Where a sequence of tokens stands."""
    found = torch.zeros_like(input_ids, dtype=torch.bool)
    positions = input_ids.shape[1] - len(ids) + 1
    if positions < 1:
        return found
    starts = torch.stack([input_ids[:, i : i + positions] == token for i, token in enumerate(ids)]).all(0)
    for i in range(len(ids)):
        found[:, i : i + positions] |= starts
    return found
