"""What a compressed model's speed is made of: no padding, the cut of the last layer, and dropped word vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.cost import Cost
from ..graph.protect import sizes_in
from ..retention import Retention
from .timing import Batch, Forward, Workload, interleave

__all__ = ["speedups"]

# A total factor nearer to 1 than this is noise, and has no parts.
_GAIN = 1.02


def speedups(
    forwards: Mapping[str, Forward],
    work: Workload,
    cost: Cost,
    retention: Retention,
    *,
    rounds: int,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Time the dense model, the rewritten one that drops nothing, and the compressed one, interleaved.

    Args:
        forwards: ``dense``, the dense model; ``keep-all``, the same rewritten, with nothing dropped: no padding (in the
            packed layout) and the last layer cut; ``compressed``. One of the last two may be missing: without
            ``compressed``, ``keep-all`` is judged; without ``keep-all``, there are no factors.
        work: batches; where they hold one text each, nothing is padded but in ``fixed``.
        cost: FLOPs of the rewritten encoder.
        retention: what the judged model keeps.
        rounds: how often each is timed.

    Returns:
        ``texts_per_second`` and, for batches of one text, ``milliseconds`` (median and 95th percentile over texts) of
        every run; ``padding``, positions computed by the dense model for each real token; and ``against`` each
        baseline: the ``speedup`` (median over rounds and quartiles), the ``flops_ratio``, their quotient
        ``efficiency``, the ``factors`` whose product the speed-up is, and ``padding_share``, the part of the gain (in
        logarithms) that is padding not computed.

        Baselines: ``fixed``, ``dynamic``, ``unpadded`` as in :class:`~wordelim.evaluation.timing.Workload`, and
        ``keep-all``: the rewritten model that drops nothing, on the batches of ``dynamic``. The last is the hardest: it
        has no padding and the cut of the last layer too, so what is left is won by dropping word vectors.
    """
    single = all(len(batch["attention_mask"]) == 1 for batch in work.dynamic)
    real = "unpadded" if single else "dynamic"
    runs: dict[str, tuple[Forward, Sequence[Batch]]] = {"dense fixed": (forwards["dense"], work.fixed)}
    for name, forward in forwards.items():
        runs[f"{name} {real}"] = (forward, work.dynamic)
        if not single:
            runs[f"{name} unpadded"] = (forward, work.unpadded)
    seconds = interleave(runs, rounds, progress=progress)
    totals = {name: taken.sum(1) for name, taken in seconds.items()}
    judged = "compressed" if "compressed" in forwards else "keep-all"
    everything = replace(retention, keep=(1.0,) * len(retention.keep), kind="fraction")
    sizes, even = (
        [size for b in given for size in sizes_in(b["input_ids"], b["attention_mask"], retention)]
        for given in (work.dynamic, work.dynamic if single else work.unpadded)
    )
    fast = f"{judged} {real}"
    # Baseline: what it is timed on, FLOPs of that, what is judged, the sizes of its texts.
    baselines = {
        "fixed": ("dense fixed", cost.spent(width for b in work.fixed for width in _widths(b)), fast, sizes),
        "dynamic": ("dense dynamic", cost.spent(width for b in work.dynamic for width in _widths(b)), fast, sizes),
        "unpadded": ("dense unpadded", cost.spent(even), f"{judged} unpadded", even),
        "keep-all": (f"keep-all {real}", cost.spent(sizes, everything), fast, sizes),
    }
    against: dict[str, dict[str, Any]] = {}
    for name, (slow, flops, fast, judged_on) in baselines.items():
        if slow not in runs or slow == fast:
            continue
        ratios = totals[slow] / totals[fast]
        speedup, flops_ratio = float(np.median(ratios)), flops / cost.spent(judged_on, retention)
        against[name] = {
            "speedup": _spread(ratios),
            "flops_ratio": round(flops_ratio, 3),
            "efficiency": round(speedup / flops_ratio, 3),
        }
        if name in ("fixed", "dynamic") and "keep-all" in forwards:
            parts = {"last_layer": float(np.median(totals["dense unpadded"] / totals["keep-all unpadded"]))}
            if judged == "compressed":
                parts["dropping"] = float(np.median(totals[f"keep-all {real}"] / totals[fast]))
            padding = speedup / math.prod(parts.values())
            against[name]["factors"] = {part: round(value, 3) for part, value in {"padding": padding, **parts}.items()}
            share = math.log(padding) / math.log(speedup) if speedup > _GAIN else None
            against[name]["padding_share"] = None if share is None else round(share, 3)
    result: dict[str, Any] = {
        "texts": len(work.lengths),
        "batches": len(work.dynamic),
        "padding": {
            name: round(sum(batch["attention_mask"].numel() for batch in given) / sum(work.lengths), 3)
            for name, given in (("fixed", work.fixed), ("dynamic", work.dynamic))
        },
        "texts_per_second": {name: _spread(len(work.lengths) / total) for name, total in totals.items()},
        "against": against,
    }
    if single:
        result["milliseconds"] = {name: _over_texts(taken) for name, taken in seconds.items()}
    return result


def _widths(batch: Batch) -> list[int]:
    texts, width = batch["attention_mask"].shape
    return [width] * texts


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": round(float(median), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def _over_texts(seconds: NDArray[np.float64]) -> dict[str, float]:
    each = 1000 * np.median(seconds, axis=0)
    return {"median": round(float(np.median(each)), 3), "p95": round(float(np.quantile(each, 0.95)), 3)}
