"""Put a rewritten encoder into a model, and take it out again."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, fx, nn

from wordelim.adapters import Family, Reads, family_of

from ..elimination.protect import announce, protected_rows
from ..elimination.tokens import Enter, Layout, refuse_scripting, refuse_tracing
from ..errors import UnsupportedModelError
from ..retention import QUANT_METHOD, Retention
from .linear import call_linears
from .proof import Proof
from .rewrite import CutToFirstToken, RestoreAtExit, SpliceElimination, attention_nodes
from .trace import ATTENTION, attention, trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "REFUSED_HEADS",
    "EliminatingEncoder",
    "eliminate_",
    "eliminating_encoder",
    "is_marked",
    "require_fields",
    "restore_",
    "retention_of",
    "splice_",
]

# The second is the newer name of the first, which older versions of transformers know alone.
_CHECKPOINTING = ("gradient_checkpointing_enable", "activation_checkpointing_enable")

_GUESSES = "guesses words at any position, so no word vector may be dropped"
REFUSED_HEADS = {
    "ForMaskedLM": _GUESSES,
    "ForPreTraining": "is trained at every position, so no word vector may be dropped",
    "ForNextSentencePrediction": "has a head of pre-training",
    "LMHeadModel": _GUESSES,
    "ForCausalLM": _GUESSES,
}
"""Endings of the names of classes that are refused, and why; docs/families.md lists them."""

_FEWER_ROWS = "which a compressed model, whose layers have fewer and fewer rows, can't give"
_REFUSED_FIELDS = {
    "output_hidden_states": _FEWER_ROWS,
    "output_attentions": _FEWER_ROWS,
    "chunk_size_feed_forward": "for which the rows of each layer would have to be a multiple of it",
}
"""Fields of a config that are refused when they are set, and why."""

Model = TypeVar("Model", bound="PreTrainedModel")


class EliminatingEncoder(fx.GraphModule):
    """An encoder's rewritten graph over the encoder's own modules: same state-dict keys, in the same order.

    Args:
        dense: the encoder that it stands for. It shares every module and parameter with it.
        config: the model's config; its attention implementation must be :data:`ATTENTION`.
        family: where things are in this family.
        implementation: the attention implementation of the dense model.
        retention: how many word vectors each layer keeps, and whether dropped ones come back at the exit.
    """

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
        self.recompile()
        self._enter.retention = retention
        self.layout = "auto"

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
        self._enter.retention = replace(retention, restore=before.restore)

    @property
    def layout(self) -> Layout:
        """How a batch lies in memory inside; may be set."""
        return self._enter.layout

    @layout.setter
    def layout(self, layout: Layout) -> None:
        self._enter.layout = layout

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
        return _rebuild(self.training, self.layout, *copy.deepcopy(self._source, memo), self.retention)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.training, self.layout, *self._source, self.retention)


def _rebuild(training: bool, layout: Layout, *source: Any) -> EliminatingEncoder:
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
        encoder.layout = layout
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


def _refuse_extras(extras: dict[str, Any]) -> None:
    for name in ("encoder_hidden_states", "past_key_values"):
        if extras.get(name) is not None:
            raise UnsupportedModelError(f"A compressed model takes no {name}: decoders are not supported.")


fx.node.has_side_effect(_refuse_extras)


def eliminate_(model: Model, retention: Retention) -> Model:
    """Make a model drop word vectors, in place; nothing is trained.

    Its class, its parameters and their names stay as they are. Called on a compressed model it changes the retention.

    The head decides what is done with dropped word vectors. Where it reads the
    first token alone (sequence classification, multiple choice), they stay away, and the last layer keeps the first
    token and nothing else, which loses nothing. Where it reads all (token classification, question answering, a model
    without a head), they come back at the exit with the value that they had when dropped; with ``retention.restore``
    ``"mean"``, as the mean of those that are left, for heads and pipelines that read nothing but the mean of all.

    Args:
        model: a model of a known family (``wordelim.adapters.families()``) with such a head, or without any.
        retention: one value for each layer.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: the model, its head or its structure isn't supported, or the head reads something else
            than its class's name says; the model is as it was.
        RetentionError: the retention has another number of layers than the model.
    """
    family = family_of(model)
    encoder = getattr(model.base_model, family.encoder)
    if not isinstance(encoder, EliminatingEncoder):
        return splice_(model, retention, prove=True)
    encoder.retention = retention
    _mark(model, encoder.retention)
    return model


def splice_(model: Model, retention: Retention, *, prove: bool) -> Model:
    """:func:`eliminate_` on a dense model.

    Args:
        prove: whether the head must prove what it reads, in two forward passes of a few tokens.
    """
    family = family_of(model)
    base = model.base_model
    encoder = getattr(base, family.encoder)
    _require_supported(model)
    reads = _reads(model, family)
    if retention.restore == "mean" and family.normalises_after:
        raise UnsupportedModelError(
            f"{type(model).__name__} normalises what its encoder returns, so that the mean of those left can't stand "
            "for the others: set the retention's restore to true."
        )
    retention = replace(
        retention, restore=("mean" if retention.restore == "mean" else True) if reads == "all" else False
    )
    proof = Proof(model, encoder, reads) if prove else None
    config = model.config
    before = config._attn_implementation
    spliced = _rebuild(encoder.training, "auto", encoder, config, family, before, retention)
    setattr(base, family.encoder, spliced)
    config._attn_implementation = ATTENTION
    base.register_forward_pre_hook(_guard, with_kwargs=True)
    for name in _CHECKPOINTING:
        if hasattr(model, name):
            setattr(model, name, _refuse_gradient_checkpointing)
    _mark(model, retention)
    if proof is not None:
        try:
            spliced.retention = Retention.keep_all(len(retention.keep))
            proof.require(model)
            spliced.retention = retention
        except BaseException:
            restore_(model)
            raise
    return model


def restore_(model: Model) -> Model:
    """Undo :func:`eliminate_`, in place: the dense model with the weights that it has now. Returns the same model.

    Raises:
        UnsupportedModelError: the model isn't compressed.
    """
    encoder = eliminating_encoder(model)
    base = model.base_model
    # Found by what it is, for a copy of a model has its own.
    for key in [key for key, hook in base._forward_pre_hooks.items() if hook is _guard]:
        del base._forward_pre_hooks[key]
        base._forward_pre_hooks_with_kwargs.pop(key, None)
    setattr(base, family_of(model).encoder, encoder.dense)
    encoder.dense.training = encoder.training
    model.config._attn_implementation = encoder.implementation
    del model.config.quantization_config
    for name in _CHECKPOINTING:
        vars(model).pop(name, None)
    return model


def retention_of(model: PreTrainedModel) -> Retention:
    """How many word vectors each layer of a compressed model keeps; UnsupportedModelError when it isn't compressed."""
    return eliminating_encoder(model).retention


