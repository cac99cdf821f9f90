"""DeBERTa v2 and v3: attention of its own, from content to position and from position to content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wordelim.errors import UnsupportedModelError

from .family import Family
from .written_out import attended

__all__ = ["FAMILY"]


@dataclass(frozen=True)
class _Disentangled:
    """The scores of relative positions (He et al., 2021, section 3.1), scaled.

    Args:
        kinds: of "c2p" and "p2c", what the model has.
        span: half the number of relative positions.
        buckets, farthest: how far relative positions are told apart.
        scaling: factor of every score.
    """

    kinds: tuple[str, ...]
    span: int
    buckets: int
    farthest: int
    scaling: float

    def __call__(
        self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor, *tables: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``tables`` are the projected embeddings of the distances, [2 * span, width], one for each kind."""
        score = torch.zeros((), dtype=query.dtype, device=query.device)
        apart = self._bucket(rows[:, :, None] - columns[:, None, :])
        index = (apart + self.span).clamp(0, 2 * self.span - 1)
        heads, size = query.shape[1], query.shape[3]
        for kind, projected in zip(self.kinds, tables, strict=True):
            table = projected.view(-1, heads, size).permute(1, 2, 0)
            if kind == "c2p":
                score = score + _gathered(query @ table, index)
            else:
                score = score + _gathered(key @ table, index.transpose(-1, -2)).transpose(-1, -2)
        return query, key, score * self.scaling

    def _bucket(self, apart: Tensor) -> Tensor:
        from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

        if self.buckets > 0 and self.farthest > 0:
            return make_log_bucket_position(apart, self.buckets, self.farthest).long()  # type: ignore[no-any-return]
        return apart


def _gathered(scores: Tensor, index: Tensor) -> Tensor:
    """Of [batch, heads, rows, positions] those that an index [batch, rows, others] says."""
    return scores.gather(-1, index[:, None].expand(-1, scores.shape[1], -1, -1))


def _attention(
    module: Any,
    record: Any,
    hidden_states: Any,
    attention_mask: Any,
    output_attentions: bool = False,
    rel_embeddings: Any = None,
    **kwargs: Any,
) -> Any:
    parts = (linear(hidden_states) for linear in (module.query_proj, module.key_proj, module.value_proj))
    size = module.query_proj.out_features // module.num_attention_heads
    kinds = tuple(kind for kind in ("c2p", "p2c") if kind in module.pos_att_type)
    options: dict[str, Any] = {
        "scaling": (size * (1 + len(kinds))) ** -0.5,
        "dropout": module.dropout.p,
    }
    extras: list[Any] = []
    if module.relative_attention:
        span = module.pos_ebd_size
        embeddings = module.pos_dropout(rel_embeddings)[: 2 * span]
        shared = {"c2p": "key_proj", "p2c": "query_proj"}
        own = {"c2p": "pos_key_proj", "p2c": "pos_query_proj"}
        for kind in kinds:
            extras.append(getattr(module, (shared if module.share_att_key else own)[kind])(embeddings))
        options["position"] = _Disentangled(
            kinds, span, module.position_buckets, module.max_relative_positions, options["scaling"]
        )
    return attended(record, parts, size, attention_mask, *extras, **options), None


def _run(encoder: Any, hidden_states: Any, attention_mask: Any) -> Any:
    if encoder.conv is not None:
        raise UnsupportedModelError(
            "This DeBERTa has a convolution over neighbouring tokens (conv_kernel_size in its config), which needs all "
            "of them: it is not supported."
        )
    rel_embeddings = encoder.get_rel_embedding()
    for layer in encoder.layer:
        hidden_states = layer(hidden_states, attention_mask, rel_embeddings=rel_embeddings)[0]
    return _output(hidden_states)


def _output(last_hidden_state: Any) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    # The base model takes the last of the hidden states.
    return BaseModelOutput(last_hidden_state=last_hidden_state, hidden_states=(last_hidden_state,))


FAMILY = Family("deberta-v2", own_attention={"DisentangledSelfAttention": _attention}, run=_run, output=_output)
