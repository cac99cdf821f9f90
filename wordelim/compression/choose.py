"""Second step: which of the candidates the model is left at, retrained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..graph.speeds import offer_speeds_
from ..graph.splice import eliminate_
from ..search.method import SPEEDS, Candidate
from ..system.processes import agree
from ..system.progress import FAST, tokens
from ..training.distillation import TRAINED
from ..training.teacher import ASKING
from .job import SCREENED, Job, Log
from .settings import Settings
from .trial import Trial

__all__ = ["choose", "choose_stages", "decide", "worth_retraining"]

# How far, in points, a candidate may be behind before retraining to be worth retraining at all.
_RECOVERABLE = 12.0
# The same for one that is faster than the one that has been retrained alone.
_CLIMBABLE = 4.0
# The FLOPs ratio up to which those are retrained that answer for every token, whatever they lose before.
_UNREAD = 2.0
_SCREENING, _ONE, _ALL, _CHOSEN = "screening", "retrain", "retrain: all speeds", "retrain: chosen speed"


def choose_stages(settings: Settings, lengths: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """The stages of :func:`choose`, and what each takes, in tokens through the dense encoder."""
    if not settings.retrain:
        return {}
    asked = float(sum(lengths["train"]))
    trained = settings.epochs * asked * TRAINED
    if settings.keep is not None or settings.aim is not None or settings.speeds:
        return {ASKING: asked, **dict.fromkeys(_by_seed(_ONE, settings), trained)}
    screening = len(SPEEDS) * tokens(lengths["validation"], SCREENED) * FAST
    return {_SCREENING: screening, ASKING: asked, **dict.fromkeys([_ALL, *_by_seed(_CHOSEN, settings)], trained / 2)}


def _by_seed(stage: str, settings: Settings) -> list[str]:
    """The stages of a retraining that is done with some seeds."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return [f"{stage}, seed {seed}" for seed in seeds] if settings.seeds > 1 else [stage]


def choose(job: Job, candidates: Sequence[Candidate], log: Log) -> None:
    """Leave the model at the fastest candidate whose drop is within bounds, or at the nearest to them.

    Args:
        candidates: from slow to fast.
    """
    speeds = job.settings.speeds
    with log.timed("choose and retrain"):
        trial = Trial(job, log)
        chosen = decide(trial, candidates, job.settings, lambda share: job.progress(_SCREENING, share))
        eliminate_(job.model, chosen.retention)
        if speeds:
            offer_speeds_(job.model, {speed: c.retention for speed, c in zip(speeds, candidates, strict=True)})
        agree("keep counts", chosen.retention.keep)


def decide(
    trial: Trial,
    candidates: Sequence[Candidate],
    settings: Settings,
    progress: Callable[[float], None] = lambda share: None,
) -> Candidate:
    """The candidate to keep, with the weights that the trial is left with."""
    bound = settings.max_drop + 1e-9
    if not settings.retrain:
        return _fastest_within(trial, candidates, bound)
    if len(candidates) > 1 and not settings.speeds:
        drops = []
        for candidate in candidates:
            drops.append(trial.drop(candidate, exact=False))
            progress(len(drops) / len(candidates))
        candidates = worth_retraining(candidates, drops, settings.max_drop)
    if len(candidates) == 1 or settings.speeds:
        trial.retrain(candidates, settings.epochs, _by_seed(_ONE, settings))
        return _fastest_within(trial, candidates, bound)
    half = settings.epochs / 2
    trial.retrain(candidates, half, [_ALL])
    chosen = _fastest_within(trial, candidates, bound, exact=False)
    within = _retrained_within(trial, chosen, trial.drop(chosen), bound, half, _by_seed(_CHOSEN, settings))
    for faster in candidates[candidates.index(chosen) + 1 :] if within else ():
        # Retrained alone, it wins back more than all at once did.
        lost = trial.drop(faster)
        if not lost <= settings.max_drop + _CLIMBABLE:
            break
        if not lost <= bound:
            before, stages = trial.weights(), _by_seed(f"retrain: FLOPs ratio {faster.flops_ratio:.2f}", settings)
            if not _retrained_within(trial, faster, lost, bound, half, stages):
                trial.take_back(before)
                break
        chosen = faster
    return chosen


def worth_retraining(candidates: Sequence[Candidate], drops: Sequence[float], max_drop: float) -> Sequence[Candidate]:
    """From the fastest candidate that holds without retraining to the fastest that retraining may win back."""
    first, last = 0, 0
    for position, (candidate, drop) in enumerate(zip(candidates, drops, strict=True)):
        first = position if drop <= max_drop else first
        # A head that has never read what comes back from early layers says nothing of what it will once it has.
        unread = candidate.retention.restore is True and candidate.flops_ratio <= _UNREAD
        last = position if unread or drop <= max_drop + _RECOVERABLE else last
    return candidates[first : last + 1]


def _fastest_within(trial: Trial, candidates: Sequence[Candidate], bound: float, *, exact: bool = True) -> Candidate:
    """The fastest candidate whose drop is within the bound; where none is, the one that loses least."""
    drops: list[tuple[float, Candidate]] = []
    for candidate in reversed(candidates):
        drops.append((trial.drop(candidate, exact=exact), candidate))
        if drops[-1][0] <= bound:
            return candidate
    return min(drops, key=lambda pair: pair[0])[1]


def _retrained_within(
    trial: Trial, candidate: Candidate, lost: float, bound: float, epochs: float, stages: Sequence[str]
) -> bool:
    """Retrain one candidate alone, unless it then loses more than ``lost``; whether it is within the bound."""
    before = trial.weights()
    trial.retrain([candidate], epochs, stages)
    after = trial.drop(candidate)
    if not after <= max(lost, bound):
        trial.take_back(before)
    return min(lost, after) <= bound
