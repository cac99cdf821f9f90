"""Trace an encoder into a torch.fx graph whose nodes carry shapes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import AttentionInterface, AttentionMaskInterface

from ..elimination.attention import Position, attend
from ..errors import UnsupportedModelError
from .traced import Traced, remembered

__all__ = ["ATTENTION", "SAMPLE_TOKENS", "attention", "is_rms_norm", "record", "trace"]

ATTENTION = "wordelim"
"""Name under which the attention function and its mask function are known to transformers."""

OwnAttention: TypeAlias = Mapping[str, Callable[..., Any]]
Run: TypeAlias = Callable[..., Any]

SAMPLE_BATCH, SAMPLE_TOKENS = 7907, 7919
"""Shape of the fake batch: primes that are no width of any model. So a dimension of SAMPLE_TOKENS in a node's shape is
the token dimension, and a change of shape that would put several rows into one doesn't come out even."""

_UNSEEN = (
    "no attention has gone through transformers' attention interface: its wordelim.adapters.Family must name in "
    "encoder what calls the layers, or, where attention is written out, its class in own_attention"
)


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *extras: Tensor, scaling: float, dropout: float
) -> Tensor:
    """One layer's attention, as the graph records it: [batch, heads, tokens, head size] in, [batch, tokens, heads, head
    size] out. ``dropout`` is the layer's own in training; ``extras`` go to what the node's meta has as "position",
    without which nothing can be computed."""
    if extras and not isinstance(query, FakeTensor):
        raise UnsupportedModelError("Attention that asks for positions can't run before elimination is spliced in.")
    return attend(query, key, value, mask, scaling, 0.0).transpose(1, 2)


def _attention_interface(
    module: nn.Module,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Any, None]:
    if not isinstance(query, fx.Proxy):
        raise UnsupportedModelError(
            f"{type(module).__name__} was called outside a rewritten graph, but its config is a compressed model's: "
            "call wordelim.restore_(model) before changing its modules, and give every model a config of its own."
        )
    if getattr(module, "is_causal", False):
        raise UnsupportedModelError(f"{type(module).__name__} is causal: decoders are not supported.")
    if scaling is None:
        scaling = query.node.meta["val"].shape[-1] ** -0.5
    return record(query, key, value, attention_mask, scaling=scaling, dropout=dropout), None


def record(
    query: fx.Proxy,
    key: fx.Proxy,
    value: fx.Proxy,
    mask: fx.Proxy,
    *extras: fx.Proxy,
    scaling: float,
    dropout: float,
    position: Position | None = None,
) -> fx.Proxy:
    """Record one layer's attention as a node of the graph; what it does is :func:`attention`."""
    if key.node.meta["val"].shape != query.node.meta["val"].shape:
        raise UnsupportedModelError(
            "Attention has keys of another shape than its queries: cross-attention and grouped heads are not supported."
        )
    options = {"scaling": scaling, "dropout": dropout}
    out = query.tracer.create_proxy("call_function", attention, (query, key, value, mask, *extras), options)
    out.node.meta["position"] = position
    return out


