"""Traced graphs, kept for encoders of the same structure: tracing is most of what splicing and loading a model cost."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from transformers import PreTrainedConfig

__all__ = ["Traced", "remembered"]

Traced: TypeAlias = tuple[fx.Graph, Callable[..., Any]]
"""A graph, and the class of the encoder's output."""

_KEPT = 32
_PLAIN = (
    *(NoneType, bool, int, float, str, type, FunctionType, BuiltinFunctionType),
    *(torch.dtype, torch.device, torch.Size),
)
# What every module has. All but its tensors and hooks, which are looked at apart, says nothing of what it computes.
_TORCHS = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
# Of a config, what no encoder reads: where it comes from, what a head says, what is dropped.
_NOT_ENCODERS = {
    *("_name_or_path", "architectures", "transformers_version", "quantization_config"),
    *("id2label", "label2id", "problem_type"),
}
_known: OrderedDict[Hashable, Traced] = OrderedDict()
_lock = threading.Lock()


class _UnknownError(Exception):
    """Something may decide what is traced, and can't be compared."""


def remembered(encoder: nn.Module, *more: Any, trace: Callable[[], Traced]) -> Traced:
    """What ``trace()`` gives, or a copy of what it gave for an encoder of this structure.

    The same structure is: modules of the same classes by the same names, whose attributes and config are equal, with
    tensors of the same shape, dtype and device, and no hooks; and the functions in these classes are still the same.
    Where anything can't be compared, it is traced anew.

    Args:
        more: what else decides the graph.
    """
    try:
        key = (*_structure(encoder), *more)
        with _lock:
            found = _known.get(key)
    except (_UnknownError, TypeError):  # a callable of the user's own may have no hash
        return trace()
    if found is None:
        found = trace()
        with _lock:
            _known[key] = found
            if len(_known) > _KEPT:
                _known.popitem(last=False)
    graph, output = found
    return _copied(graph), output


def _structure(encoder: nn.Module) -> Iterator[Hashable]:
    configs: dict[int, Hashable] = {}
    for name, module in encoder.named_modules(remove_duplicate=False):
        own = vars(module)
        if any(own[hooks] for hooks in _HOOKS):
            raise _UnknownError
        yield name, type(module), _functions(type(module))
        for attribute, value in own.items():
            if isinstance(value, PreTrainedConfig):
                if id(value) not in configs:
                    fields = {of: what for of, what in vars(value).items() if of not in _NOT_ENCODERS}
                    configs[id(value)] = type(value), _compared(fields)
                yield attribute, configs[id(value)]
            elif attribute not in _TORCHS:
                yield attribute, _compared(value)
        for tensors in (own["_parameters"], own["_buffers"]):
            yield tuple(
                (of, None if values is None else (type(values), values.shape, values.dtype, values.device))
                for of, values in tensors.items()
            )


def _functions(of: type[nn.Module]) -> Hashable:
    """What is called of a class of modules: it may be replaced there."""
    classes = (each for each in of.__mro__ if each not in nn.Module.__mro__)
    return tuple(value for each in classes for value in vars(each).values() if isinstance(value, FunctionType))


def _compared(value: Any) -> Hashable:
    """What is equal where values are alike: 1 and True aren't."""
    if isinstance(value, _PLAIN) and getattr(value, "__closure__", None) is None:
        return type(value), value
    if isinstance(value, Mapping):
        return type(value), tuple((_compared(of), _compared(what)) for of, what in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value), tuple(map(_compared, value))
    raise _UnknownError


def _copied(graph: fx.Graph) -> fx.Graph:
    copy, nodes = fx.Graph(tracer_cls=graph._tracer_cls), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        nodes[node] = copy.node_copy(node, nodes.__getitem__)
    return copy
