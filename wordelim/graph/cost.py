"""What an encoder costs, counted on its own graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..elimination.extract import FirstToken
from ..retention import Retention
from .linear import linear_of
from .splice import eliminating_encoder

__all__ = ["Cost", "Count", "Flops", "Text", "cost_of"]

Text: TypeAlias = int | tuple[int, int]
"""Tokens of a text, or these and how many of them are never dropped, where rules name tokens."""

Count = TypeVar("Count", float, NDArray[np.float64], torch.Tensor)


class Cost(ABC):
    """What an encoder costs, in some unit, as a function of the word vectors alive."""

    unit: ClassVar[str]
    """What a ratio of two costs is called."""
    layers: int
    first_token: bool
    """Whether the last layer keeps the first token alone."""

    @abstractmethod
    def entry(self, lengths: Count) -> Count:
        """Before the first layer's attention."""

    @abstractmethod
    def layer(self, layer: int, entered: Count, left: Count) -> Count:
        """From one layer's attention to the next: ``entered`` word vectors score each other, ``left`` stay."""

    def total(self, lengths: Count, kept: Sequence[Count]) -> Count:
        """Of texts of these ``lengths``, of which ``kept[j]`` word vectors leave layer j."""
        total: Any = self.entry(lengths)
        entered: Any = lengths
        for layer, left in enumerate(kept):
            total, entered = total + self.layer(layer, entered, left), left
        return total  # type: ignore[no-any-return]

    def spent(self, texts: Iterable[Text], retention: Retention | None = None) -> float:
        """On these texts without padding; by the dense encoder where ``retention`` is None."""
        total = 0.0
        for text, times in Counter(texts).items():
            length, protected = text if isinstance(text, tuple) else (text, 0)
            path = (length,) * self.layers if retention is None else self.path(length, retention, protected)
            total += times * self.total(float(length), [float(kept) for kept in path])
        return total

    def path(self, length: int, retention: Retention, protected: int = 0) -> tuple[int, ...]:
        """Rows that leave each layer, packages and the cut of the last layer included."""
        path = retention.path(length, protected)
        if retention.package:
            path = tuple(kept + (kept < length) for kept in path)
        return (*path[:-1], min(1, length)) if self.first_token else path

    def ratio(self, texts: Iterable[Text], retention: Retention) -> float:
        """What the dense encoder costs over what the compressed one does, both without padding."""
        texts = list(texts)
        return self.spent(texts) / self.spent(texts, retention)


@dataclass(frozen=True)
class Flops(Cost):
    """FLOPs of an encoder.

    Two for each multiply-add of its linear modules and of attention: the scores of all word vectors that enter a layer,
    the context of those that leave it. Inference in the packed layout on a CPU computes just that; elsewhere the kept
    rows are scored a second time. Normalisation, activations and the head, less than a percent of all, are left out.

    Args:
        per_token: FLOPs of the linear modules for each word vector that is alive after 0, 1, ... eliminations.
        width: heads times head size of attention.
        first_token: whether the last layer keeps the first token alone.
        linear: whether linear maps decide which word vectors stay, so that only these score.
    """

    unit = "FLOPs ratio"
    per_token: tuple[int, ...]
    width: int
    first_token: bool
    linear: bool = False

    @property
    def layers(self) -> int:  # type: ignore[override]
        return len(self.per_token) - 1

    def entry(self, lengths: Count) -> Count:
        return self.per_token[0] * lengths

    def layer(self, layer: int, entered: Count, left: Count) -> Count:
        scored = left if self.linear or (self.first_token and layer == self.layers - 1) else entered
        return 2.0 * self.width * entered * (scored + left) + self.per_token[layer + 1] * left


def cost_of(model: PreTrainedModel) -> Flops:
    """Count what a compressed model's encoder costs; UnsupportedModelError when the model isn't compressed."""
    encoder = eliminating_encoder(model)
    per_token, hoisted, width, first_token = [0], 0, 0, False
    for node in encoder.graph.nodes:
        if "context" in node.meta:
            per_token.append(0)
            width = int(node.meta["context"].meta["val"].shape[-1])
            first_token = isinstance(encoder.get_submodule(str(node.target)), FirstToken)
        elif (module := linear_of(encoder, node)) is not None:
            flops = 2 * module.in_features * module.out_features
            if node.meta.get("first_row"):
                hoisted += flops
            else:
                per_token[-1] += flops
    per_token[-1] += hoisted
    return Flops(tuple(per_token), width, first_token, encoder.retention.linear)
