"""How far word vectors can be dropped without training: searched, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import datasets
from transformers import PreTrainedModel

from ..data.encode import lengths_of
from ..evaluation.examples import Examples
from ..evaluation.inference import logits_of
from ..evaluation.statistics import paired_bootstrap
from ..evaluation.timing import TIMED
from ..graph.cost import Cost, cost_of
from ..graph.splice import eliminate_, eliminating_encoder
from ..retention import Retention
from ..search.method import SPEEDS, Candidate, Context
from ..search.methods.calibrated import Calibrated
from ..search.significance import RANKING, linear_maps, may_rank, ranking_stages
from ..system.progress import FAST, Progress, expect, tokens
from .settings import ProbeSettings
from .worth import WORTH

__all__ = ["Found", "measure", "probe_stages", "search"]


class Found(NamedTuple):
    """What a search came to.

    Args:
        keep_all: what drops nothing, ranked and with packages as the candidates are.
        cost: of retentions like it.
        candidates: from slow to fast; none where there is too little to drop.
    """

    keep_all: Retention
    cost: Cost
    candidates: Sequence[Candidate]


def search(
    model: PreTrainedModel,
    fast: PreTrainedModel,
    examples: Examples,
    sample: datasets.Dataset,
    settings: ProbeSettings,
    progress: Progress,
) -> Found:
    """What may be dropped of a dense model, on a sample; ``fast``, a copy of it that eliminates, is changed."""
    keep_all = eliminating_encoder(fast).retention
    keep_all = replace(keep_all, package=not keep_all.restore)
    cost = cost_of(eliminate_(fast, keep_all))
    searched = cost.ratio(lengths_of(sample), Retention((0.0,) * cost.layers)) > WORTH
    ranked = searched and may_rank(examples.task, cost)
    expect(progress, probe_stages(examples.lengths, len(sample), cost.layers, searched=searched, ranked=ranked))
    if not searched:
        return Found(keep_all, cost, ())
    if ranked:
        maps = linear_maps(
            model, examples.task, sample, keep_all, seed=settings.seed, progress=lambda share: progress(RANKING, share)
        )
        keep_all = replace(keep_all, significance=maps)
        cost = cost_of(eliminate_(fast, keep_all))
    context = Context.of(
        model,
        examples.task,
        sample,
        template=keep_all,
        flops=cost,
        batch_size=settings.batch_size,
        progress=lambda stage, share: progress(f"search: {stage}", share),
    )
    return Found(keep_all, cost, Calibrated()(context).candidates)


def probe_stages(
    lengths: Sequence[int], examples: int, layers: int, *, searched: bool, ranked: bool
) -> dict[str, float]:
    """The stages of a probe, and what each takes, in tokens through the dense encoder.

    Args:
        lengths: tokens of every text.
        examples: texts that are measured on.
        searched: whether there is anything to search.
        ranked: whether linear maps decide which word vectors stay.
    """
    speeds = len(SPEEDS) if searched else 0
    stages = ranking_stages(lengths, examples) if ranked else {}
    if searched:
        search = Calibrated().stages(lengths, layers, speeds)
        stages |= {f"search: {stage}": weight for stage, weight in search.items()}
        stages["measuring what is lost"] = speeds * tokens(lengths, examples) * FAST
    return {**stages, "measuring speed": 4 * tokens(lengths, TIMED) * (2 + speeds * FAST)}


def measure(
    dense: PreTrainedModel,
    fast: PreTrainedModel,
    candidates: Sequence[Candidate],
    examples: Examples,
    sample: datasets.Dataset,
    settings: ProbeSettings,
    progress: Progress,
) -> tuple[float, list[dict[str, Any]]]:
    """The points of the dense model, and what each candidate loses of them without retraining; ``fast`` is changed."""
    task, metric = examples.task, examples.metric

    def answers(model: PreTrainedModel, who: str) -> Any:
        logits = logits_of(model, sample, task, batch_size=settings.batch_size, who=who)
        return task.answers(metric, logits, sample)

    truth, judged, before = task.truth(sample), metric.of_answers(), answers(dense, "The dense model")
    headroom = []
    for done, candidate in enumerate(candidates, start=1):
        eliminate_(fast, candidate.retention)
        after = answers(fast, "The model with word vectors dropped")
        lost = paired_bootstrap(judged, before, after, truth, seed=settings.seed)
        ratio, drop = round(candidate.flops_ratio, 3), round(lost.drop, 3)
        headroom.append({**candidate.to_dict(), "flops_ratio": ratio, "drop": drop, "drop_interval_95": lost.ends})
        progress("measuring what is lost", done / len(candidates))
    return round(judged(before, truth), 3), headroom
