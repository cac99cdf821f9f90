"""A model under comparison, whatever runs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from .checkpoint import is_compressed, load, load_dense
from .data import Columns, Encoded, encode, find_columns
from .errors import UnsupportedModelError, WordelimError
from .evaluation.inference import logits_of
from .exporting.runtime import ExportedModel, is_exported
from .labels import problem_type
from .opening import check_tokenizer, check_vocabulary, move, open_tokenizer

__all__ = ["Subject", "encode_for", "open_subject", "require_same_task", "task_of"]


@dataclass(frozen=True)
class Subject:
    """A model under comparison, dense or compressed.

    Args:
        name: what the user calls it.
        config: its transformers configuration.
        tokenizer: its tokenizer.
        logits: from encoded texts to logits, [texts, outputs] fp32.
        model: the PyTorch model, for its vocabulary, cost and speed; None where it isn't one.
    """

    name: str
    config: Any
    tokenizer: Any
    logits: Callable[[datasets.Dataset], NDArray[np.float32]]
    model: PreTrainedModel | None = None


def open_subject(directory: str | os.PathLike[str], *, device: Any = None, batch_size: int = 32) -> Subject:
    """A classifier on disk, in fp32 on a device, ready to answer; or an exported program, which runs on the CPU.

    Raises:
        WordelimError: the directory is missing or damaged, or its model doesn't classify texts.
    """
    if is_exported(directory):
        program: Any = ExportedModel(directory)
        words = open_tokenizer(directory)
        check_tokenizer(words)
        return Subject(
            str(directory),
            program.config,
            words,
            lambda encoded: logits_of(program, encoded, words, batch_size=batch_size),
        )
    compressed = Path(directory).expanduser().exists() and is_compressed(directory)
    model = load(directory) if compressed else load_dense(directory)
    if not type(model).__name__.endswith("ForSequenceClassification"):
        raise UnsupportedModelError(
            f"{directory} holds a {type(model).__name__}: only *ForSequenceClassification models can be checked."
        )
    tokenizer = open_tokenizer(directory)
    check_tokenizer(tokenizer)
    move(model.float().eval(), device)
    return Subject(
        str(directory),
        model.config,
        tokenizer,
        lambda encoded: logits_of(model, encoded, tokenizer, batch_size=batch_size),
        model,
    )


def encode_for(
    subject: Subject, rows: datasets.Dataset, names: Mapping[str, str | None], max_length: int | None
) -> tuple[Columns, Encoded]:
    """Labelled texts as a subject reads them; DataError where they don't fit its task."""
    columns = find_columns(rows, text=names["text"], text_pair=names["text_pair"], label=names["label"])
    encoded = encode(rows, subject.tokenizer, columns, subject.config, max_length=max_length)
    if subject.model is not None:
        check_vocabulary(encoded.dataset, subject.model)
    return columns, encoded


def task_of(config: Any) -> tuple[str, list[str]]:
    """What a model predicts: the kind of problem, and its labels in the order of its outputs."""
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return problem_type(config), [names[index] for index in sorted(names)]


def require_same_task(
    base: Subject,
    compressed: Subject,
    rows: datasets.Dataset,
    columns: Columns,
    encoded: Encoded,
    max_length: int | None,
) -> None:
    """Refuse two models whose answers can't be compared.

    Raises:
        WordelimError: they have other labels, or give other tokens for the same text.
    """
    tasks = task_of(base.config), task_of(compressed.config)
    if tasks[0] != tasks[1]:
        first, second = (f"{', '.join(names)} ({kind.replace('_', ' ')})" for kind, names in tasks)
        raise WordelimError(
            f"{base.name} answers {first}, but {compressed.name} {second}: compare two models with the same labels."
        )
    other = encode(rows, base.tokenizer, columns, base.config, max_length=max_length).dataset
    for row, (before, after) in enumerate(zip(other["input_ids"], encoded.dataset["input_ids"], strict=True), 1):
        if list(before) != list(after):
            raise WordelimError(
                f"The tokenizers of {base.name} and {compressed.name} read row {row} differently: compare two models "
                "with the same tokenizer and the same greatest length."
            )
