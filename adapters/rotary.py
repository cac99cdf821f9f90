"""ModernBERT, NomicBERT and EuroBERT: attention turns queries and keys by the positions at which word vectors entered.

Their layers stand in the base model itself, which calls one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .family import Family

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
        angles = torch.cat((angles, angles), -1)
        cos, sin = angles.cos().to(values.dtype), angles.sin().to(values.dtype)
        first, second = values.float().chunk(2, dim=-1)
        return (values.float() * cos + torch.cat((-second, first), -1) * sin).to(values.dtype)


def _rotary(parameters: dict[str, Any], window: int | None = None) -> _Rotary:
    from wordelim.errors import UnsupportedModelError

    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise UnsupportedModelError(f"Rotary positions of the type {kind!r} are not supported: only 'default'.")
    return _Rotary(float(parameters["rope_theta"]), window)


def _separate_projections(module: Any, record: Any, hidden_states: Any, attention_mask: Any, **kwargs: Any) -> Any:
    """NomicBERT and EuroBERT."""
    shape = (*hidden_states.shape[:-1], -1, module.head_dim)
    linears = (module.q_proj, module.k_proj, module.v_proj)
    parts = (linear(hidden_states).view(shape).transpose(1, 2) for linear in linears)
    position = _rotary(module.config.rope_parameters)
    context = record(
        *parts, attention_mask, scaling=module.scaling, dropout=module.attention_dropout, position=position
    )
    return module.o_proj(context.reshape(*hidden_states.shape[:-1], -1)), None


def _one_projection(module: Any, record: Any, hidden_states: Any, attention_mask: Any, **kwargs: Any) -> Any:
    """ModernBERT."""
    kind = module.config.layer_types[module.layer_idx]
    shape = (*hidden_states.shape[:-1], -1, module.head_dim)
    parts = (part.view(shape).transpose(1, 2) for part in module.Wqkv(hidden_states).chunk(3, dim=-1))
    window = module.config.sliding_window if kind == "sliding_attention" else None
    position = _rotary(module.config.rope_parameters[kind], window)
    context = record(
        *parts, attention_mask, scaling=module.head_dim**-0.5, dropout=module.attention_dropout, position=position
    )
    return module.out_drop(module.Wo(context.reshape(*hidden_states.shape[:-1], -1))), None


def _run(layers: Any, hidden_states: Any, attention_mask: Any) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    for layer in layers:
        hidden_states = layer(hidden_states, attention_mask=attention_mask)
    return BaseModelOutput(last_hidden_state=hidden_states)


def _output(last_hidden_state: Any) -> Any:
    return last_hidden_state


def _family(model_type: str, attention: str, stands_for: Any, **options: Any) -> Family:
    own = {attention: stands_for}
    return Family(model_type, "layers", own_attention=own, run=_run, output=_output, counts_positions=True, **options)


FAMILIES = (
    _family(
        "eurobert",
        "EuroBertAttention",
        _separate_projections,
        pooling={"classifier_pooling": {"bos": "first", "mean": "all", "late": "all"}},
        normalises_after=True,
    ),
    _family(
        "modernbert",
        "ModernBertAttention",
        _one_projection,
        pooling={"classifier_pooling": {"cls": "first", "mean": "all"}},
        normalises_after=True,
    ),
    _family("nomic_bert", "NomicBertAttention", _separate_projections),
)
