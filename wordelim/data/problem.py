"""What a model's config says that its head predicts: of what kind, and how many numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["ProblemType", "outputs_of", "problem_type"]

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]


def problem_type(config: PreTrainedConfig) -> ProblemType:
    """What the model's head predicts, in transformers' own words.

    `config.problem_type` where it is set, except that one output can't be a choice between classes; otherwise
    regression for one output and single-label classification for more.
    """
    stated = getattr(config, "problem_type", None)
    if stated == "multi_label_classification":
        return "multi_label_classification"
    if stated == "regression" or outputs_of(config) == 1:
        return "regression"
    return "single_label_classification"


def outputs_of(config: PreTrainedConfig) -> int:
    """How many logits the model gives an example."""
    return int(config.num_labels or 1)
