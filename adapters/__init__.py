"""Model families, as data: where a family's encoder stands and which output positions its heads read.

A family whose attention goes through transformers' attention interface needs nothing more: see ``plain.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import plain
from .family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Family", "families", "family_of", "register"]

_FAMILIES: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Make a family known under its ``model_type``; a later one of the same type replaces it."""
    _FAMILIES[family.model_type] = family
    return family


def families() -> tuple[Family, ...]:
    """Every known family, by name."""
    return tuple(_FAMILIES[name] for name in sorted(_FAMILIES))


def family_of(model: PreTrainedModel) -> Family:
    """The family of a model, by ``config.model_type``.

    Raises:
        UnsupportedModelError: the model is of no known family; the message lists what is known.
    """
    from wordelim.errors import UnsupportedModelError

    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type not in _FAMILIES:
        raise UnsupportedModelError(
            f"{type(model).__name__} (model type {model_type!r}) is not supported: the families are "
            f"{', '.join(sorted(_FAMILIES))}; add one with wordelim.adapters.register."
        )
    return _FAMILIES[model_type]


for _family in plain.FAMILIES:
    register(_family)
