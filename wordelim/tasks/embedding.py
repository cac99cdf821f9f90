"""How texts become an embedding, and how two embeddings are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn import functional

__all__ = ["SIMILARITIES", "Embedding", "Pooling", "embeds"]

Pooling = Literal["mean", "cls"]
"""How an embedding is made of the last hidden states: their mean over real tokens, or that of the first token."""

# By the names that sentence-transformers has for them; the greater, the more alike.
SIMILARITIES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda first, second: (first * second).sum(-1),  # of unit vectors
    "dot": lambda first, second: (first * second).sum(-1),
    "euclidean": lambda first, second: -vector_norm(first - second, dim=-1),
    "manhattan": lambda first, second: -vector_norm(first - second, ord=1, dim=-1),
}


def embeds(name: str) -> bool:
    """Whether a model's class of this name has no head, so that what it makes is embeddings."""
    return name.endswith("Model")


@dataclass(frozen=True)
class Embedding:
    """How an embedding is made, as ``encode`` of sentence-transformers makes it of one text.

    Args:
        pooling: of the last hidden states.
        layers: modules that the pooled vector goes through, in their order; they aren't trained.
        similarity: how two are compared, by a name in ``SIMILARITIES``.
        prompt: stands before each text.
        lower_case: whether texts are read in lower case.
        max_length: tokens at which texts are cut, unless another number is asked for; None for as many as fit.
        digest: of the files that the layers were read from: embeddings of equal fields and digest are made alike.
    """

    pooling: Pooling = "mean"
    layers: tuple[nn.Module, ...] = field(default=(), compare=False)
    similarity: str = "cosine"
    prompt: str = ""
    lower_case: bool = False
    max_length: int | None = None
    digest: str = ""

    def of(self, hidden_states: Tensor, mask: Tensor) -> Tensor:
        """Of hidden states [sequences, tokens, width]: [sequences, size], as unit vectors where cosines are taken."""
        if self.pooling == "cls":
            found = hidden_states[:, 0]
        else:
            real = mask[..., None].to(hidden_states.dtype)
            found = (hidden_states * real).sum(1) / real.sum(1)
        for layer in self.layers:
            found = layer.to(found.device)(found)
        return functional.normalize(found, dim=-1) if self.similarity == "cosine" else found

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """How alike embeddings [pairs, size] are: [pairs]."""
        return SIMILARITIES[self.similarity](first, second)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without the layers themselves."""
        return {name: value for name, value in vars(self).items() if name != "layers"}
