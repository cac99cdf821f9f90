"""First step: the retentions to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import NotMetError
from ..graph.cost import Cost
from ..graph.protect import sizes_of
from ..search.method import SPEEDS, Candidate, Context, Found
from ..search.milliseconds import Milliseconds, measure_latency, timing
from ..search.registry import METHODS
from ..system.processes import agree, from_main
from .job import Job, Log, without_nan
from .settings import Settings

__all__ = ["find", "find_stages"]


def find_stages(settings: Settings, lengths: Mapping[str, Sequence[int]], layers: int) -> dict[str, float]:
    """The stages of :func:`find`, and what each takes, in tokens through the dense encoder."""
    if settings.keep is not None:
        return {}
    stages = {}
    if settings.cost == "latency":
        stages["timing layers"] = timing(max(map(max, lengths.values())))
    stages |= METHODS.make(settings.method, settings).stages(lengths["train"], layers, len(_speeds(settings)))
    return {f"search: {stage}": weight for stage, weight in stages.items()}


def find(job: Job, log: Log) -> tuple[Sequence[Candidate], Cost]:
    """The retentions to choose from, from slow to fast, and the cost that speeds are ratios of.

    Raises:
        NotMetError: a speed that was asked for is out of reach.
    """
    fixed, flops = job.ready.fixed, job.ready.cost
    if fixed is not None:
        return (Candidate(fixed, flops.ratio(job.texts["train"], fixed), float("nan")),), flops
    with log.timed("search"):
        cost = _cost(job)
        known = job.journal.known("search")
        if known is None:
            known = _told(_search(job, cost))
            job.journal.keep("search", known)
        candidates = tuple(Candidate.from_dict(candidate) for candidate in known["candidates"])
        log.warnings += known["warnings"]
        log.history += known["history"]
        agree("keep counts", [candidate.retention.keep for candidate in candidates])
    return candidates, cost


def _speeds(settings: Settings) -> Sequence[float]:
    """The speeds to search for."""
    return settings.speeds or (SPEEDS if settings.aim is None else (settings.aim,))


def _cost(job: Job) -> Cost:
    """What the search saves: FLOPs, or milliseconds on this machine, the same in every process and when resumed."""
    if job.settings.cost == "flops":
        return job.ready.cost
    known = job.journal.known("latency")
    if known is None:
        longest = max(max(examples.lengths) for examples in job.ready.examples.values())
        known = from_main(
            lambda: measure_latency(
                job.model,
                longest,
                job.ready.template,
                progress=lambda share: job.progress("search: timing layers", share),
            ).to_dict()
        )
        job.journal.keep("latency", known)
    return Milliseconds.from_dict(known, job.ready.cost)


def _search(job: Job, cost: Cost) -> Found:
    settings, template = job.settings, job.ready.template
    method = METHODS.make(settings.method, settings)
    train = job.ready.examples["train"].dataset
    sample = job.sample
    texts = job.texts["train"] if method.counted == "train" else sizes_of(sample, template)
    speeds, served = _speeds(settings), settings.speeds
    least = max(served) if served else min(speeds)
    nothing = replace(template, keep=(0.0,) * cost.layers)
    most = cost.ratio(texts, nothing)
    found = Found(())
    if most >= least:
        context = Context(
            model=job.model,
            teacher=job.taught,
            task=job.ready.task,
            train=train,
            sample=sample,
            texts=texts,
            cost=cost,
            flops=job.ready.cost,
            template=template,
            speeds=[speed for speed in speeds if speed <= most],
            batch_size=settings.batch_size,
            progress=lambda stage, share: job.progress(f"search: {stage}", share),
            place=lambda: job.journal.place("search"),
        )
        found = method(context)
    candidates = found.candidates
    if served:
        ratios = [cost.ratio(texts, candidate.retention) for candidate in candidates]
        reached = [next((c for c, r in zip(candidates, ratios, strict=True) if r >= speed), None) for speed in served]
        candidates = [candidate for candidate in reached if candidate is not None]
        candidates = candidates if len(candidates) == len(served) else []
    if not candidates:
        raise NotMetError(
            f"A {cost.unit} of {least:g} is out of reach: one word vector left in each layer gives {most:.2f} on these "
            "texts; ask for less, or use longer texts or a model with more layers.",
            best={"retention": nothing.told(), "flops_ratio": job.ready.cost.ratio(texts, nothing)},
        )
    return replace(found, candidates=candidates if settings.aim is None else candidates[-1:])


def _told(found: Found) -> dict[str, Any]:
    """As plain data, for the journal and the report."""
    return {
        "candidates": [without_nan(candidate.to_dict()) for candidate in found.candidates],
        "warnings": list(found.warnings),
        "history": [{"stage": "search", **without_nan(entry)} for entry in found.history],
    }
