"""Which rows of a batch an attention mask says are real."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UnsupportedModelError

__all__ = ["lengths_of", "real_rows"]

# Added to a score, it leaves no attention in any dtype.
_NOTHING_LEFT = -1000.0
_BIASED = (
    "The attention mask adds something else than 0 and the lowest number to scores: give a mask of ones and zeros."
)


def real_rows(attention_mask: Tensor) -> Tensor:
    """Read a padding mask.

    Args:
        attention_mask: [batch, tokens], non-zero on real rows; or [batch, 1, 1, tokens] of floats that are added to the
            scores, as some base models make it of the former: 0 on real rows, very low on padding.

    Returns:
        [batch, tokens] bool.

    Raises:
        UnsupportedModelError: it is another mask than one of padding.
    """
    if attention_mask.dim() == 2:
        return attention_mask.bool()
    if attention_mask.shape[1:-1] != (1, 1) or not attention_mask.is_floating_point():
        raise UnsupportedModelError(
            f"The attention mask has {attention_mask.dim()} dimensions: a compressed model takes [batch, tokens]."
        )
    added = attention_mask[:, 0, 0]
    real = added == 0
    sound = (real | (added < _NOTHING_LEFT)).all()
    if torch.compiler.is_compiling():
        torch._assert_async(sound, _BIASED)
    elif not sound:
        raise UnsupportedModelError(_BIASED)
    return real


def lengths_of(mask: Tensor) -> tuple[int, ...]:
    """Real tokens of each text of a mask [batch, tokens] bool; UnsupportedModelError where position 0 isn't one."""
    lengths, first = torch.stack((mask.sum(1), mask[:, 0])).tolist()
    if not all(first):
        row = first.index(0)
        what = "is padding alone" if lengths[row] == 0 else "is padded on the left"
        raise UnsupportedModelError(
            f"Example {row} of the batch {what}, but position 0 is always kept: pad on the right "
            "(tokenizer.padding_side = 'right') and leave out empty examples."
        )
    return tuple(lengths)
