"""What the graph pass needs to know of a model family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wordelim.errors import UnsupportedModelError

__all__ = ["HEADS", "Family", "Reads", "chooses"]

Reads = Literal["first", "all"]
"""Which word vectors a head reads: the first of each text, or all of them."""

HEADS: Mapping[str, Reads] = {
    "ForSequenceClassification": "first",
    "ForMultipleChoice": "first",
    "ForTokenClassification": "all",
    "ForQuestionAnswering": "all",
}
"""Endings of class names, and what a head of that name reads in most families."""


def chooses(model: object) -> bool:
    """Whether a model chooses among several texts, so that its inputs are [batch, choices, tokens]."""
    return type(model).__name__.endswith("ForMultipleChoice")


@dataclass(frozen=True)
class Family:
    """A model family.

    Args:
        model_type: ``config.model_type`` of the family.
        encoder: attribute of the base model that holds the encoder. The encoder takes the embeddings [batch, tokens,
            width] and the attention mask, calls transformers' attention interface once for each layer, and returns an
            output with ``last_hidden_state``.
        width: field of the config that holds the size of the embeddings that enter the encoder.
        heads: endings of the names of the classes that are served, and what their heads read. A base model without a
            head is served too; what reads its output may read all of it.
        pooling: fields of the config that change what a head of the kind "first" reads, with the values that are
            served: ``{"classifier_pooling": {"cls": "first", "mean": "all"}}``.
        own_attention: for a family whose attention doesn't go through transformers' attention interface: the name of
            its attention's class, and what stands for it while the encoder is traced. Mostly
            :func:`wordelim.adapters.written_out` makes it; else see ``mpnet.py``.
        run: called with the encoder, the embeddings and the mask in place of the encoder's forward, while it is traced.
        counts_positions: attention counts positions by itself, so that a caller's position_ids would be passed over:
            they are refused.
        positions_after_padding: positions are numbered from ``pad_token_id + 1``, as RoBERTa's are, so that the first
            rows of their table stay unused.
        final_norm: where layers normalise what they read and not what they write: the module that normalises the last
            layer's output, by its name in the base model.
        output: makes the encoder's output of ``last_hidden_state``, where its base model expects more.
    """

    model_type: str
    encoder: str = "encoder"
    width: str = "hidden_size"
    heads: Mapping[str, Reads] = field(default_factory=lambda: HEADS)
    pooling: Mapping[str, Mapping[str, Reads]] = field(default_factory=dict)
    own_attention: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    run: Callable[..., Any] | None = None
    counts_positions: bool = False
    positions_after_padding: bool = False
    final_norm: str | None = None
    output: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        for name in ("model_type", "encoder", "width"):
            if not isinstance(given := getattr(self, name), str):
                raise UnsupportedModelError(f"The Family {self.model_type!r} has {given!r} as its {name}: give a name.")
        for name in ("heads", "pooling", "own_attention"):
            inner = getattr(self, name)
            flat = name == "pooling" and _is_mapping(inner) and not all(map(_is_mapping, inner.values()))
            if flat or not _is_mapping(inner):
                what = "a dictionary of dictionaries" if name == "pooling" else "a dictionary"
                raise UnsupportedModelError(f"The Family {self.model_type!r} has {inner!r} as its {name}: give {what}.")

    @property
    def normalises_after(self) -> bool:
        """Whether the base model normalises what its encoder returns, so that a mean made inside isn't its mean."""
        return self.final_norm is not None and not self.final_norm.startswith(f"{self.encoder}.")


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)
