"""ModernBERT, NomicBERT and EuroBERT: attention turns queries and keys by the positions at which word vectors entered.

Their layers stand in the base model itself, which calls one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wordelim.errors import UnsupportedModelError

from .family import Family
from .written_out import attended, written_out

__all__ = ["FAMILIES"]


@dataclass(frozen=True)
class _Rotary:
    """Rotary positions (Su et al., 2021), and a window beyond which word vectors don't attend to each other.

    Args:
        theta: base of the wavelengths.
        window: greatest distance, both sides; None for any.
    """

    theta: float
    window: int | None = None

    def __call__(
        self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        bias = None
        if self.window is not None:
            far = (rows[:, None, :, None] - columns[:, None, None, :]).abs() > self.window
            bias = torch.zeros_like(far, dtype=query.dtype).masked_fill(far, float("-inf"))
        return self._turned(query, rows), self._turned(key, columns), bias

    def _turned(self, values: Tensor, positions: Tensor) -> Tensor:
        size = values.shape[-1]
        exponents = torch.arange(0, size, 2, dtype=torch.float, device=values.device) / size
        angles = positions[:, None, :, None].float() * (1.0 / self.theta**exponents)
        cos, sin = (turn.to(values.dtype).float() for turn in (angles.cos(), angles.sin()))
        first, second = values.float().chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(values.dtype)


def _rotary(parameters: dict[str, Any], window: int | None = None) -> _Rotary:
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise UnsupportedModelError(f"Rotary positions of the type {kind!r} are not supported: only 'default'.")
    return _Rotary(float(parameters["rope_theta"]), window)


def _one_for_all(module: Any) -> _Rotary:
    """NomicBERT's and EuroBERT's, the same in every layer."""
    return _rotary(module.config.rope_parameters)


def _modernbert(module: Any, record: Any, hidden_states: Any, attention_mask: Any, **kwargs: Any) -> Any:
    """One projection makes queries, keys and values; positions and window are those of the layer's kind."""
    kind = module.config.layer_types[module.layer_idx]
    window = module.config.sliding_window if kind == "sliding_attention" else None
    position = _rotary(module.config.rope_parameters[kind], window)
    parts = module.Wqkv(hidden_states).chunk(3, dim=-1)
    options = {"dropout": module.attention_dropout, "position": position}
    context = attended(record, parts, module.head_dim, attention_mask, **options)
    return module.out_drop(module.Wo(context)), None


def _run(layers: Any, hidden_states: Any, attention_mask: Any) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    for layer in layers:
        hidden_states = layer(hidden_states, attention_mask=attention_mask)
    return BaseModelOutput(last_hidden_state=hidden_states)


def _output(last_hidden_state: Any) -> Any:
    return last_hidden_state


def _family(model_type: str, own_attention: Mapping[str, Any], **options: Any) -> Family:
    in_base: dict[str, Any] = {"encoder": "layers", "run": _run, "output": _output, "counts_positions": True}
    return Family(model_type, own_attention=own_attention, **in_base, **options)


_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")

FAMILIES = (
    _family(
        "eurobert",
        written_out("EuroBertAttention", *_PROJECTIONS, position=_one_for_all),
        pooling={"classifier_pooling": {"bos": "first", "mean": "all", "late": "all"}},
        final_norm="norm",
    ),
    _family(
        "modernbert",
        {"ModernBertAttention": _modernbert},
        pooling={"classifier_pooling": {"cls": "first", "mean": "all"}},
        final_norm="final_norm",
    ),
    _family("nomic_bert", written_out("NomicBertAttention", *_PROJECTIONS, position=_one_for_all)),
)
