"""Before the search: what decides which word vectors stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..graph.cost import cost_of
from ..graph.splice import eliminate_, restore_
from ..retention import Retention
from ..search.significance import RANKING, linear_maps, ranking_stages
from ..system.processes import agree
from .job import Job, Log
from .settings import Settings

__all__ = ["rank", "rank_stages"]


def rank_stages(settings: Settings, lengths: Mapping[str, Sequence[int]], ranked: bool) -> dict[str, float]:
    """The stages of :func:`rank`, and what each takes, in tokens through the dense encoder."""
    if settings.significance != "linear" or not ranked:
        return {}
    return ranking_stages(lengths["train"], settings.search_examples)


def rank(job: Job, log: Log) -> Job:
    """The same job, whose retentions have linear maps where they are asked for and the head reads the first token."""
    settings, ready = job.settings, job.ready
    if not rank_stages(settings, {"train": ready.examples["train"].lengths}, ready.ranked):
        return job
    with log.timed("significance"):
        known = job.journal.known("search")  # what it found has the maps already
        maps: tuple[str, ...] | Literal["attention"]
        if known is None:
            maps = linear_maps(
                job.model,
                ready.task,
                job.sample,
                ready.template,
                seed=settings.seed,
                progress=lambda share: job.progress(RANKING, share),
            )
        else:
            maps = Retention.from_dict(known["candidates"][0]["retention"]).significance
        agree("linear maps", maps)
    template = replace(ready.template, significance=maps)
    fixed = None if ready.fixed is None else replace(ready.fixed, significance=template.significance)
    cost = cost_of(eliminate_(job.model, template))
    restore_(job.model)
    return replace(job, ready=replace(ready, template=template, fixed=fixed, cost=cost))
