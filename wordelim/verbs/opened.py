"""A model on disk, whatever runs it: dense, compressed or exported."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import datasets
import torch
import transformers
from numpy.typing import NDArray

from ..checkpoint.directory import is_compressed, load, load_dense
from ..checkpoint.loading import load_tokenizer
from ..checkpoint.sentence_transformers import companions, embedding_of
from ..errors import ExportError, WordelimError
from ..evaluation.examples import Examples, pose
from ..evaluation.inference import logits_of
from ..exporting.runtime import ExportedModel, is_exported
from ..graph.cost import Cost, cost_of
from ..graph.splice import eliminate_, retention_of
from ..retention import Retention
from ..system.machine import move
from ..tasks.embedding import Embedding

__all__ = ["Kind", "Opened", "open_model"]

Kind = Literal["dense", "compressed", "exported"]


@dataclass(frozen=True)
class Opened:
    """A model on disk, opened.

    What else stands in its directory is read when it is first asked for.

    Args:
        name: what the user calls it: a directory or a hub name.
        kind: of what is there.
        model: the PyTorch model; of an exported directory its program, which is called as the model was.
    """

    name: str
    kind: Kind
    model: Any

    @property
    def config(self) -> Any:
        """Its transformers configuration."""
        return self.model.config

    @property
    def head(self) -> str:
        """The name of the model's class."""
        if self.kind == "exported":
            return str((self.config.architectures or [""])[0])
        return type(self.model).__name__

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer; CheckpointError where there is none that loads."""
        return load_tokenizer(self.name)

    @cached_property
    def companions(self) -> Mapping[str, bytes]:
        """The files of sentence-transformers beside it; CheckpointError where they are damaged."""
        return companions(self.name)

    @cached_property
    def embedding(self) -> Embedding:
        """How it makes an embedding, where it has no head; WordelimError where that way isn't served."""
        return embedding_of(self.companions, self.head)

    @property
    def retention(self) -> Retention | None:
        """What it keeps; None of a dense model."""
        if self.kind == "exported":
            kept: Retention | None = self.model.retention
            return kept
        return retention_of(self.model) if self.kind == "compressed" else None

    @property
    def runtime(self) -> str:
        """What runs it: ``eager`` PyTorch, or the format of a program."""
        return str(self.model.format) if self.kind == "exported" else "eager"

    @property
    def precision(self) -> str:
        """Of its weights; ExportError where an exported directory doesn't say it."""
        return str(self.model.precision if self.kind == "exported" else self.model.dtype).removeprefix("torch.")

    def pose(
        self,
        rows: datasets.Dataset,
        names: Mapping[str, Any] = MappingProxyType({}),
        *,
        need_label: bool = True,
        **given: Any,
    ) -> Examples:
        """Ask of rows what its head is asked; ``names`` and ``given`` as :func:`wordelim.evaluation.examples.pose`."""
        return pose(
            self.head,
            self.config,
            self.tokenizer,
            rows,
            names={**names, "need_label": need_label},
            model=None if self.kind == "exported" else self.model,
            embedding=self.embedding,
            part="test" if need_label else None,
            **given,
        )

    def logits(
        self, examples: Examples, *, batch_size: int, progress: Callable[[float], None] = lambda share: None
    ) -> NDArray[Any]:
        """What it says to examples; see :func:`wordelim.evaluation.inference.logits_of`.

        Args:
            progress: called with the share of the examples that is done.

        Raises:
            AnswersError: a logit is NaN or infinite.
        """
        texts = examples.dataset
        told = lambda done: progress(done / len(texts))  # noqa: E731
        return logits_of(self.model, texts, examples.task, batch_size=batch_size, progress=told, who=self.name)

    def cost(self) -> Cost:
        """FLOPs of its encoder, rewritten; UnsupportedModelError where it can't be."""
        model = self.model
        if self.kind == "exported":  # there is no graph of modules in it: that of its class, with random weights
            model = getattr(transformers, self.head)(copy.deepcopy(self.config))
        if self.kind != "compressed":
            everything = Retention.keep_all(max(1, getattr(self.config, "num_hidden_layers", 0)))
            model = eliminate_(copy.deepcopy(model), self.retention or everything)
        return cost_of(model)


def open_model(
    path: str | os.PathLike[str],
    *kinds: Kind,
    device: torch.device | None = None,
    dtype: torch.dtype | str = "auto",
    speed: float | None = None,
) -> Opened:
    """Open a model directory, or a dense model by its hub name; a program runs on the CPU, with PyTorch's threads.

    Args:
        kinds: what may be there; any kind where none is named.
        device, dtype: of a PyTorch model.
        speed: one of those that a compressed model was made for; None for the one that its config names.

    Raises:
        CheckpointError: the directory is missing or damaged, or holds another kind than it may.
        ExportError: a program can't be run.
        WordelimError: there is no such speed, or the model isn't supported.
    """
    kinds = kinds or ("dense", "compressed", "exported")
    if "exported" in kinds and is_exported(path):
        if speed is not None:
            raise WordelimError(f"A program has one speed: leave {speed:g} out, or export the model at that speed.")
        return Opened(str(path), "exported", ExportedModel(path, threads=torch.get_num_threads()))
    if "compressed" in kinds and ("dense" not in kinds or is_compressed(path)):
        opened = Opened(str(path), "compressed", load(path, dtype=dtype, speed=speed))
    elif speed is not None:
        raise ExportError(f"{path} isn't compressed, so it has no speed {speed:g}: leave the speed out.")
    else:
        opened = Opened(str(path), "dense", load_dense(path, dtype=dtype))
    if device is not None:
        move(opened.model, device)
    return opened
