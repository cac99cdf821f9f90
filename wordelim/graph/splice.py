"""Make a model drop word vectors, and undo it."""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, fx

from wordelim.adapters import family_of

from ..elimination.enter import refuse_tracing
from ..elimination.protect import announce, protected_rows
from ..elimination.significance import received_attention
from ..errors import UnsupportedModelError
from ..retention import QUANT_METHOD, Retention
from .encoder import EliminatingEncoder, _refuse_extras, rebuild
from .proof import Proof, is_known
from .support import reads_of, require_supported
from .trace import ATTENTION

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["eliminate_", "eliminating_encoder", "restore_", "retention_of", "splice_"]

# The second is the newer name of the first, which older versions of transformers know alone.
_CHECKPOINTING = ("gradient_checkpointing_enable", "activation_checkpointing_enable")
Model = TypeVar("Model", bound="PreTrainedModel")
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
    require_supported(model)
    reads = reads_of(model, family)
    if retention.restore == "mean" and family.normalises_after:
        raise UnsupportedModelError(
            f"{type(model).__name__} normalises what its encoder returns, so that the mean of those left can't stand "
            "for the others: set the retention's restore to true."
        )
    retention = replace(
        retention, restore=("mean" if retention.restore == "mean" else True) if reads == "all" else False
    )
    if prove and model.dtype in (torch.float16, torch.bfloat16) and not is_known(model, encoder):
        # Rounded so far, the answers of what is somebody's own prove little.
        splice_(copy.deepcopy(model).float(), retention, prove=True)
        prove = False
    proof = Proof(model, encoder, reads) if prove else None
    config = model.config
    before = config._attn_implementation
    spliced = rebuild(encoder.training, "auto", received_attention, encoder, config, family, before, retention)
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
