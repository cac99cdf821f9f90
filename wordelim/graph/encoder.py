"""The encoder that stands in a model whose word vectors are dropped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from wordelim.adapters import Family

from ..elimination.enter import Enter, Layout, refuse_scripting
from ..elimination.significance import Selector
from ..errors import UnsupportedModelError
from ..retention import Retention
from .card import DECODERS, OnACard
from .linear import call_linears
from .passes import CutToFirstToken, RestoreAtExit, SpliceElimination, attention_nodes, extraction_nodes
from .trace import ATTENTION, attention, trace

__all__ = ["EliminatingEncoder", "rebuild"]


class EliminatingEncoder(fx.GraphModule):
    """An encoder's rewritten graph over the encoder's own modules: same state-dict keys, in the same order.

    Args:
        dense: the encoder that it stands for. It shares every module and parameter with it.
        config: the model's config; its attention implementation must be :data:`ATTENTION`.
        family: where things are in this family.
        implementation: the attention implementation of the dense model.
        retention: how many word vectors each layer keeps, and whether dropped ones come back at the exit.
    """

    _whole = False
    on_a_card: OnACard

    def __init__(
        self, dense: nn.Module, config: Any, family: Family, implementation: str | None, retention: Retention
    ) -> None:
        graph, output = trace(dense, getattr(config, family.width), family.run, family.own_attention)
        retention.check_layers(sum(node.target is attention for node in graph.nodes))
        super().__init__(dense, graph)
        self._modules.clear()
        self._modules.update(dense._modules)
        self._source = (dense, config, family, implementation)  # in a tuple, so that it isn't registered a second time
        if not retention.restore:
            CutToFirstToken()(self)
        if attention_nodes(self.graph):  # the cut takes the only layer of a model that has one
            SpliceElimination(retention)(self)
        if retention.restore:
            RestoreAtExit(mean=retention.restore == "mean")(self)
        call_linears(self)
        _take_any_arguments(self.graph, family.output or output)
        self._width = int(extraction_nodes(self.graph)[0].meta["context"].meta["val"].shape[-1])
        retention.check_width(self._width)
        self._whole = True
        self.recompile()
        self._enter.retention = retention
        self.layout = "auto"

    def recompile(self) -> Any:
        """Make code of the graph, once it is whole: every pass asks for that, and nothing runs between them.

        Before it stands what answers on a card.
        """
        if not self._whole:
            return None
        code = super().recompile()
        card, plain, output = OnACard(self), type(self).forward, _output_of(self.graph)
        self.on_a_card = card

        @wraps(plain)
        def forward(self: EliminatingEncoder, hidden_states: Tensor, attention_mask: Any = None, **extras: Any) -> Any:
            if isinstance(hidden_states, Tensor) and not torch.compiler.is_compiling():
                first = card(self, hidden_states, attention_mask, **extras)
                if first is not None:
                    return output(last_hidden_state=first)
            return plain(self, hidden_states, attention_mask, **extras)

        type(self).forward = forward  # fx gives each instance a class of its own
        return code

    @property
    def dense(self) -> nn.Module:
        """The encoder that this stands for."""
        return self._source[0]

    @property
    def implementation(self) -> str | None:
        """The attention implementation of the dense model."""
        return self._source[3]

    @property
    def retention(self) -> Retention:
        """How many word vectors each layer keeps; may be set, but for ``restore``, which the graph has built in.

        A call takes the one that holds when it begins, whatever is set meanwhile.
        """
        return cast(Retention, self._enter.retention)

    @retention.setter
    def retention(self, retention: Retention) -> None:
        before = self.retention
        retention.check_layers(len(before.keep))
        retention.check_width(self._width)
        self._enter.retention = replace(retention, restore=before.restore)

    @property
    def layout(self) -> Layout:
        """How a batch lies in memory inside; may be set."""
        return self._enter.layout

    @layout.setter
    def layout(self, layout: Layout) -> None:
        self._enter.layout = layout

    @property
    def selector(self) -> Selector:
        """What decides which word vectors stay, :func:`.significance.received_attention` unless another is set.

        Another is slower, can't be compiled or exported, and isn't saved. A call takes the one that holds when it
        begins.
        """
        return self._enter.selector

    @selector.setter
    def selector(self, selector: Selector) -> None:
        self._enter.selector = selector

    @property
    def _enter(self) -> Enter:
        return cast(Enter, self.get_submodule("enter"))

    # Where the layers stand in the base model itself, this stands for all of them: a list of one layer, called once.
    def __iter__(self) -> Iterator[EliminatingEncoder]:
        return iter([self])

    def __getitem__(self, layers: slice) -> EliminatingEncoder:
        return self

    @property
    def attention_type(self) -> str:
        """Which of the base model's masks and positions this takes: any, for it asks for none but the padding."""
        return str(next(self.dense.children()).attention_type)

    def __prepare_scriptable__(self) -> None:
        """What torch.jit.script asks a module for: refused, as a trace is."""
        refuse_scripting()

    def __deepcopy__(self, memo: dict[int, Any]) -> EliminatingEncoder:
        return rebuild(self.training, self.layout, self.selector, *copy.deepcopy(self._source, memo), self.retention)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.training, self.layout, self.selector, *self._source, self.retention)


def rebuild(training: bool, layout: Layout, selector: Selector, *source: Any) -> EliminatingEncoder:
    """Make an encoder for a config that may have another attention implementation now."""
    dense, config = source[:2]
    # Of itself alone: the modules in it are shared, and a frozen one has a mode of its own.
    dense.training = training
    before = config._attn_implementation
    # Some encoders look there for what they return, and an output with names is what is traced.
    named = config.return_dict
    config._attn_implementation, config.return_dict = ATTENTION, True
    try:
        encoder = EliminatingEncoder(*source)
        encoder.layout, encoder.selector = layout, selector
        return encoder
    finally:
        config._attn_implementation, config.return_dict = before, named


def _take_any_arguments(graph: fx.Graph, output: Callable[..., Any]) -> None:
    """Give the graph the encoder's own signature and class of output."""
    mask = [node for node in graph.nodes if node.op == "placeholder"][1]
    mask.args = (None,)
    with graph.inserting_after(mask):
        extras = graph.placeholder("**kwargs")
    with graph.inserting_after(extras):
        graph.call_function(_refuse_extras, (extras,))
    result = next(node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(result):
        wrapped = graph.call_function(output, (), {"last_hidden_state": result.args[0]})
    result.args = (wrapped,)


def _output_of(graph: fx.Graph) -> Callable[..., Any]:
    """What makes an output of what leaves the encoder."""
    wrapped: Any = next(node for node in reversed(graph.nodes) if node.op == "output").args[0]
    return cast(Callable[..., Any], wrapped.target)


@fx.node.has_side_effect
def _refuse_extras(extras: dict[str, Any]) -> None:
    for name in DECODERS:
        if extras.get(name) is not None:
            raise UnsupportedModelError(f"A compressed model takes no {name}: decoders are not supported.")
