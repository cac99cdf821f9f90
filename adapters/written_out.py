"""Attention that doesn't go through transformers' attention interface but is written out in a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["attended", "written_out"]


def written_out(
    attention: str,
    query: str = "query",
    key: str = "key",
    value: str = "value",
    out: str | None = None,
    *,
    position: Callable[..., Any] | None = None,
) -> Mapping[str, Callable[..., Any]]:
    """The ``own_attention`` of a family, where its module is plain attention: softmax of scaled scores and a mask.

    The head size is its ``head_dim`` or ``attention_head_size``, the dropout its ``attention_dropout`` (a number) or
    ``dropout`` (a module).

    Args:
        attention: name of the module's class, which is called with the hidden states and the mask first.
        query, key, value: its attributes that are the projections.
        out: that of the output projection, where the module has one.
        position: called with the module, gives what its scores owe to positions (see ``rotary.py``). Like every part of
            a family it is pickled with a compressed model: a function of a module, not a lambda.
    """
    return {attention: _WrittenOut((query, key, value), out, position)}


@dataclass(frozen=True)
class _WrittenOut:
    projections: tuple[str, str, str]
    out: str | None
    position: Callable[..., Any] | None

    def __call__(
        self, module: Any, record: Any, hidden_states: Any, attention_mask: Any, *args: Any, **kwargs: Any
    ) -> Any:
        parts = (getattr(module, name)(hidden_states) for name in self.projections)
        size = module.head_dim if hasattr(module, "head_dim") else module.attention_head_size
        dropout = module.attention_dropout if hasattr(module, "attention_dropout") else module.dropout.p
        position = None if self.position is None else self.position(module)
        context = attended(record, parts, size, attention_mask, dropout=dropout, position=position)
        return (context if self.out is None else getattr(module, self.out)(context)), None


def attended(record: Any, parts: Iterable[Any], size: int, mask: Any, *extras: Any, **options: Any) -> Any:
    """Record one layer's attention while its encoder is traced.

    Args:
        record: what stands for an attention module is given this.
        parts: queries, keys and values, [batch, tokens, heads * size] each.
        size: of a head.
        mask: as the module was given it.
        extras: tensors that ``position`` is given.
        options: ``dropout``, in training; ``scaling`` of the scores, size ** -0.5 unless it is given; ``position``.

    Returns:
        The context, [batch, tokens, heads * size].
    """
    heads = (part.unflatten(-1, (-1, size)).transpose(1, 2) for part in parts)
    return record(*heads, mask, *extras, **{"scaling": size**-0.5, **options}).flatten(2)
