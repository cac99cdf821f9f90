"""A layer of at most ten launches, none of which waits for another's result on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .joined import joined
from .level import Level

__all__ = ["Choice", "Encoder", "Layer", "run"]


class Layer(NamedTuple):
    """Modules of a layer as BERT's is, and how it attends.

    Args:
        projections: of query, key and value.
        output, norm: behind attention.
        inner, activation, outer, last_norm: the feed-forward network, and the normalisation behind it.
    """

    projections: tuple[nn.Linear, nn.Linear, nn.Linear]
    output: nn.Linear
    norm: nn.LayerNorm
    inner: nn.Linear
    activation: Callable[[Tensor], Tensor]
    outer: nn.Linear
    last_norm: nn.LayerNorm
    heads: int
    scaling: float


class Encoder(NamedTuple):
    """Linear modules before the first layer, and the layers."""

    before: tuple[nn.Linear, ...]
    layers: tuple[Layer, ...]


class Choice(NamedTuple):
    """What is never dropped, and what becomes of the rest.

    Args:
        fixed: how many of the first rows of each text stay.
        package: whether what is dropped goes on as one row.
        flags: rows that stay as well, [rows] int8, or None.
        maps: of value vectors, which decide who stays, [layers, width] fp32; None where received attention does.
    """

    fixed: int
    package: bool
    flags: Tensor | None
    maps: Tensor | None = None


def run(
    encoder: Encoder, rows: Tensor, levels: Sequence[Level], drops: Sequence[bool], choice: Choice, ops: Any
) -> Tensor:
    """Each text's first row behind the last layer, [texts, width].

    Args:
        rows: of all texts, one behind the other, [rows, width]; those beyond the last text's may hold anything.
        levels: where they lie in front of each layer and behind the last.
        drops: whether each layer but the last may drop some.
        ops: :mod:`.kernels`, or :mod:`.plain`.
    """
    for module in encoder.before:
        rows = linear(rows, module.weight, module.bias)
    for place, (layer, level, after) in enumerate(zip(encoder.layers[:-1], levels, levels[1:], strict=False)):
        query, key, value = _projected(layer, rows)
        index = packages = None
        if not drops[place]:
            context = _attend(layer, query, key, value, level, ops)
        elif choice.maps is None:
            context, received = ops.score(query, key, value, layer.heads, layer.scaling, level)
            index, shares, flags = ops.choose(received, level, after, choice.fixed, choice.package, choice.flags)
            context, packages = ops.take(context, rows, index, shares, level, after)
            choice = choice._replace(flags=flags)
        else:
            weights = ops.weigh(value, choice.maps[place], level)
            index, shares, flags = ops.choose(weights, level, after, choice.fixed, choice.package, choice.flags)
            own = (query, key, value, layer.heads, layer.scaling)
            context, packages = ops.attend_kept(*own, rows, index, shares, level, after)
            choice = choice._replace(flags=flags)
        rows = _rest(layer, context, rows, index, packages, after, ops)
    layer, level, after = encoder.layers[-1], levels[-2], levels[-1]
    first, _ = ops.take(rows, rows, level.ends, None, level, after)
    query, key, value = _projected(layer, rows, first)
    context = ops.attend(query, key, value, layer.heads, layer.scaling, after, level)
    return _rest(layer, context, first, None, None, after, ops)


def _projected(layer: Layer, rows: Tensor, asking: Tensor | None = None) -> Sequence[Tensor]:
    """Query, key and value, in one product; in two where few rows are ``asking``."""
    weights, biases = ([getattr(each, name) for each in layer.projections] for name in ("weight", "bias"))
    weight, unbiased = joined(weights), all(bias is None for bias in biases)
    bias = None if unbiased or any(bias is None for bias in biases) else joined(biases)
    if weight is None or (bias is None and not unbiased):
        asks = (rows if asking is None else asking, rows, rows)
        return [linear(of, *both) for of, *both in zip(asks, weights, biases, strict=True)]
    if asking is None:
        return linear(rows, weight, bias).chunk(3, 1)
    size = len(weights[0])
    rest = None if bias is None else bias[size:]
    return linear(asking, weights[0], biases[0]), *linear(rows, weight[size:], rest).chunk(2, 1)


def _attend(layer: Layer, query: Tensor, key: Tensor, value: Tensor, level: Level, ops: Any) -> Tensor:
    """Attention that drops nothing: PyTorch's own for texts of any lengths, where it serves."""
    size, varlen = query.shape[1] // layer.heads, _varlen(query.device)
    if query.dtype == torch.float32 or size % 8 or varlen is None:
        return ops.attend(query, key, value, layer.heads, layer.scaling, level, level)  # type: ignore[no-any-return]
    query, key, value = (part.unflatten(1, (layer.heads, size)) for part in (query, key, value))
    ends, longest = level.ends, level.longest
    return varlen(query, key, value, ends, ends, longest, longest, scale=layer.scaling).flatten(1)  # type: ignore[no-any-return]


def _rest(
    layer: Layer,
    context: Tensor,
    stream: Tensor,
    index: Tensor | None,
    packages: Tensor | None,
    after: Level,
    ops: Any,
) -> Tensor:
    """What stands behind attention."""
    output, inner, outer = layer.output, layer.inner, layer.outer
    hidden = linear(context, output.weight, output.bias)
    stream = ops.add_norm(hidden, stream, index, packages, _norm(layer.norm), after)
    hidden = layer.activation(linear(stream, inner.weight, inner.bias))
    return ops.add_norm(  # type: ignore[no-any-return]
        linear(hidden, outer.weight, outer.bias), stream, None, None, _norm(layer.last_norm), after
    )


def _norm(module: nn.LayerNorm) -> tuple[Tensor, Tensor, float]:
    return module.weight, module.bias, module.eps


@cache
def _varlen(device: torch.device) -> Callable[..., Any] | None:
    """PyTorch's attention for texts of any lengths; None where it doesn't run in 16 bits, or knows no scaling."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn if "scale" in signature(varlen_attn).parameters else None  # older ones have none
