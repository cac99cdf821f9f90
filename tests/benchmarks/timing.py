"""Time anew what the results of a run keep."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import datasets
import torch
from transformers import AutoTokenizer, PreTrainedModel

from wordelim import Retention, eliminate_
from wordelim.elimination.significance import to_text
from wordelim.evaluation.examples import pose
from wordelim.evaluation.timing import measure_speed


def time_again(dense: PreTrainedModel, result: dict[str, Any], texts: datasets.Dataset) -> dict[str, Any]:
    """The speeds of a report, measured anew with its retention and settings on the weights of ``dense``.

    A report doesn't hold the numbers of linear maps: others take as long.
    """
    settings = result["settings"]
    dense = dense.float().eval()
    compressed = deepcopy(dense)
    retention = dict(result["retention"])
    if retention.get("significance") == "linear":
        retention["significance"] = [to_text(torch.randn(dense.config.hidden_size)) for _ in retention["keep"]]
    eliminate_(compressed, Retention.from_dict(retention))
    tokenizer = AutoTokenizer.from_pretrained(dense.name_or_path)
    given = {"metric": settings["metric"], "max_length": settings["max_length"]}
    examples = pose(type(dense).__name__, dense.config, tokenizer, texts, **given)
    return measure_speed(
        dense,
        compressed,
        examples.sequences,
        tokenizer,
        max_length=examples.width,
        batch_size=settings["batch_size"],
    )