def eliminating_encoder(model: PreTrainedModel) -> EliminatingEncoder:
    """The rewritten encoder of a compressed model; UnsupportedModelError when it isn't compressed."""
    encoder = getattr(getattr(model, "base_model", None), family_of(model).encoder, None)
    if not isinstance(encoder, EliminatingEncoder):
        raise UnsupportedModelError(
            f"{type(model).__name__} isn't compressed: call wordelim.eliminate_ or wordelim.compress first."
        )
    return encoder


def _mark(model: PreTrainedModel, retention: Retention) -> None:
    before = getattr(model.config, "quantization_config", None)
    speeds = {"speeds": before["speeds"]} if isinstance(before, dict) and "speeds" in before else {}
    model.config.quantization_config = {"quant_method": QUANT_METHOD, **retention.to_dict(), **speeds}


def _reads(model: PreTrainedModel, family: Family) -> Reads:
    """Which word vectors a model's head reads."""
    name = type(model).__name__
    if model.base_model is model:
        return "all"
    for ending, why in REFUSED_HEADS.items():
        if name.endswith(ending):
            raise UnsupportedModelError(f"{name} {why}: compress the model that was fine-tuned from it instead.")
    head = next((head for head in family.heads if name.endswith(head)), None)
    if head is None:
        raise UnsupportedModelError(
            f"{name} has no head that is supported: the classes are {', '.join(f'*{head}' for head in family.heads)}, "
            "and models without a head."
        )
    reads = family.heads[head]
    for field, served in family.pooling.items():
        value = getattr(model.config, field, None)
        if reads == "first" and value not in served:
            raise UnsupportedModelError(
                f"{name} has {field} {value!r} in its config: only {', '.join(map(repr, served))} can be served."
            )
        reads = served[value] if reads == "first" else reads  # type: ignore[index]
    return reads


