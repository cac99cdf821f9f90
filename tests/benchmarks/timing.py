"""Time anew what the results of a run keep."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import datasets
from transformers import AutoTokenizer, PreTrainedModel

from wordelim import Retention, eliminate_
from wordelim.data.encode import sequences_of
from wordelim.evaluation.timing import measure_speed
from wordelim.tasks import task_for


def time_again(dense: PreTrainedModel, result: dict[str, Any], texts: datasets.Dataset) -> dict[str, Any]:
    """The speeds of a report, measured anew with its retention and settings on the weights of ``dense``."""
    settings = result["settings"]
    dense = dense.float().eval()
    compressed = deepcopy(dense)
    eliminate_(compressed, Retention.from_dict(result["retention"]))
    tokenizer = AutoTokenizer.from_pretrained(dense.name_or_path)
    task = task_for(type(dense).__name__, dense.config, tokenizer, texts, metric=settings["metric"])
    encoded = task.encode(texts, task.find_columns(texts), max_length=settings["max_length"])
    return measure_speed(
        dense,
        compressed,
        sequences_of(encoded.dataset),
        tokenizer,
        max_length=settings["max_length"] or max(encoded.lengths),
        batch_size=settings["batch_size"],
    ).to_dict()
