"""Model families, as data: where a family's encoder stands and which word vectors its heads read.

A family whose attention goes through transformers' attention interface, or is written out as the textbook has it, needs
no more: see ``plain.py``. Others come from :func:`register`, or from installed packages through the entry points of the
group ``wordelim.adapters``.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from wordelim.errors import UnsupportedModelError

from . import deberta_v2, mpnet, plain, rotary
from .family import HEADS, Family, Reads
from .written_out import written_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["GROUP", "HEADS", "Family", "Reads", "families", "family_of", "find_family", "register", "written_out"]

GROUP = "wordelim.adapters"
"""Group of the entry points that are read; each names a :class:`Family`."""

_FAMILIES: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Make a family known under its ``model_type``; a later one of the same type replaces it."""
    _FAMILIES[family.model_type] = family
    return family


def families() -> tuple[Family, ...]:
    """Every known family, by name.

    Raises:
        UnsupportedModelError: an installed package names something else than a family.
    """
    _read_entry_points()
    return tuple(_FAMILIES[name] for name in sorted(_FAMILIES))


def find_family(model_type: str | None) -> Family | None:
    """The family of this ``config.model_type``, or None."""
    if model_type not in _FAMILIES:
        _read_entry_points()
    return _FAMILIES.get(model_type or "")


def family_of(model: PreTrainedModel) -> Family:
    """The family of a model, by ``config.model_type``.

    Raises:
        UnsupportedModelError: the model is of no known family; the message lists what is known.
    """
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    family = find_family(model_type)
    if family is None:
        raise UnsupportedModelError(
            f"{type(model).__name__} (model type {model_type!r}) is not supported: the families are "
            f"{', '.join(sorted(_FAMILIES))}; add one with wordelim.adapters.register, as "
            "help(wordelim.adapters.Family) says."
        )
    return family


@cache
def _read_entry_points() -> None:
    """Take what installed packages offer, except for families that are known already."""
    for entry in entry_points(group=GROUP):
        try:
            family = entry.load()
        except Exception as error:  # code of somebody else
            raise UnsupportedModelError(
                f"The entry point {entry.name!r} of {GROUP} can't be loaded ({error}): mend or remove its package."
            ) from error
        if not isinstance(family, Family):
            raise UnsupportedModelError(
                f"The entry point {entry.name!r} of {GROUP} is a {type(family).__name__}: it should name a Family."
            )
        _FAMILIES.setdefault(family.model_type, family)


for _family in (*plain.FAMILIES, *rotary.FAMILIES, deberta_v2.FAMILY, mpnet.FAMILY):
    register(_family)
