"""A model under comparison, whatever runs it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..checkpoint.directory import is_compressed, load, load_dense
from ..checkpoint.sentence_transformers import companions, embedding_of
from ..data.columns import Columns
from ..data.encode import Encoded
from ..data.labels import problem_type
from ..data.usable import Skipped
from ..errors import WordelimError
from ..evaluation.examples import check_tokenizer, check_vocabulary, encode_usable
from ..evaluation.inference import logits_of
from ..exporting.runtime import ExportedModel, is_exported
from ..system.machine import move
from ..tasks import Task, task_for
from ..tasks.embedding import Embedding
from ..tasks.metrics import ComputeMetrics
from ..tasks.similarity import Similarity
from .opening import open_tokenizer

__all__ = ["Subject", "encode_for", "open_subject", "require_same_task", "task_of"]


_HEAD = re.compile(r"^.*?(?=For[A-Z]|Model$)")  # what stands before the head in the name of a class

Answering: TypeAlias = Callable[[Task, datasets.Dataset, Callable[[int], None]], NDArray[np.float32]]


@dataclass(frozen=True)
class Subject:
    """A model under comparison, dense or compressed.

    Args:
        name: what the user calls it.
        head: the name of its class.
        config: its transformers configuration.
        tokenizer: its tokenizer.
        logits: from a task, encoded texts and what is told how many are done to logits; see
            :func:`wordelim.evaluation.inference.logits_of`.
        embedding: how it makes one, where it has no head.
        model: the PyTorch model, for its vocabulary, cost and speed; None where it isn't one.
    """

    name: str
    head: str
    config: Any
    tokenizer: Any
    logits: Answering
    embedding: Embedding = field(default_factory=Embedding)
    model: PreTrainedModel | None = None


def open_subject(directory: str | os.PathLike[str], *, device: Any = None, batch_size: int = 32) -> Subject:
    """A model on disk, in fp32 on a device, ready to answer; or an exported program, which runs on the CPU.

    Raises:
        WordelimError: the directory is missing or damaged.
    """
    if is_exported(directory):
        program: Any = ExportedModel(directory)
        words = open_tokenizer(directory)
        check_tokenizer(words)
        head = str((program.config.architectures or [""])[0])
        return Subject(
            str(directory),
            head,
            program.config,
            words,
            _answering(program, directory, batch_size),
            embedding_of(companions(directory), head),
        )
    compressed = is_compressed(directory)
    model = load(directory) if compressed else load_dense(directory)
    tokenizer = open_tokenizer(directory)
    check_tokenizer(tokenizer)
    move(model.float().eval(), device)
    return Subject(
        str(directory),
        type(model).__name__,
        model.config,
        tokenizer,
        _answering(model, directory, batch_size),
        embedding_of(companions(directory), type(model).__name__),
        model,
    )


def _answering(model: Any, directory: str | os.PathLike[str], batch_size: int) -> Answering:
    def logits(task: Task, encoded: datasets.Dataset, progress: Callable[[int], None]) -> NDArray[np.float32]:
        return logits_of(model, encoded, task, batch_size=batch_size, progress=progress, who=str(directory))

    return logits


def encode_for(
    subject: Subject,
    rows: datasets.Dataset,
    names: Mapping[str, Any],
    max_length: int | None,
    metric: str | ComputeMetrics | None = None,
    skipped: Skipped | None = None,
) -> tuple[Task, Columns, datasets.Dataset, Encoded]:
    """What a subject is asked, and the labelled texts that can be used, as they are and as it reads them.

    Args:
        skipped: takes the rows that can't be used; None refuses them.

    Raises:
        WordelimError: they don't fit its task.
    """
    task = task_for(subject.head, subject.config, subject.tokenizer, rows, metric=metric, embedding=subject.embedding)
    columns = task.find_columns(rows, **names)
    rows, encoded = encode_usable(task, rows, columns, max_length=max_length, part="test", skipped=skipped)
    if subject.model is not None:
        check_vocabulary(encoded.dataset, subject.model)
    return task, columns, rows, encoded


def task_of(config: Any) -> tuple[str, list[str]]:
    """What a model predicts: the kind of problem, and its labels in the order of its outputs."""
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return problem_type(config), [names[index] for index in sorted(names)]


def require_same_task(
    base: Subject,
    compressed: Subject,
    rows: datasets.Dataset,
    task: Task,
    columns: Columns,
    encoded: Encoded,
    max_length: int | None,
) -> None:
    """Refuse two models whose answers can't be compared.

    Raises:
        WordelimError: they have other labels, or give other tokens for the same text.
    """
    heads = [_HEAD.sub("", subject.head) for subject in (base, compressed)]
    if heads[0] != heads[1]:
        raise WordelimError(
            f"{base.name} is a {base.head}, but {compressed.name} a {compressed.head}: compare two models with one "
            "head."
        )
    tasks = task_of(base.config), task_of(compressed.config)
    if tasks[0] != tasks[1]:
        first, second = (f"{', '.join(names)} ({kind.replace('_', ' ')})" for kind, names in tasks)
        raise WordelimError(
            f"{base.name} answers {first}, but {compressed.name} {second}: compare two models with the same labels."
        )
    if base.embedding != compressed.embedding:
        pairs = (base.embedding.to_dict(), compressed.embedding.to_dict())
        name = next(name for name, value in pairs[0].items() if pairs[1][name] != value)
        raise WordelimError(
            f"{base.name} and {compressed.name} make embeddings in different ways ({name}: {pairs[0][name]!r} and "
            f"{pairs[1][name]!r}): give both the same files of sentence-transformers."
        )
    more = (compressed.embedding,) if isinstance(task, Similarity) else ()
    other = type(task)(base.config, base.tokenizer, *more).encode(rows, columns, max_length=max_length).dataset
    for row, (before, after) in enumerate(zip(other["input_ids"], encoded.dataset["input_ids"], strict=True), 1):
        if list(before) != list(after):
            raise WordelimError(
                f"The tokenizers of {base.name} and {compressed.name} read row {row} differently: compare two models "
                "with the same tokenizer and the same greatest length."
            )
