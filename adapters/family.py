"""What the graph pass needs to know of a model family."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Family"]


@dataclass(frozen=True)
class Family:
    """A model family.

    Args:
        model_type: ``config.model_type`` of the family.
        encoder: attribute of the base model that holds the encoder. The encoder takes the embeddings [batch, tokens,
            width] and the attention mask, calls transformers' attention interface once for each layer, and returns an
            output with ``last_hidden_state``.
        width: field of the config that holds the size of the embeddings that enter the encoder.
        first_token_heads: endings of the class names whose head reads the first token alone.
    """

    model_type: str
    encoder: str = "encoder"
    width: str = "hidden_size"
    first_token_heads: tuple[str, ...] = ("ForSequenceClassification",)
