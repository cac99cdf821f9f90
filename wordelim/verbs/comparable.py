"""Whether two models can be compared: as one model before and after compression, or by what they answer."""

from __future__ import annotations

import re
from typing import Any

from ..data.label_names import names_of
from ..data.problem import problem_type
from ..errors import ExportError, WordelimError
from ..evaluation.examples import Examples, check_tokenizer
from ..tasks.similarity import Similarity
from .opened import Opened

__all__ = ["label_names", "require_one_model", "require_one_task"]

_HEAD = re.compile(r"^.*?(?=For[A-Z]|Model$)")  # what stands before the head in the name of a class


def require_one_model(base: Opened, compressed: Opened) -> None:
    """Refuse two models that can't be one before and after compression, each as PyTorch has it or exported.

    Raises:
        ExportError: a program was exported from the other one.
        WordelimError: they differ in class, labels, the shape of a weight, or tokenizer.
    """
    first, second = base.name, compressed.name
    repair = "name the model that the compressed one was made from"
    if base.retention is not None:
        raise ExportError(f"{first} is compressed: name the dense model, or one exported from it, first.")
    if compressed.retention is None:
        raise ExportError(f"{second} was exported dense: name one that was exported from a compressed model.")
    if base.head != compressed.head:
        raise WordelimError(
            f"{first} and {second} are of different classes ({base.head} and {compressed.head}): {repair}."
        )
    if names_of(base.config) != names_of(compressed.config):
        labels = " and ".join(", ".join(names_of(side.config)) for side in (base, compressed))
        raise WordelimError(f"{first} and {second} have different labels ({labels}): {repair}.")
    shapes = [
        {name: tuple(weight.shape) for name, weight in side.model.state_dict().items()}
        for side in (base, compressed)
        if side.kind != "exported"
    ]
    for name in sorted({*shapes[0], *shapes[1]} if len(shapes) == 2 else ()):
        before, after = (of.get(name, "none") for of in shapes)
        if before != after:
            raise WordelimError(f"{first} and {second} differ in the weight {name} ({before} and {after}): {repair}.")
    if base.tokenizer.get_vocab() != compressed.tokenizer.get_vocab():
        raise WordelimError(f"The tokenizers of {first} and {second} have different words: {repair}.")


def require_one_task(base: Opened, compressed: Opened, examples: Examples) -> None:
    """Refuse two models whose answers can't be compared.

    Args:
        examples: what ``compressed`` is asked.

    Raises:
        WordelimError: they have other heads or labels, make embeddings in other ways, or give other tokens for the same
            text.
    """
    check_tokenizer(base.tokenizer)
    heads = [_HEAD.sub("", side.head) for side in (base, compressed)]
    if heads[0] != heads[1]:
        raise WordelimError(
            f"{base.name} is a {base.head}, but {compressed.name} a {compressed.head}: compare two models with one "
            "head."
        )
    answers = [(problem_type(side.config), label_names(side.config)) for side in (base, compressed)]
    if answers[0] != answers[1]:
        first, second = (f"{', '.join(names)} ({kind.replace('_', ' ')})" for kind, names in answers)
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
    more = (base.embedding,) if isinstance(examples.task, Similarity) else ()
    task = type(examples.task)(base.config, base.tokenizer, *more)
    other = task.encode(examples.rows, examples.columns, max_length=examples.max_length).dataset
    for row, (ids, expected) in enumerate(zip(other["input_ids"], examples.dataset["input_ids"], strict=True), 1):
        if list(ids) != list(expected):
            raise WordelimError(
                f"The tokenizers of {base.name} and {compressed.name} read row {row} differently: compare two models "
                "with the same tokenizer and the same greatest length."
            )


def label_names(config: Any) -> list[str]:
    """What a model answers: its labels in the order of its outputs."""
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return [names[index] for index in sorted(names)]
