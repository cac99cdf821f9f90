"""MPNet: attention of its own, with a learned bias for how far apart two word vectors stood."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .family import Family
from .written_out import attended

__all__ = ["FAMILY"]

_FARTHEST = 128


def _position(
    query: Tensor, key: Tensor, rows: Tensor, columns: Tensor, table: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Adds to each score what a table [buckets, heads] says of the distance."""
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    # The encoder's own, which takes 32 buckets whatever the config says; farther than this all are in the same.
    distances = torch.arange(-_FARTHEST, _FARTHEST + 1, device=table.device)
    by_distance = table[MPNetEncoder.relative_position_bucket(distances, num_buckets=32, max_distance=_FARTHEST)]
    apart = (columns[:, None, :] - rows[:, :, None]).clamp(-_FARTHEST, _FARTHEST)
    return query, key, torch.embedding(by_distance, apart + _FARTHEST).permute(0, 3, 1, 2)


def _attention(
    module: Any, record: Any, hidden_states: Any, attention_mask: Any, position_bias: Any, **kwargs: Any
) -> Any:
    parts = (linear(hidden_states) for linear in (module.q, module.k, module.v))
    options = {"dropout": module.dropout.p, "position": _position}
    context = attended(record, parts, module.attention_head_size, attention_mask, position_bias, **options)
    return (module.o(context),)


def _run(encoder: Any, hidden_states: Any, attention_mask: Any) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    table = encoder.relative_attention_bias.weight
    for layer in encoder.layer:
        hidden_states = layer(hidden_states, attention_mask, table)[0]
    return BaseModelOutput(last_hidden_state=hidden_states)


FAMILY = Family("mpnet", own_attention={"MPNetSelfAttention": _attention}, run=_run, positions_after_padding=True)
