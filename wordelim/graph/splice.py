"""Make a model drop word vectors, and undo it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch

from wordelim.adapters import family_of

from ..elimination.significance import received_attention
from ..errors import RetentionError, UnsupportedModelError
from ..retention import QUANT_METHOD, Retention
from .encoder import EliminatingEncoder, rebuild
from .guard import guard_, unguard_
from .proof import Proof, is_known
from .support import reads_of, require_supported, require_width, resolve
from .trace import ATTENTION

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["eliminate_", "eliminating_encoder", "restore_", "retention_of", "splice_"]

Model = TypeVar("Model", bound="PreTrainedModel")


def eliminate_(model: Model, retention: Retention) -> Model:
    """Make a model drop word vectors, in place; nothing is trained.

    Its class, its parameters and their names stay as they are. Called on a compressed model it changes the retention.

    The head decides what is done with dropped word vectors. Where it reads the first token alone (sequence
    classification, multiple choice), they stay away, and the last layer keeps the first token and nothing else, which
    loses nothing. Where it reads all (token classification, question answering, a model without a head), they come back
    at the exit with the value that they had when dropped; with ``retention.restore`` ``"mean"``, as the mean of those
    that are left, for heads and pipelines that read nothing but the mean of all.

    Args:
        model: a model of a known family (``wordelim.adapters.families()``) with such a head, or without any.
        retention: one value for each layer.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: the model, its head or its structure isn't supported, or the head reads something else
            than its class's name says; the model is as it was.
        RetentionError: the retention has another number of layers than the model.

    Example:
        >>> from transformers import AutoModelForSequenceClassification
        >>> model = AutoModelForSequenceClassification.from_pretrained("my-bert")
        >>> model = wordelim.eliminate_(model, wordelim.Retention.fractions((0.9, 0.7, 0.5, 0.3, 0.2, 0.0)))
        >>> wordelim.retention_of(model).keep
        (0.9, 0.7, 0.5, 0.3, 0.2, 0.0)
    """
    if not isinstance(retention, Retention):
        raise RetentionError(f"{retention!r} is no retention: make one, such as wordelim.Retention.fractions(...).")
    family = family_of(model)
    encoder = getattr(model.base_model, family.encoder, None)
    if not isinstance(encoder, EliminatingEncoder):
        return splice_(model, retention)
    encoder.retention = retention
    _mark(model, encoder.retention)
    return model


def splice_(model: Model, retention: Retention, *, loaded: bool = False) -> Model:
    """:func:`eliminate_` on a dense model.

    Args:
        loaded: ``from_pretrained`` has just made the model. So there is nothing in transformers' own classes that
            somebody has put there, and they needn't prove what they read, in two forward passes of a few tokens.
    """
    family = family_of(model)
    if model.config._attn_implementation == ATTENTION:
        raise UnsupportedModelError(
            f"{type(model).__name__} was made with the config of a compressed model: make it with a dense one's."
        )
    require_supported(model)
    if not loaded:
        _own_config_(model)
    encoder = resolve(model, family)
    reads = reads_of(model, family)
    if retention.restore == "mean" and family.normalises_after:
        raise UnsupportedModelError(
            f"{type(model).__name__} normalises what its encoder returns, so that the mean of those left can't stand "
            "for the others: set the retention's restore to true."
        )
    retention = replace(
        retention, restore=("mean" if retention.restore == "mean" else True) if reads == "all" else False
    )
    proof = None
    known = is_known(model, encoder)
    if not known and model.dtype in (torch.float16, torch.bfloat16):
        # Rounded so far, the answers of what is somebody's own prove little.
        splice_(copy.deepcopy(model).to(torch.float32), retention)  # type: ignore[arg-type]
    elif not (known and loaded):
        proof = Proof(model, encoder, reads)
        require_width(model, family, proof.width)
    config = model.config
    before = config._attn_implementation
    spliced = rebuild(encoder.training, "auto", received_attention, encoder, config, family, before, retention)
    setattr(model.base_model, family.encoder, spliced)
    config._attn_implementation = ATTENTION
    guard_(model)
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

    Example:
        >>> model = wordelim.restore_(wordelim.load("my-bert-fast"))
        >>> type(model.bert.encoder).__name__
        'BertEncoder'
    """
    encoder = eliminating_encoder(model)
    unguard_(model)
    setattr(model.base_model, family_of(model).encoder, encoder.dense)
    encoder.dense.training = encoder.training
    model.config._attn_implementation = encoder.implementation
    del model.config.quantization_config
    return model


def retention_of(model: PreTrainedModel) -> Retention:
    """How many word vectors each layer of a compressed model keeps; UnsupportedModelError when it isn't compressed.

    Example:
        >>> wordelim.retention_of(wordelim.load("my-bert-fast")).keep
        (0.9, 0.7, 0.5, 0.3, 0.2, 0.0)
    """
    return eliminating_encoder(model).retention


def eliminating_encoder(model: PreTrainedModel) -> EliminatingEncoder:
    """The rewritten encoder of a compressed model; UnsupportedModelError when it isn't compressed."""
    encoder = getattr(getattr(model, "base_model", None), family_of(model).encoder, None)
    if not isinstance(encoder, EliminatingEncoder):
        raise UnsupportedModelError(
            f"{type(model).__name__} isn't compressed: call wordelim.eliminate_ or wordelim.compress first."
        )
    return encoder


def _own_config_(model: PreTrainedModel) -> None:
    """Give a model a config that no other has, for what is noted there must not hold for a second one."""
    shared, own = model.config, copy.deepcopy(model.config)
    for module in model.modules():
        if vars(module).get("config") is shared:
            setattr(module, "config", own)  # noqa: B010


def _mark(model: PreTrainedModel, retention: Retention) -> None:
    before = getattr(model.config, "quantization_config", None)
    speeds = {"speeds": before["speeds"]} if isinstance(before, dict) and "speeds" in before else {}
    model.config.quantization_config = {"quant_method": QUANT_METHOD, **retention.to_dict(), **speeds}
