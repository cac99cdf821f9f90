"""Where things are in the layers of BERT's and MPNet's encoders, on which rivals are built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["Attention", "LayerStates", "attention_of", "layers_of"]


class Attention(NamedTuple):
    """The attention of a layer.

    Args:
        own: the module that has the linear maps to query, key and value.
        names: of these three in it.
        place: the module that has the linear map of the context.
        out: its name there.
        norm: the module that adds what enters the layer to the mapped context, and normalises.
    """

    own: Any
    names: tuple[str, str, str]
    place: Any
    out: str
    norm: Any

    @property
    def size(self) -> int:
        """Numbers of a head."""
        return int(self.own.attention_head_size)

    @property
    def heads(self) -> int:
        return int(self.own.num_attention_heads)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Query, key and value of [..., width], each [..., heads * size]."""
        return [getattr(self.own, name)(x) for name in self.names]

    def project(self, context: Tensor, entered: Tensor) -> Tensor:
        """What leaves the attention, both [..., width]."""
        if self.place is self.norm:  # BERT's does both
            return self.norm(context, entered)  # type: ignore[no-any-return]
        return self.norm.LayerNorm(self.norm.dropout(getattr(self.place, self.out)(context)) + entered)  # type: ignore


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a model's encoder.

    Raises:
        SystemExit: it is neither a BERT nor an MPNet.
    """
    if model.config.model_type not in ("bert", "mpnet"):
        raise SystemExit(f"The model is a {model.config.model_type}: the rivals are written for bert and mpnet.")
    return model.base_model.encoder.layer  # type: ignore[no-any-return]


def attention_of(layer: Any) -> Attention:
    """The attention of a layer of either."""
    attention = layer.attention
    if hasattr(attention, "attn"):
        return Attention(attention.attn, ("q", "k", "v"), attention.attn, "o", attention)
    return Attention(attention.self, ("query", "key", "value"), attention.output, "dense", attention.output)


class LayerStates:
    """Remembers what leaves some layers of a model, [batch, tokens, width] each, in each forward pass."""

    def __init__(self, model: PreTrainedModel, layers: Sequence[int]) -> None:
        self.values: list[Tensor] = [torch.empty(0) for _ in layers]
        self.hooks = [
            layers_of(model)[layer].register_forward_hook(
                lambda module, args, output, place=place: self._remember(place, output)
            )
            for place, layer in enumerate(layers)
        ]

    def _remember(self, place: int, output: Any) -> None:
        self.values[place] = output if isinstance(output, Tensor) else output[0]

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()
