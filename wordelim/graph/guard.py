"""What stands before a compressed model: it refuses what would be answered wrongly, and tells the encoder the rest."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wordelim.adapters import family_of

from ..elimination.enter import refuse_tracing
from ..elimination.laid import lengths_laid
from ..elimination.protect import announce, protected_rows
from ..errors import UnsupportedModelError
from .trace import ATTENTION

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["guard_", "unguard_"]

# The second is the newer name of the first, which older versions of transformers know alone.
_CHECKPOINTING = ("gradient_checkpointing_enable", "activation_checkpointing_enable")


def guard_(model: PreTrainedModel) -> None:
    """Put the guard before a model's base, and refuse gradient checkpointing, in place."""
    model.base_model.register_forward_pre_hook(_guard, with_kwargs=True)
    for name in _CHECKPOINTING:
        if hasattr(model, name):
            setattr(model, name, _refuse_gradient_checkpointing)


def unguard_(model: PreTrainedModel) -> None:
    """Undo :func:`guard_`, in place."""
    base = model.base_model
    # Found by what it is, for a copy of a model has its own.
    for key in [key for key, hook in base._forward_pre_hooks.items() if hook is _guard]:
        del base._forward_pre_hooks[key]
        base._forward_pre_hooks_with_kwargs.pop(key, None)
    for name in _CHECKPOINTING:
        vars(model).pop(name, None)


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
    lengths = lengths_laid()
    if lengths is None:
        protected = protected_rows(retention.protect, given["input_ids"], given.get("attention_mask"))
    else:
        texts = given["input_ids"][0].split(lengths)
        protected = torch.cat([protected_rows(retention.protect, text[None], None)[0] for text in texts])
    announce(enter, retention, protected)
