"""Measure retentions as they are: under hard extraction, on the dense weights."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np
from numpy.typing import NDArray

from ..evaluation.inference import logits_of
from ..graph.splice import eliminate_
from ..retention import Retention
from ..system.machine import has_fast_bf16
from ..tasks.divergence import divergence
from .method import CONFIRMED, Candidate, Context

__all__ = ["answers", "confirm", "first"]


def answers(context: Context, most: int) -> NDArray[np.float32]:
    """Logits of the model, as it is, on the first texts of the sample, in bf16 where that is faster."""
    model, sample = context.model, first(context, most)
    bf16 = has_fast_bf16(model.device)
    return logits_of(model, sample, context.task, batch_size=context.batch_size, bf16=bf16)


def first(context: Context, most: int) -> datasets.Dataset:
    """At most so many texts of the sample."""
    return context.sample.select(range(min(most, len(context.sample))))


def confirm(context: Context, retentions: Sequence[Retention]) -> list[Candidate]:
    """Measure how far the logits of each retention are from the dense ones, and its ratio; in their order."""
    found: list[Candidate] = []
    eliminate_(context.model, context.template)
    dense = answers(context, CONFIRMED)
    for retention in retentions:
        eliminate_(context.model, retention)
        far = divergence(dense, answers(context, CONFIRMED), context.task.kind)
        found.append(Candidate(retention, context.flops.ratio(context.texts, retention), far))
        context.progress("confirming", len(found) / len(retentions))
    return found
