"""Training-free search: measure how far each layer can go, then spend the loss where it saves most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import floor

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from ...graph.cost import Cost, Text
from ...graph.splice import eliminate_
from ...retention import Retention
from ...system.machine import has_fast_bf16
from ...system.progress import FAST, tokens
from ...tasks.divergence import divergence
from ..confirm import answers, confirm, first
from ..early_answers import Exits
from ..method import Candidate, Context, Found, Search, frontier, register

__all__ = ["Calibrated"]

_MEASURED = (0.5, 0.2, 0.05)
_LEVELS = np.concatenate([np.linspace(1.0, 0.1, 19), [0.07, 0.05]])
_PROBED = 128  # texts that each layer is measured on


@dataclass(frozen=True)
class Calibrated(Search):
    """Find the retentions that save most at the least divergence from the dense model; nothing is trained.

    1. For each layer and a few fractions f, drop to f at that layer alone and measure the divergence from the dense
       logits: D_j(f), smooth between what was measured, for straight lines would draw every schedule to their corners.
       Where each token is to answer, those that were dropped do so by exits (:class:`..early_answers.Exits`).
    2. A word vector of relative rank u is dropped at one layer and missed from there on. So a schedule is expected to
       cost the sum over layers of D_j(f_j) - D_j(f_(j-1)); dynamic programming finds, for a sweep of prices of a FLOP,
       the schedule that is cheapest in divergence plus price times FLOPs.
    3. For each speed the nearest schedule is measured as it is.

    At most 128 texts of the sample measure D, and at most 256 the schedules. What is found is the frontier.
    """

    def stages(self, lengths: Sequence[int], layers: int, speeds: int) -> Mapping[str, float]:
        measuring = len(_MEASURED) * layers * tokens(lengths, _PROBED) * FAST
        return {"measuring layers": measuring, **super().stages(lengths, layers, speeds)}

    def find(self, context: Context) -> Found:
        cost, texts, template = context.cost, context.texts, context.template
        cut = replace(template, keep=(0.0,) * cost.layers)
        if cost.first_token and cost.layers == 1:
            reached = cost.ratio(texts, cut) >= min(context.speeds)
            return Found((Candidate(cut, context.flops.ratio(texts, cut), 0.0),) if reached else ())
        # Behind them all one that drops whatever may be dropped, so that every speed that is possible can be reached.
        schedules = [*_schedules(_divergences(context), cost, texts, template), cut]
        nearest = [_nearest(schedules, cost, texts, speed) for speed in sorted(context.speeds)]
        found = confirm(context, [retention for retention in nearest if retention is not None])
        return Found(frontier(found, lambda candidate: cost.ratio(texts, candidate.retention)))


def _divergences(context: Context) -> NDArray[np.float64]:
    """How far the logits are from the dense ones, [layer, level], where only that layer drops, to that level."""
    model, template, cost = context.model, context.template, context.cost
    searched = range(cost.layers - 1 if cost.first_token else cost.layers)
    table = np.zeros((len(searched), len(_LEVELS)))
    eliminate_(model, template)
    dense, exits = answers(context, _PROBED), None
    if context.task.kind in ("tokens", "spans"):
        fast = has_fast_bf16(model.device)
        exits = Exits(model, context.task, first(context, _PROBED), batch_size=context.batch_size, bf16=fast)
    for layer in searched:
        measured = []
        if exits is not None:
            eliminate_(model, replace(template, keep=(1.0,) * layer + (0.0,) * (cost.layers - layer)))
            exits.fit()
        for done, fraction in enumerate(_MEASURED):
            keep = (1.0,) * layer + (fraction,) * (cost.layers - layer)
            eliminate_(model, replace(template, keep=keep))
            said = answers(context, _PROBED) if exits is None else exits.logits()
            measured.append(divergence(dense, said, context.task.kind))
            context.progress("measuring layers", (layer + (done + 1) / len(_MEASURED)) / len(searched))
        # More dropped can't be better: what looks so is noise.
        rising = np.maximum.accumulate([0.0, *measured])
        table[layer] = PchipInterpolator(-np.log([1.0, *_MEASURED]), rising)(-np.log(_LEVELS))
    # Dropping later can't be worse.
    return np.minimum.accumulate(table, axis=0)


def _retention(keep: Sequence[float], cost: Cost, template: Retention) -> Retention:
    rounded = [round(float(value), 3) for value in keep]
    return replace(template, keep=(*rounded, 0.0) if cost.first_token else tuple(rounded))


def _schedules(table: NDArray[np.float64], cost: Cost, texts: Sequence[Text], template: Retention) -> list[Retention]:
    """The cheapest schedule at each price of a FLOP, from no price to a high one."""
    layers, levels = table.shape
    lengths, protected = np.array([text if isinstance(text, tuple) else (text, 0) for text in texts]).T
    least = np.minimum(lengths, np.maximum(protected, template.protected_first))
    counts = np.maximum(np.ceil(_LEVELS[:, None] * lengths - 1e-9), least)
    counts += template.package & (counts < lengths)
    # flops[layer][before, after], as a share of the dense encoder
    total = cost.spent(texts)
    flops = [np.array([[np.sum(cost.layer(j, a, b)) for b in counts] for a in counts]) / total for j in range(layers)]
    if cost.first_token:
        flops[-1] = flops[-1] + np.array([np.sum(cost.layer(layers, b, np.ones_like(b))) for b in counts]) / total
    deeper = np.tril(np.ones((levels, levels), dtype=bool)).T  # from a level to itself or to a lower one
    found: dict[Retention, None] = {}
    for price in np.geomspace(1e-5, 1e2, 300):
        best = np.full(levels, np.inf)
        best[0] = 0.0
        choices = []
        for j in range(layers):
            lost = table[j][None, :] - table[j][:, None]
            step = np.where(deeper, best[:, None] + lost + price * flops[j], np.inf)
            choices.append(step.argmin(0))
            best = step.min(0)
        level = int(best.argmin())
        keep = []
        for choice in reversed(choices):
            keep.append(_LEVELS[level])
            level = int(choice[level])
        found[_retention(keep[::-1], cost, template)] = None
    return list(found)


def _nearest(schedules: Sequence[Retention], cost: Cost, texts: Sequence[Text], speed: float) -> Retention | None:
    """The slowest schedule of at least this speed, pulled to it along the line to the next slower schedule."""
    rated = sorted((cost.ratio(texts, schedule), schedule.keep, schedule) for schedule in schedules)
    for (slow_ratio, _, slow), (fast_ratio, _, fast) in pairwise([(1.0, (), rated[0][2]), *rated]):
        if fast_ratio >= speed:
            if slow_ratio >= fast_ratio or slow is fast:
                return fast
            low, high = 0.0, 1.0
            for _ in range(12):
                middle = (low + high) / 2
                keep = [a + (b - a) * middle for a, b in zip(slow.keep, fast.keep, strict=True)]
                fast_enough = cost.ratio(texts, replace(slow, keep=tuple(keep))) >= speed
                low, high = (low, middle) if fast_enough else (middle, high)
            keep = [a + (b - a) * high for a, b in zip(slow.keep, fast.keep, strict=True)]
            rounded = replace(slow, keep=tuple(round(value, 3) for value in keep))
            if cost.ratio(texts, rounded) >= speed:
                return rounded
            return replace(slow, keep=tuple(floor(1000 * value + 1e-9) / 1000 for value in keep))
    return None


register("calibrated", Calibrated)
