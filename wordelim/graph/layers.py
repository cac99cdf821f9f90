"""Recognise the layers of a rewritten encoder, where it is nothing but layers as BERT's are."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import gelu, relu

from ..elimination.attention import Attention, split_heads
from ..elimination.extract import FirstToken, HardExtract
from ..elimination.linear import linear
from ..elimination.rows import first_rows, gather, leave
from .linear import linear_of
from .tokenwise import SHAPE_METHODS

__all__ = ["LayerPaths", "Stack", "stack_of"]

_ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (gelu, partial(gelu, approximate="tanh"), relu)


class LayerPaths(NamedTuple):
    """Where a layer's modules are in its encoder, and what it does with them.

    Args:
        modules: of attention the linear modules for query, key, value and output, and the normalisation behind it; then
            the inner and the outer linear module, and the normalisation behind these.
        activation: between the inner and the outer, as one operation of torch's own.
        attention: how it attends.
        heads, size: how many heads, and how wide each is.
    """

    modules: tuple[str, ...]
    activation: Callable[[Tensor], Tensor]
    attention: Attention
    heads: int
    size: int


class Stack(NamedTuple):
    """An encoder whose last layer is cut to the first token.

    Args:
        before: linear modules between what enters and the first layer.
        layers: in order of depth.
        moded: modules that do something else in training.
    """

    before: tuple[str, ...]
    layers: tuple[LayerPaths, ...]
    moded: tuple[str, ...]


class _OtherError(Exception):
    """The graph isn't such a stack."""


def stack_of(module: fx.GraphModule) -> Stack | None:
    """What the graph of a rewritten encoder consists of; None where it is anything else than such layers.

    Each layer: query, key and value of the stream; attention; a linear module; dropout; addition to the stream and
    layer normalisation; two linear modules and an activation between them; dropout, addition and normalisation again.
    """
    try:
        return _Reader(module).read()
    except _OtherError:
        return None


class _Reader:
    """Follows the stream through a graph."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.moded: list[str] = []

    def read(self) -> Stack:
        nodes = list(self.module.graph.nodes)
        entered = next(node for node in nodes if node.op == "call_module" and node.target == "enter")
        stream = next(user for user in entered.users if user.args[1] == 0)
        before = []
        while (following := self._linear_alone(stream)) is not None:
            before.append(self._path(following))
            stream = following
        found, extract = [], None
        for node in nodes:
            extracts = self._submodule(node) if node.op == "call_module" else None
            if isinstance(extracts, (HardExtract, FirstToken)):
                extract = extracts
                layer, stream = self._layer(stream, node, extract)
                found.append(layer)
                self.moded.append(str(node.target))
        exits = [user for user in stream.users if user.target is leave]
        if len(exits) != 1 or not isinstance(extract, FirstToken):
            raise _OtherError
        return Stack(tuple(before), tuple(found), tuple(dict.fromkeys(self.moded)))

    def _layer(self, stream: fx.Node, node: fx.Node, extract: Any) -> tuple[LayerPaths, fx.Node]:
        if extract.attention.position is not None or len(node.args) != 4:
            raise _OtherError
        query, key, value = (self._projection(arg) for arg in node.args[:3])
        entered = query.args[1]
        if isinstance(extract, FirstToken) and isinstance(entered, fx.Node) and entered.target is first_rows:
            entered = entered.args[0]
        if not entered is key.args[1] is value.args[1] is stream:
            raise _OtherError
        context, index = node.meta["context"], node.meta["index"]
        output = self._only_user(context, linear)
        residual = next((user for user in stream.users if user.target is gather and user.args[1] is index), None)
        after, norm = self._add_norm(output, residual)
        inner = next((user for user in after.users if user.target is linear), None)
        activated = None if inner is None else next(iter(inner.users))
        if inner is None or activated is None or len(inner.users) != 1:
            raise _OtherError
        activation = self._activation(activated)
        outer = self._only_user(activated, linear)
        last, last_norm = self._add_norm(outer, after)
        _, heads, _, size = node.args[1].meta["val"].shape  # type: ignore[union-attr]
        modules = (*map(self._path, (query, key, value, output)), norm, *map(self._path, (inner, outer)), last_norm)
        return LayerPaths(modules, activation, extract.attention, heads, size), last

    def _linear_alone(self, stream: fx.Node) -> fx.Node | None:
        users = [user for user in stream.users if user.target is not getattr]
        return users[0] if len(users) == 1 and users[0].target is linear else None

    def _projection(self, node: Any) -> fx.Node:
        while (node.op == "call_method" and node.target in SHAPE_METHODS) or node.target is split_heads:
            node = node.args[0]
        if node.target is not linear:
            raise _OtherError
        return node  # type: ignore[no-any-return]

    def _only_user(self, node: fx.Node, target: Any) -> fx.Node:
        users = list(node.users)
        if len(users) != 1 or users[0].target is not target:
            raise _OtherError
        return users[0]

    def _path(self, node: fx.Node) -> str:
        if linear_of(self.module, node) is None or type(linear_of(self.module, node)) is not nn.Linear:
            raise _OtherError
        return str(node.args[0].target)  # type: ignore[union-attr]

    def _add_norm(self, node: fx.Node, residual: fx.Node | None) -> tuple[fx.Node, str]:
        """Behind a linear module dropout perhaps, the addition of the stream, and normalisation."""
        (user, *more) = node.users
        while not more and user.op == "call_module" and isinstance(self._submodule(user), (nn.Dropout, nn.Identity)):
            self.moded.append(str(user.target))
            node, (user, *more) = user, user.users
        added = user.target in (operator.add, torch.add) and not user.kwargs and set(user.args) == {node, residual}
        if more or residual is None or not added or len(user.users) != 1:
            raise _OtherError
        (normed,) = user.users
        norm = self._submodule(normed) if normed.op == "call_module" else None
        if type(norm) is not nn.LayerNorm or norm.weight is None or norm.bias is None:
            raise _OtherError
        return normed, str(normed.target)

    def _activation(self, node: fx.Node) -> Callable[[Tensor], Tensor]:
        """The operation of torch's that gives the same."""
        given: Any = self._submodule(node) if node.op == "call_module" else node.target
        values = torch.linspace(-6, 6, 193)
        if node.op not in ("call_module", "call_function") or len(node.args) != 1 or node.kwargs:
            raise _OtherError
        try:
            said = given(values)
        except Exception as error:  # a module of somebody's own may raise anything
            raise _OtherError from error
        for known in _ACTIVATIONS:
            if torch.allclose(known(values), said, rtol=1e-5, atol=1e-6):
                return known
        raise _OtherError

    def _submodule(self, node: fx.Node) -> nn.Module:
        return self.module.get_submodule(str(node.target))
