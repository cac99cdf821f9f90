"""Open what a user names: a device, data, a model's tokenizer, or a dense model and the one compressed from it."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import datasets
import pyarrow.compute
import torch
from transformers import PreTrainedModel

from .checkpoint import load, load_dense
from .distributed import local_rank, processes
from .errors import CheckpointError, DataError, WordelimError
from .labels import names_of
from .loading import load_tokenizer
from .reading import read
from .rows import Skipped
from .vetting import short

__all__ = [
    "Data",
    "check_tokenizer",
    "check_vocabulary",
    "move",
    "open_data",
    "open_device",
    "open_pair",
    "open_tokenizer",
    "require_pair",
]

Data: TypeAlias = datasets.Dataset | str | os.PathLike[str]
"""A data set, or what `wordelim.reading.read` reads one from."""


def open_data(
    source: Data, *, delimiter: str | None = None, encoding: str | None = None, skipped: Skipped | None = None
) -> datasets.Dataset:
    """The data set itself, or what is read from a path or a hub name; see :func:`wordelim.reading.read`."""
    if isinstance(source, datasets.Dataset):
        return source
    return read(source, delimiter=delimiter, encoding=encoding, skipped=skipped)


def open_device(name: str | torch.device | None) -> torch.device:
    """The device of this name; None for the accelerator that is there, else the processor.

    Raises:
        WordelimError: there is no such device here.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is not None and processes() > 1:  # each process has a device of its own
        found = torch.device(found.type, local_rank())
        torch.accelerator.set_device_index(found.index)
    if name is None:
        return found or torch.device("cpu")
    usable = "cpu" if found is None else f"cpu or {found.type}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise WordelimError(f"Device {str(name)!r} is unknown: use {usable}.") from error
    if device.type != "cpu" and (found is None or device.type != found.type):
        raise WordelimError(f"Device {str(name)!r} isn't available here: use {usable}.")
    if device.index:
        raise WordelimError(
            f"Device {str(name)!r} can't be chosen by its number: use {device.type}, and make that one visible alone, "
            f"as with CUDA_VISIBLE_DEVICES={device.index}."
        )
    return found if found is not None and device.type == found.type else device


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


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse a tokenizer whose batches a compressed model can't take: DataError."""
    if getattr(tokenizer, "padding_side", "right") != "right":
        raise DataError(
            "The tokenizer pads on the left, but the head reads position 0: set padding_side to 'right' (in "
            "tokenizer_config.json)."
        )
    names = list(getattr(tokenizer, "model_input_names", ()) or ())
    if names[:1] != ["input_ids"] or "attention_mask" not in names:
        raise DataError(
            f"The tokenizer's model_input_names are {short(names)}, so that texts are padded without a mask: set them "
            'to ["input_ids", "attention_mask"] (in tokenizer_config.json).'
        )
    longest = getattr(tokenizer, "model_max_length", None)
    if longest is not None and not (isinstance(longest, (int, float)) and longest >= 1):
        raise DataError(
            f"The tokenizer's model_max_length is {short(longest)}: set it to a number of tokens (in "
            "tokenizer_config.json)."
        )
    if tokenizer.pad_token_id is None:
        raise DataError("The tokenizer has no padding token: give it the one that the model was trained with.")


def check_vocabulary(encoded: datasets.Dataset, model: PreTrainedModel) -> None:
    """Refuse token ids that the model doesn't know: DataError."""
    largest = pyarrow.compute.max(
        pyarrow.compute.list_flatten(encoded.data.column("input_ids"), recursive=True)
    ).as_py()
    known = model.get_input_embeddings().num_embeddings
    if largest >= known:
        raise DataError(
            f"The tokenizer gives the token id {largest}, but the model knows {known} tokens: use the tokenizer that "
            "the model was trained with."
        )


def move(model: PreTrainedModel, to: Any) -> PreTrainedModel:
    """``model.to(to)``, whose types in transformers are too narrow."""
    return model.to(to)  # type: ignore[no-any-return]
