"""The names that a model's config gives the classes of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import UnsupportedModelError
from .cells import is_unicode, shown, whole
from .problem import outputs_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["folded", "names_of", "require_names"]


def names_of(config: PreTrainedConfig) -> dict[str, int]:
    """Every label name that the model knows, with its id: `config.label2id`, completed by `config.id2label`."""
    names = _label2id(config)
    for index, name in _id2label(config).items():
        names.setdefault(name, index)
    return names


def _label2id(config: PreTrainedConfig) -> dict[str, int]:
    given = getattr(config, "label2id", None) or {}
    if not isinstance(given, Mapping):
        raise UnsupportedModelError(
            f"The model's label2id is {shown(given)}: give an object of names and their ids in config.json."
        )
    for name, index in given.items():
        if whole(index) is None:
            raise UnsupportedModelError(
                f"The model's label2id says {name!a} is {shown(index)}: give its id in config.json, from 0."
            )
    return {str(name): int(index) for name, index in given.items()}


def _id2label(config: PreTrainedConfig) -> dict[int, str]:
    return {int(index): str(name) for index, name in (getattr(config, "id2label", None) or {}).items()}


def require_names(config: PreTrainedConfig) -> None:
    """Refuse label names by which a label can't be told: transformers answers by `id2label`, and data is read by both.

    Raises:
        UnsupportedModelError: `label2id` and `id2label` contradict each other, an id is none of the head's, or a name
            is missing, given twice or no text.
    """
    outputs = outputs_of(config)
    by_id, by_name = _id2label(config), _label2id(config)
    for field, ids in (("id2label", by_id), ("label2id", by_name.values())):
        outside = next((index for index in ids if index not in range(outputs)), None)
        if outside is not None:
            raise UnsupportedModelError(
                f"The model's {field} has the id {outside}, but its head the outputs 0 to {outputs - 1}: correct "
                f"{field} in config.json."
            )
    owners: dict[str, int] = {}
    for index in range(outputs):
        if index not in by_id:
            raise UnsupportedModelError(f"The model's id2label has no name for output {index}: add one in config.json.")
        name = by_id[index]
        if owners.setdefault(name, index) != index:
            raise UnsupportedModelError(
                f"The model's id2label gives the outputs {owners[name]} and {index} one name, {name!a}: rename one in "
                "config.json."
            )
        if not is_unicode(name):
            raise UnsupportedModelError(
                f"The model's id2label has half a character in the name {name!a}: correct it in config.json."
            )
    of_folded: dict[str, set[int]] = {}
    for index, name in by_id.items():
        of_folded.setdefault(folded(name), set()).add(index)
    for name, index in by_name.items():
        if index not in of_folded.get(folded(name), {index}):
            other = owners.get(name, min(of_folded[folded(name)]))
            raise UnsupportedModelError(
                f"The model's label2id says {name!a} is {index}, but its id2label says {other}: correct one of them in "
                "config.json."
            )


def folded(name: str) -> str:
    """A name as it is compared where case doesn't count."""
    return name.strip().casefold()
