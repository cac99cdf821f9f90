"""Put soft extraction into a model for the time of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..elimination.extract import FirstToken, HardExtract
from ..elimination.soft_extract import Form, SoftExtract, SoftRetention
from ..errors import UnsupportedModelError
from ..retention import Retention
from .splice import eliminate_, eliminating_encoder, restore_

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["SOFT", "soften_"]

SOFT = "soft_retention"
"""Name of the retention parameters' module in the encoder."""


def soften_(
    model: PreTrainedModel, form: Form = "ramp", *, ranks: int = 1, template: Retention | None = None
) -> SoftRetention:
    """Splice soft extraction into a dense model, in place: the graph of :func:`eliminate_`, with soft modules in it.

    :func:`restore_` takes it out again. The last layer, which keeps the first token alone, has no parameters.

    Args:
        form, ranks: see :class:`SoftRetention`.
        template: a retention that says what is protected; None protects the first token alone.

    Returns:
        The retention parameters, which are the encoder's now.

    Raises:
        UnsupportedModelError: the model isn't supported, or its head reads more than the first token.
    """
    eliminate_(model, template or Retention.keep_all(model.config.num_hidden_layers))
    encoder = eliminating_encoder(model)
    hard = {name: module for name, module in encoder.named_children() if isinstance(module, HardExtract)}
    if not hard or not any(isinstance(module, FirstToken) for module in encoder.children()):
        restore_(model)
        raise UnsupportedModelError(
            f"{type(model).__name__} can't be searched by learning, which serves heads that read the first token of a "
            "model with two layers or more: use --method calibrated."
        )
    encoder.layout = "padded"
    first = encoder.retention.protected_first
    soft = SoftRetention(len(hard), form, ranks=ranks, protected_first=first).to(model.device, model.dtype)
    encoder.add_module(SOFT, soft)
    for name, module in hard.items():
        extract = SoftExtract(soft, module.layer, module.attention)
        encoder.add_module(name, extract.train(module.training))
    return soft
