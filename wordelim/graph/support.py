"""What is served, and why something isn't."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

from torch import nn

from wordelim.adapters import Family, Reads

from ..errors import UnsupportedModelError
from ..retention import QUANT_METHOD

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["REFUSED_HEADS", "is_marked", "reads_of", "require_fields", "require_supported", "require_width", "resolve"]

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


def reads_of(model: PreTrainedModel, family: Family) -> Reads:
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
            f"{name} has no head that is supported: by the heads of its wordelim.adapters.Family the classes are "
            f"{', '.join(f'*{head}' for head in family.heads)}, and models without a head."
        )
    reads = family.heads[head]
    for field, served in family.pooling.items():
        if not hasattr(model.config, field):
            raise _wrong(model, "pooling", field, f"is no field of {type(model.config).__name__}: name one, or none")
        value = getattr(model.config, field)
        if reads == "first" and value not in served:
            raise UnsupportedModelError(
                f"{name} has {field} {value!r} in its config: only {', '.join(map(repr, served))} can be served."
            )
        reads = served[value] if reads == "first" else reads
    return reads


def resolve(model: PreTrainedModel, family: Family) -> nn.Module:
    """A model's encoder, where its family says; UnsupportedModelError naming the field of the family that is wrong."""
    base, config = model.base_model, model.config
    encoder = getattr(base, family.encoder, None)
    kind = type(base).__name__
    if not isinstance(encoder, nn.Module):
        modules = ", ".join(name for name, _ in base.named_children())
        raise _wrong(
            model, "encoder", family.encoder, f"is no module of {kind}: name the one of {modules} with the layers"
        )
    if not isinstance(getattr(config, family.width, None), int):
        why = f"is no number in {type(config).__name__}: name the field that holds the size of what enters the encoder"
        raise _wrong(model, "width", family.width, why)
    for field, says in (("heads", family.heads), *(("pooling", served) for served in family.pooling.values())):
        if strange := set(says.values()) - set(get_args(Reads)):
            raise _wrong(model, field, strange.pop(), "is nothing that a head reads: say 'first' or 'all'")
    inside, anywhere = ({type(module).__name__ for module in of.modules()} for of in (encoder, base))
    if family.own_attention and not inside & {*family.own_attention}:
        elsewhere = ", ".join(anywhere & {*family.own_attention})
        if elsewhere:
            raise _wrong(model, "encoder", family.encoder, f"holds no {elsewhere}: name the module of {kind} that does")
        why = f"is the class of no module in {type(encoder).__name__}: name that of its attention"
        raise _wrong(model, "own_attention", ", ".join(family.own_attention), why)
    if family.final_norm is not None and family.final_norm not in dict(base.named_modules()):
        why = f"is no module of {kind}: name the one that normalises what the last layer writes, or none"
        raise _wrong(model, "final_norm", family.final_norm, why)
    for name, module in base.named_children():
        if type(module).__name__.lower().endswith("norm") and name != family.final_norm:
            raise _wrong(model, "final_norm", str(family.final_norm), f"leaves out {name!r} of {kind}: name that")
    positions = getattr(getattr(base, "embeddings", None), "position_embeddings", None)
    after = getattr(positions, "padding_idx", None) is not None
    if isinstance(positions, nn.Embedding) and after != family.positions_after_padding:
        why = f"isn't how the embeddings of {kind} number positions: set it to {after}"
        raise _wrong(model, "positions_after_padding", str(family.positions_after_padding), why)
    return encoder


def require_width(model: PreTrainedModel, family: Family, entered: int | None) -> None:
    """Refuse a family whose ``width`` isn't that of what enters the encoder: UnsupportedModelError.

    Args:
        entered: the width that was seen there; None where nothing has run.
    """
    given = getattr(model.config, family.width)
    if entered in (None, given):
        return
    fields = [name for name, value in vars(model.config).items() if value == entered and name.endswith(("dim", "size"))]
    why = f"is {given} in its config, but what enters the encoder is {entered} wide: name the field that holds this"
    raise _wrong(model, "width", family.width, why + (f" ({', '.join(fields)})" if fields else ""))


def _wrong(model: PreTrainedModel, field: str, value: str, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{type(model).__name__} can't be served as its wordelim.adapters.Family says: the {field} {value!r} {why}."
    )


def require_fields(model: PreTrainedModel) -> None:
    """Refuse a model whose config asks for more outputs than its answers, or for chunks: UnsupportedModelError."""
    for field, why in _REFUSED_FIELDS.items():
        value = getattr(model.config, field, None)
        if value:
            raise UnsupportedModelError(
                f"{type(model).__name__} has {field} {json.dumps(value)} in its config, {why}: set it to "
                f"{json.dumps(type(value)())}, which changes no answer."
            )


def require_supported(model: PreTrainedModel) -> None:
    """Refuse a model that is configured as none that is served: UnsupportedModelError."""
    name = type(model).__name__
    config = model.config
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise UnsupportedModelError(f"{name} is configured as a decoder: only encoders are supported.")
    require_fields(model)
    quantized = any(".quantized." in type(module).__module__ for module in model.modules())
    if quantized or (getattr(config, "quantization_config", None) is not None and not is_marked(config)):
        raise UnsupportedModelError(f"{name} is quantized already: compress the model first and quantize the result.")
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise UnsupportedModelError(
            f"{name} has gradient checkpointing on: call model.gradient_checkpointing_disable() first, "
            "or set gradient_checkpointing to false in its config.json."
        )


def is_marked(config: Any) -> bool:
    """Whether a model's config says that it is compressed."""
    marked = getattr(config, "quantization_config", None)
    method = marked.get("quant_method") if isinstance(marked, dict) else getattr(marked, "quant_method", None)
    return method == QUANT_METHOD
