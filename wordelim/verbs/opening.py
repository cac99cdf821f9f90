"""Open what a user names: a device, data, a model's tokenizer, or a dense model and the one compressed from it."""

from __future__ import annotations

import os
from typing import Any

from transformers import PreTrainedModel

from ..checkpoint.directory import load, load_dense
from ..checkpoint.loading import load_tokenizer
from ..data.labels import names_of
from ..errors import CheckpointError, WordelimError

__all__ = ["open_pair", "open_tokenizer", "require_pair"]


def open_tokenizer(model_dir: str | os.PathLike[str]) -> Any:
    """The tokenizer of a model directory or hub name; CheckpointError where there is none that loads."""
    tokenizer = load_tokenizer(model_dir)
    # For a directory without one, transformers makes one without words.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise CheckpointError(f"{model_dir} has no tokenizer: save the model's own beside it with save_pretrained.")
    return tokenizer


def open_pair(
    base: str | os.PathLike[str], compressed: str | os.PathLike[str], *, speed: float | None = None
) -> tuple[PreTrainedModel, PreTrainedModel, Any]:
    """A dense model, the one that was compressed from it, and the tokenizer of both.

    Args:
        speed: one of those that ``compressed`` was made for; None for the one that its config names.

    Raises:
        CheckpointError: one of them can't be loaded, ``base`` is compressed, or ``compressed`` isn't.
        RetentionError: ``compressed`` has no such speed.
        WordelimError: they aren't one model before and after; the message says in what they differ.
    """
    models = load_dense(base), load(compressed, speed=speed)
    tokenizers = open_tokenizer(base), open_tokenizer(compressed)
    require_pair(*models, *tokenizers, names=(str(base), str(compressed)))
    return *models, tokenizers[0]


def require_pair(
    dense: PreTrainedModel,
    compressed: PreTrainedModel,
    dense_tokenizer: Any,
    compressed_tokenizer: Any,
    names: tuple[str, str] = ("The dense model", "the compressed one"),
) -> None:
    """Refuse two models that can't be one before and after compression.

    Raises:
        WordelimError: they differ in class, labels, the shape of a weight, or tokenizer.
    """
    first, second = names
    repair = "name the model that the compressed one was made from"
    if type(dense) is not type(compressed):
        classes = f"{type(dense).__name__} and {type(compressed).__name__}"
        raise WordelimError(f"{first} and {second} are of different classes ({classes}): {repair}.")
    if names_of(dense.config) != names_of(compressed.config):
        labels = " and ".join(", ".join(names_of(model.config)) for model in (dense, compressed))
        raise WordelimError(f"{first} and {second} have different labels ({labels}): {repair}.")
    shapes = [{name: tuple(w.shape) for name, w in model.state_dict().items()} for model in (dense, compressed)]
    for name in sorted({*shapes[0], *shapes[1]}):
        before, after = (of.get(name, "none") for of in shapes)
        if before != after:
            raise WordelimError(f"{first} and {second} differ in the weight {name} ({before} and {after}): {repair}.")
    if dense_tokenizer.get_vocab() != compressed_tokenizer.get_vocab():
        raise WordelimError(f"The tokenizers of {first} and {second} have different words: {repair}.")