def require_fields(model: PreTrainedModel) -> None:
    """Refuse a model whose config asks for more outputs than its answers, or for chunks: UnsupportedModelError."""
    for field, why in _REFUSED_FIELDS.items():
        value = getattr(model.config, field, None)
        if value:
            raise UnsupportedModelError(
                f"{type(model).__name__} has {field} {json.dumps(value)} in its config, {why}: set it to "
                f"{json.dumps(type(value)())}, which changes no answer."
            )


def _require_supported(model: PreTrainedModel) -> None:
    name = type(model).__name__
    config = model.config
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise UnsupportedModelError(f"{name} is configured as a decoder: only encoders are supported.")
    require_fields(model)
    if getattr(config, "quantization_config", None) is not None and not is_marked(config):
        raise UnsupportedModelError(f"{name} is quantized already: compress the model first and quantize the result.")
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise UnsupportedModelError(
            f"{name} has gradient checkpointing on: call model.gradient_checkpointing_disable() first."
        )


def is_marked(config: Any) -> bool:
    """Whether a model's config says that it is compressed."""
    marked = getattr(config, "quantization_config", None)
    method = marked.get("quant_method") if isinstance(marked, dict) else getattr(marked, "quant_method", None)
    return method == QUANT_METHOD


def _refuse_gradient_checkpointing(*args: Any, **kwargs: Any) -> None:
    raise UnsupportedModelError(
        "Gradient checkpointing has no effect on a compressed model: leave it off, or call wordelim.restore_ first."
    )


def _guard(base: PreTrainedModel, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
    """Refuse what a compressed encoder would answer wrongly, and tell it what holds for this batch.

    That is the retention, and which rows it protects for their tokens. Both are as they are now: a retention that
    another thread sets meanwhile is for the next batch.
    """
    refuse_tracing(*args, *kwargs.values())
    config = base.config
    for name in ("output_hidden_states", "output_attentions"):
        asked = kwargs.get(name)
        if asked if asked is not None else getattr(config, name, False):
            raise UnsupportedModelError(
                f"{name}=True can't be served by a compressed model, whose layers have fewer and fewer rows: "
                "call wordelim.restore_(model) first."
            )
    if config._attn_implementation != ATTENTION:
        raise UnsupportedModelError(
            f"The attention implementation of a compressed model was switched to {config._attn_implementation!r}: "
            f"set it back with model.set_attn_implementation({ATTENTION!r}), or call wordelim.restore_(model) first."
        )
    family = family_of(base)
    if family.counts_positions and kwargs.get("position_ids") is not None:
        raise UnsupportedModelError("A compressed model of this family counts positions from 0: give no position_ids.")
    if torch.compiler.is_compiling():
        return  # one graph, one retention
    enter = getattr(base, family.encoder).enter
    retention = enter.retention
    if not retention.protects_by_token:
        announce(enter, retention, None)
        return
    given = dict(zip(inspect.signature(base.forward).parameters, args, strict=False)) | kwargs
    if given.get("input_ids") is None:
        raise UnsupportedModelError(
            f"The retention protects {', '.join(retention.protect)}, which takes input_ids: give the model these, and "
            "no inputs_embeds."
        )
    protected = protected_rows(retention.protect, given["input_ids"], given.get("attention_mask"))
    announce(enter, retention, protected)
