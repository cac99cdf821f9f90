"""Call a compressed model on texts that lie one behind the other, as engines that don't pad hand them over."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wordelim.adapters import family_of

from ..elimination.laid import laid
from ..errors import UnsupportedModelError
from .splice import eliminating_encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["call_laid"]


def call_laid(
    model: PreTrainedModel, input_ids: Tensor, lengths: Sequence[int], token_type_ids: Tensor | None = None
) -> Any:
    """A compressed model's output for texts without padding, as ``model(**batch)`` gives it for a padded batch.

    The texts enter the encoder as they lie; a head that needs the mask of a batch, as the mean of ModernBERT's
    classifiers does, gets them padded.

    Args:
        input_ids: [tokens], of all texts.
        lengths: tokens of each text, at least 1 each.
        token_type_ids: [tokens]; None where all are of the first kind.

    Returns:
        What the model returns: ``logits`` [texts, outputs], or ``last_hidden_state`` [texts, longest, width], in the
        texts' order.

    Raises:
        UnsupportedModelError: the model isn't compressed, or the lengths aren't those of the tokens.
    """
    encoder = eliminating_encoder(model)
    if not lengths or min(lengths) < 1 or sum(lengths) != len(input_ids):
        raise UnsupportedModelError(
            f"{len(input_ids)} tokens can't be {len(lengths)} texts of {sum(lengths)} tokens in all: give each text's "
            "own length, at least 1."
        )
    takes = inspect.signature(model.forward).parameters
    if token_type_ids is None or "token_type_ids" not in takes:
        token_type_ids = torch.zeros_like(input_ids) if "token_type_ids" in takes else None
    inputs = {"input_ids": input_ids, "token_type_ids": token_type_ids}
    given = {name: values for name, values in inputs.items() if values is not None}
    if encoder.retention.restore and type(model).__name__.endswith("ForSequenceClassification"):
        padded = {name: pad_sequence(values.split(list(lengths)), batch_first=True) for name, values in given.items()}
        real = [torch.ones(length, dtype=torch.long, device=input_ids.device) for length in lengths]
        return model(**padded, attention_mask=pad_sequence(real, batch_first=True))
    family = family_of(model)
    if not family.counts_positions and "position_ids" in takes:
        start = int(model.config.pad_token_id) + 1 if family.positions_after_padding else 0
        positions = [torch.arange(start, start + length, device=input_ids.device) for length in lengths]
        given["position_ids"] = torch.cat(positions)
    with laid(lengths):
        return model(**{name: values[None] for name, values in given.items()})
