"""An encoder on a card: by one engine for all of its layers, where it is nothing but layers that this knows."""

from __future__ import annotations

import threading
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from ..elimination.card.engine import LONGEST, Batch, Engine, planned_buffers
from ..elimination.card.graphs import Capture, capture
from ..elimination.card.layer import Encoder, Layer
from ..elimination.card.watched import Watched
from ..elimination.enter import Enter
from ..elimination.kernels import triton_serves
from ..elimination.laid import lengths_laid
from ..elimination.protect import announced
from ..elimination.significance import received_attention
from .layers import LayerPaths, stack_of

__all__ = ["DECODERS", "OnACard"]

DECODERS = ("encoder_hidden_states", "past_key_values")
"""What a caller gives to decoders alone, and is refused."""


class OnACard:
    """Answers in an encoder's place what its engine serves, and nothing else.

    Args:
        module: the rewritten encoder.
    """

    capture: Capture | None = staticmethod(capture)

    def __init__(self, module: fx.GraphModule) -> None:
        self.stack = stack_of(module)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._watched: Watched | None = None
        self._stamp: Any = None

    def __call__(
        self, module: fx.GraphModule, hidden_states: Tensor, mask: Tensor | None, **extras: Any
    ) -> Tensor | None:
        """Each text's first row behind the last layer, [batch, 1, width]; None where the graph is to run.

        Raises:
            UnsupportedModelError: as :meth:`Enter.read` does.
        """
        longest = max(lengths_laid() or hidden_states.shape[1:2])
        engine = self.engine(module, hidden_states.dtype, hidden_states.device, longest)
        if engine is None or any(extras.get(name) is not None for name in DECODERS):
            return None
        enter, buffers = cast(Enter, module.get_submodule("enter")), planned_buffers()
        if buffers is not None:
            announced(enter)
            buffers.enter(hidden_states, None)
            return engine.launched(buffers)
        read = enter.read(hidden_states, mask)
        assert read.retention is not None
        batch = Batch(hidden_states, read.lengths, read.laid, read.protected, read.guarded)
        return engine(batch, read.retention)

    def engine(self, module: fx.GraphModule, dtype: torch.dtype, device: torch.device, longest: int) -> Engine | None:
        """What runs this encoder as it is now on texts of so many tokens; None where nothing does."""
        if self.stack is None or not self.is_card(device):
            return None
        enter = cast(Enter, module.get_submodule("enter"))
        serves = (
            enter.layout == "auto"
            and enter.selector is received_attention
            and enter.retention is not None
            and not (module.training or torch.is_grad_enabled() or torch.is_autocast_enabled(device.type))
            and longest <= LONGEST
            and triton_serves(dtype, self.stack.layers[0].size)
        )
        if not serves:
            return None
        with self._lock:
            return self._renewed(module, dtype, device)

    @staticmethod
    def is_card(device: torch.device) -> bool:
        """Whether the launches run there."""
        return device.type == "cuda"

    @staticmethod
    def ops() -> Any:
        """The launches of a layer."""
        from ..elimination.card import kernels  # here, for it needs Triton

        return kernels

    def _renewed(self, module: fx.GraphModule, dtype: torch.dtype, device: torch.device) -> Engine | None:
        """An engine with the weights that the modules have now; None where a module isn't what its class says."""
        assert self.stack is not None
        watched = self._watched
        if watched is None or not watched.in_place():
            paths = [*self.stack.before, *(path for layer in self.stack.layers for path in layer.modules)]
            watched = self._watched = Watched(module, paths, self.stack.moded)
            self._stamp = self._engine = None
        if not watched.plain():
            return None
        if watched.stamp() != self._stamp:
            known = all(type(each) in (nn.Linear, nn.LayerNorm) for each in watched.modules)
            alike = {(each.dtype, each.device) for of in watched.modules for each in of.parameters()}
            if not known or alike != {(dtype, device)}:
                return None
            if self._engine is None:
                self._engine = Engine(self._encoder(module), self.ops(), self.capture)
            else:
                self._engine.forget()
            self._stamp = watched.stamp()
        return self._engine

    def _encoder(self, module: fx.GraphModule) -> Encoder:
        assert self.stack is not None
        before = tuple(cast(nn.Linear, module.get_submodule(path)) for path in self.stack.before)
        return Encoder(before, tuple(_layer(module, paths) for paths in self.stack.layers))


def _layer(module: fx.GraphModule, paths: LayerPaths) -> Layer:
    found: list[Any] = [module.get_submodule(path) for path in paths.modules]
    query, key, value, output, norm, inner, outer, last_norm = found
    behind = (output, norm, inner, paths.activation, outer, last_norm)
    return Layer((query, key, value), *behind, paths.heads, paths.attention.scaling)