def _padding_mask(*, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    return attention_mask


AttentionInterface.register(ATTENTION, _attention_interface)
AttentionMaskInterface.register(ATTENTION, _padding_mask)


def is_rms_norm(module: nn.Module) -> bool:
    """Whether this is one of the many root mean square normalisations of transformers, which work row by row."""
    return type(module).__name__.endswith("RMSNorm") and type(module).__module__.startswith("transformers.")


class _Proxy(fx.Proxy):
    """A proxy that knows its length where the shape of its sample tells it."""

    def __len__(self) -> int:
        return len(self.node.meta["val"])

    def __iter__(self) -> Iterator[Any]:
        return self.tracer.iter(self)  # fx reads the caller's bytecode first, to know how many parts it asks for


class _Tracer(fx.Tracer):
    """Records module calls and tensor operations, and runs each on fake tensors to know the shape of its result."""

    def __init__(self, samples: dict[str, Any], mode: FakeTensorMode, own_attention: OwnAttention) -> None:
        super().__init__()
        self.own_attention = own_attention
        self.samples = samples
        self.mode = mode
        self.running = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        known = type(module).__module__ == "transformers.activations" or is_rms_norm(module)
        return known or super().is_leaf_module(module, qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        own = None if self.running else self.own_attention.get(type(m).__name__)
        return super().call_module(m, forward, args, kwargs) if own is None else own(m, record, *args, **kwargs)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        parts: Any = obj
        return iter([parts[i] for i in range(len(obj.node.meta["val"]))])

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        # While a leaf runs on fake tensors it needs its parameters, not proxies of them.
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        proxy.node.meta["val"] = self._sample(proxy.node)
        return proxy

    def _sample(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self.samples[str(node.target)]
        if node.op == "output":
            return None
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        self.running = True
        try:
            with self.mode:
                if node.target is attention:
                    return node.args[2].meta["val"].transpose(1, 2)  # type: ignore[union-attr]  # of its shape
                if node.op == "call_function":
                    return node.target(*args, **kwargs)  # type: ignore[operator]
                if node.op == "call_method":
                    return getattr(args[0], str(node.target))(*args[1:], **kwargs)
                value = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
                if isinstance(value, nn.Module):
                    found = _shaped_by(value, args[0]) if len(args) == 1 and not kwargs else None
                    return value.forward(*args, **kwargs) if found is None else found
                return _attribute(self.root, str(node.target))
        finally:
            self.running = False


def _shaped_by(module: nn.Module, values: Any) -> Any:
    """What a module of torch's own makes of a sample, by its sizes, which takes no time; None where these don't say."""
    forward = None if "forward" in vars(module) else type(module).forward
    if forward is nn.Linear.forward and values.shape[-1] == module.in_features:
        return values.new_empty((*values.shape[:-1], module.out_features))
    same = forward in (nn.Dropout.forward, nn.Identity.forward, nn.GELU.forward)
    if forward is nn.LayerNorm.forward:
        same = values.shape[-1:] == module.normalized_shape
    return values if same else None


def _attribute(root: nn.Module, path: str) -> Any:
    parent, _, name = path.rpartition(".")
    return getattr(root.get_submodule(parent), name)


class _Shell(nn.Module):
    """Gives an encoder a signature that can be traced."""

    def __init__(self, encoder: nn.Module, run: Run | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.run = run
        self.output: Callable[..., Any] | None = None

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        if self.run is not None:
            output = self.run(self.encoder, hidden_states, attention_mask)
        else:
            output = self.encoder(hidden_states, attention_mask)
        self.output = type(output)
        return output.last_hidden_state  # type: ignore[no-any-return]


def _has_attention(graph: fx.Graph) -> bool:
    return any(node.target is attention for node in graph.nodes)


def _unseen(encoder: nn.Module) -> str:
    classes = dict.fromkeys(name for m in encoder.modules() if "Attention" in (name := type(m).__name__))
    return _UNSEEN + (f", one of {', '.join(classes)}" if classes else "")


def trace(encoder: nn.Module, width: int, run: Run | None = None, own_attention: OwnAttention | None = None) -> Traced:
    """Record an encoder as a graph of module calls, tensor operations and one :func:`attention` node a layer.

    The encoder's attention implementation must be :data:`ATTENTION` meanwhile. Every node's ``meta["val"]`` is a fake
    tensor (or a number, or a shape) as it comes out for a batch of SAMPLE_BATCH texts of SAMPLE_TOKENS tokens.

    Args:
        encoder: takes embeddings [batch, tokens, width] and an attention mask, returns ``last_hidden_state``.
        width: size of the embeddings that enter it.
        run: called with the encoder and these two in its place.
        own_attention: class names of attention modules that don't go through transformers' attention interface, and
            what is called in their place, with the module, :func:`record`, and what the module is called with.

    Returns:
        The graph, whose module names are the encoder's own, and the class of the encoder's output.

    Raises:
        UnsupportedModelError: the encoder can't be traced.
    """
    own = own_attention or {}
    return remembered(encoder, width, run, *own.items(), trace=lambda: _traced(encoder, width, run, own))


def _traced(encoder: nn.Module, width: int, run: Run | None, own_attention: OwnAttention) -> Traced:
    parameter = next(encoder.parameters(), None)
    if parameter is None:
        raise UnsupportedModelError(f"{type(encoder).__name__} has no layers.")
    shell, mode = _Shell(encoder, run), FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        shape = (SAMPLE_BATCH, SAMPLE_TOKENS)
        samples = {
            "hidden_states": torch.empty(*shape, width, dtype=parameter.dtype, device=parameter.device),
            "attention_mask": torch.ones(shape, dtype=torch.bool, device=parameter.device),
        }
    tracer = _Tracer(samples, mode, own_attention)
    training = {module: module.training for module in encoder.modules()}
    log = logging.getLogger(fake_tensor.__name__)
    before, log.disabled = log.disabled, True  # it would print what the error says
    # In training mode attention is told its dropout; nn.Dropout stays one node in both modes.
    encoder.train()
    try:
        graph = tracer.trace(shell)
    except UnsupportedModelError:
        raise
    except Exception as error:
        hint = "" if _has_attention(tracer.graph) else f" ({_unseen(encoder)})"
        if own_attention:
            named = ", ".join(own_attention)
            hint = f" (its wordelim.adapters.Family says in own_attention how {named} is called: correct that)"
        raise UnsupportedModelError(f"{type(encoder).__name__} can't be traced: {error}{hint}") from error
    finally:
        log.disabled = before
        for module, mode_before in training.items():
            module.training = mode_before
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = str(node.target).removeprefix("encoder.")
    if not _has_attention(graph):
        raise UnsupportedModelError(f"{type(encoder).__name__} can't be served: {_unseen(encoder)}.")
    assert shell.output is not None
    return graph, shell.output
