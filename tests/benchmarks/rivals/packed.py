"""An encoder of BERT's or MPNet's layers whose texts lose rows on the way, as many as each pleases.

Rows of all texts lie one behind the other, so that linear modules compute real ones alone; only attention pads texts to
the longest that is left. Its last layer is cut to the first token, as the project's own is, and loses nothing by that.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from .layers import Attention, attention_of, layers_of

__all__ = ["PackedEncoder", "Rows"]


class Rows(NamedTuple):
    """Which rows are left of the texts of a batch.

    Args:
        real: [batch, rows] bool, padded to the longest text.
        index: [all real rows], where they are among the padded.
        places: [batch, rows], where each stood in its text; None while all are there.
    """

    real: Tensor
    index: Tensor
    places: Tensor | None = None

    @classmethod
    def of(cls, real: Tensor, places: Tensor | None = None) -> Rows:
        return cls(real, real.flatten().nonzero()[:, 0], places)

    def pad(self, packed: Tensor) -> Tensor:
        """[all real rows, width] as [batch, rows, width], zero where there is no row."""
        shape = (*self.real.shape, packed.shape[-1])
        if len(packed) == self.real.numel():
            return packed.view(shape)
        return packed.new_zeros(shape[0] * shape[1], shape[2]).index_copy(0, self.index, packed).view(shape)

    def pack(self, padded: Tensor) -> Tensor:
        """The other way round."""
        flat = padded.flatten(0, 1)
        return flat if len(self.index) == len(flat) else flat.index_select(0, self.index)

    def choose(self, chosen: Tensor) -> tuple[Rows, Tensor]:
        """Those rows alone of which a text has chosen some, [batch, rows] bool, in their order.

        Returns:
            The rows, and which of the old ones each is, [batch, fewer rows].
        """
        chosen = chosen & self.real
        width = int(chosen.sum(1).max())
        order = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        places = order if self.places is None else self.places.gather(1, order)
        return Rows.of(chosen.gather(1, order), places), order


class PackedEncoder(nn.Module):
    """Stands in the place of an encoder, with its layers."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        encoder = model.base_model.encoder
        self.layer = layers_of(model)
        if hasattr(encoder, "relative_attention_bias"):
            self.relative_attention_bias = encoder.relative_attention_bias
            self.bucket = encoder.relative_position_bucket

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        batch, width = hidden_states.shape[:2]
        real = torch.ones(batch, width, dtype=torch.bool, device=hidden_states.device)
        if attention_mask is not None:
            row = attention_mask[:, 0, 0]
            real = row if row.dtype == torch.bool else row > -1
        rows = Rows.of(real)
        bias, state = self._bias(width, real.device), self.begin(real)
        x = rows.pack(hidden_states)
        for index, layer in enumerate(self.layer):
            attention = attention_of(layer)
            query, key, value = (self._heads(part, rows, attention) for part in attention.maps(x))
            last = index == len(self.layer) - 1
            scores = (query[:, :, :1] if last else query) @ key.transpose(-1, -2) * attention.size**-0.5
            if bias is not None:
                scores = scores + (bias(rows)[:, :, :1] if last else bias(rows))
            prior = self.prior(state)
            if prior is not None:
                scores = scores + prior[:, None, None]
            p = scores.masked_fill(~rows.real[:, None, None], float("-inf")).softmax(-1, dtype=torch.float32)
            if last:
                x = rows.pad(x)[:, 0]
                x = attention.project((p.to(value.dtype) @ value).transpose(1, 2).flatten(2)[:, 0], x)
            else:
                x, rows, state = self.lessen(index, attention, x, rows, p, key, value, state)
            x = layer.output(layer.intermediate(x), x)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=x[:, None])

    def begin(self, real: Tensor) -> Any:
        """What is known of rows [batch, rows] besides, when they enter."""
        return None

    def prior(self, state: Any) -> Tensor | None:
        """What is added to the scores of rows as keys, [batch, rows]."""
        return None

    @abstractmethod
    def lessen(
        self,
        index: int,
        attention: Attention,
        x: Tensor,
        rows: Rows,
        p: Tensor,
        key: Tensor,
        value: Tensor,
        state: Any,
    ) -> tuple[Tensor, Rows, Any]:
        """From what enters a layer to what leaves its attention.

        Args:
            x: [all real rows, width].
            p: attention probabilities, [batch, heads, rows, rows].
            key, value: [batch, heads, rows, size].

        Returns:
            As ``x``, ``rows`` and ``state``, of the rows that are left.
        """

    @staticmethod
    def context(p: Tensor, value: Tensor) -> Tensor:
        """[batch, rows, heads * size]."""
        return (p.to(value.dtype) @ value).transpose(1, 2).flatten(2)

    @staticmethod
    def _heads(packed: Tensor, rows: Rows, attention: Attention) -> Tensor:
        return rows.pad(packed).unflatten(2, (-1, attention.size)).transpose(1, 2)

    def _bias(self, width: int, device: torch.device) -> Any:
        """From rows to what MPNet adds to their scores, [batch, heads, rows, rows]; None for BERT."""
        if not hasattr(self, "relative_attention_bias"):
            return None
        place = torch.arange(width, device=device)
        table = self.relative_attention_bias(self.bucket(place[None] - place[:, None], num_buckets=32)).permute(2, 0, 1)

        def of(rows: Rows) -> Tensor:
            if rows.places is None:
                return table[None]
            return table[:, rows.places[:, :, None], rows.places[:, None]].transpose(0, 1)

        return of
