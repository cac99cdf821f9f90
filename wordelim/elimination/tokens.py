"""Which rows of a padded batch are real word vectors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UnsupportedModelError

__all__ = ["Tokens", "enter", "gather"]


class Tokens(NamedTuple):
    """The word vectors of a batch that are still alive.

    Args:
        mask: [batch, tokens] bool, true on real rows; None when every row is real.
        lengths: real word vectors of each example when it entered the encoder.
        counts: word vectors of each example that are alive now. Known on the host, so no layer waits for the device.
    """

    mask: Tensor | None
    lengths: tuple[int, ...]
    counts: tuple[int, ...]


def enter(hidden_states: Tensor, attention_mask: Tensor | None) -> Tokens:
    """The word vectors that enter the encoder.

    Args:
        hidden_states: [batch, tokens, width].
        attention_mask: [batch, tokens], non-zero on real rows, or None when all are real.

    Raises:
        UnsupportedModelError: the mask isn't two-dimensional, or position 0 of an example is padding (left padding, or
            an example of padding alone), which a head that reads the first token can't use.
    """
    batch, width = hidden_states.shape[:2]
    if attention_mask is None:
        return Tokens(None, (width,) * batch, (width,) * batch)
    if attention_mask.dim() != 2:
        raise UnsupportedModelError(
            f"The attention mask has {attention_mask.dim()} dimensions: a compressed model takes [batch, tokens]."
        )
    mask = attention_mask.bool()
    lengths, first = torch.stack((mask.sum(1), mask[:, 0])).tolist()
    if not all(first):
        row = first.index(0)
        what = "is padding alone" if lengths[row] == 0 else "is padded on the left"
        raise UnsupportedModelError(
            f"Example {row} of the batch {what}, but the head reads position 0: pad on the right "
            "(tokenizer.padding_side = 'right') and leave out empty examples."
        )
    counts = tuple(lengths)
    return Tokens(None if min(counts) == width else mask, counts, counts)


def gather(values: Tensor, index: Tensor | None) -> Tensor:
    """Rows of ``values`` [batch, tokens, ...] at ``index`` [batch, kept]; all of them when ``index`` is None."""
    if index is None:
        return values
    batch, tokens = values.shape[:2]
    start = torch.arange(0, batch * tokens, tokens, device=index.device)
    rows = values.flatten(0, 1).index_select(0, (index + start[:, None]).flatten())
    return rows.view(*index.shape, *rows.shape[1:])
