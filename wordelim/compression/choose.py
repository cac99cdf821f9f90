"""Second step: which of the candidates the model is left at, retrained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

from ..graph.speeds import offer_speeds_
from ..graph.splice import eliminate_
from ..search.method import SPEEDS, Candidate
from ..system.processes import agree, processes
from ..system.progress import FAST, tokens
from ..training.distillation import TRAINED
from ..training.teacher import ASKING
from .job import SCREENED, Job, Log
from .settings import Settings
from .trial import Trial

__all__ = ["choose", "choose_stages", "decide", "worth_retraining"]

# How far, in points, a candidate may be behind before retraining to be worth retraining at all.
_RECOVERABLE = 12.0
# The same for one to be retrained alone, after others have been: how far what it may lose is behind.
_WON_BACK = 1.0
# What may be behind before retraining so far that faster ones needn't be looked at.
_HOPELESS = 2 * _RECOVERABLE
_ROUNDING = 1e-9
# Speeds that are tested in fp32 before retraining and after each, about.
_TESTED = 4
# The FLOPs ratio up to which those are retrained that answer for every token, whatever they lose before.
_UNREAD = 2.0
# Texts, and steps of as many as there are in one, that are enough to retrain all speeds with: that has only to show
# which to retrain alone.
_SHOWING, _SHOWN_IN = 5000, 150
_SCREENING, _ONE, _ALL, _CHOSEN = "screening", "retrain", "retrain: all speeds", "retrain: chosen speed"


def choose_stages(settings: Settings, lengths: Mapping[str, Sequence[int]], exact: float = 1.0) -> dict[str, float]:
    """The stages of :func:`choose`, and what each takes, in tokens through the dense encoder.

    Args:
        exact: what a token takes in fp32, in tokens in bf16 where that is faster.
    """
    if not settings.retrain:
        return {}
    asked = float(sum(lengths["train"]))
    trained = settings.epochs * asked * TRAINED
    if settings.keep is not None or settings.aim is not None or settings.speeds:
        return {ASKING: asked, **dict.fromkeys(_by_seed(_ONE, settings), trained)}
    screening = tokens(lengths["validation"], SCREENED) * FAST
    tested = _TESTED * screening * exact
    return {
        _SCREENING: len(SPEEDS) * screening + tested,
        ASKING: asked,
        _ALL: _for_all(settings, len(lengths["train"])) * asked * TRAINED,
        **dict.fromkeys(_by_seed(_CHOSEN, settings), trained / 2 + tested),
    }


def _for_all(settings: Settings, texts: int) -> float:
    """Passes over so many training texts with which all speeds are retrained at once."""
    return min(settings.epochs / 2, max(_SHOWING, _SHOWN_IN * settings.batch_size * processes()) / texts)


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
        log.choice = trial.choice(chosen, candidates)
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
    """The candidate to keep, with the weights that the trial is left with.

    Candidates are tested from slow to fast, and the first that may lose more than it should ends it. So each is held
    to the confidence as if it were the only one: testing in a fixed order needs no allowance for how many there are
    (Angelopoulos et al. 2021, "Learn then Test", section 4).
    """
    if not settings.retrain:
        return _fastest(trial, candidates, settings) or _least(trial, candidates, settings)
    if len(candidates) > 1 and not settings.speeds:
        drops: list[float] = []
        for candidate in candidates:
            drops.append(trial.drop(candidate))
            progress(len(drops) / len(candidates))
            if drops[-1] > settings.max_drop + _HOPELESS:
                break
        screened = candidates[: len(drops)]
        held = _held(trial, screened, settings)
        worth = worth_retraining(screened, drops, settings.max_drop, held)
        chosen = _retrained(trial, worth, settings, sure=held is not None)
        if _lost_too_much(trial, chosen, settings) or (held is not None and not _holds(trial, chosen, settings)):
            return _untrained(trial, screened, settings) or chosen
        return chosen
    return _retrained(trial, candidates, settings)


def _retrained(trial: Trial, candidates: Sequence[Candidate], settings: Settings, *, sure: bool = False) -> Candidate:
    """The one to keep once retrained; sure: the first holds without, so that only a faster one is worth the work."""
    if len(candidates) == 1 or settings.speeds:
        trial.retrain(candidates, settings.epochs, _by_seed(_ONE, settings))
        return _held(trial, candidates, settings) or _least(trial, candidates, settings)
    return _climb(trial, candidates, settings, lowest=1 if sure else 0)


def _untrained(trial: Trial, candidates: Sequence[Candidate], settings: Settings) -> Candidate | None:
    """What holds with the weights from before retraining; None, and no weights are changed, where nothing does."""
    after = trial.weights()
    trial.take_back(trial.dense_weights())
    found = _fastest(trial, candidates, settings) or _least(trial, candidates, settings)
    if not _lost_too_much(trial, found, settings):
        trial.log.warnings.append("Retraining won nothing back, so the weights are left as they were before it.")
        return found
    trial.take_back(after)
    return None


def _climb(trial: Trial, candidates: Sequence[Candidate], settings: Settings, lowest: int) -> Candidate:
    """Retrain for all, then for the fastest alone that is near to being sure to hold, and so on while that does.

    Args:
        lowest: the place of the slowest that is worth being retrained alone.
    """
    half = settings.epochs / 2
    trial.retrain(candidates, _for_all(settings, len(trial.job.ready.examples["train"].dataset)), [_ALL])
    held, goal, stage = 0, max(_nearest(trial, candidates, settings) or 0, lowest), _CHOSEN
    while True:
        before, first = trial.weights(), stage is _CHOSEN
        trial.retrain([candidates[goal]], half, _by_seed(stage, settings))
        fastest = _held(trial, candidates[held:], settings)
        if fastest is None:
            if first:
                return _least(trial, candidates, settings)
            trial.take_back(before)
            break
        held = candidates.index(fastest)
        further = _nearest(trial, candidates[held + 1 :], settings) if held >= goal else None
        if further is None:
            break
        goal = held + 1 + further
        stage = f"retrain: FLOPs ratio {candidates[goal].flops_ratio:.2f}"
    return _fastest(trial, candidates[held:], settings) or candidates[held]


def _nearest(trial: Trial, candidates: Sequence[Candidate], settings: Settings) -> int | None:
    """The place of the fastest that is so near to being sure to hold that retraining it alone may do it."""
    near = [*takewhile(lambda each: trial.lost(each).bound <= settings.max_drop + _WON_BACK, candidates)]
    return len(near) - 1 if near else None


def _lost_too_much(trial: Trial, candidate: Candidate, settings: Settings) -> bool:
    return trial.lost(candidate).drop > settings.max_drop + _ROUNDING


def _holds(trial: Trial, candidate: Candidate, settings: Settings) -> bool:
    """Whether no more is lost than may be, with the confidence asked for."""
    return trial.lost(candidate).bound <= settings.max_drop + _ROUNDING


def _held(trial: Trial, candidates: Sequence[Candidate], settings: Settings) -> Candidate | None:
    """The last of those, from slow to fast, up to which all hold; None where the first doesn't."""
    return next(reversed([*takewhile(lambda candidate: _holds(trial, candidate, settings), candidates)]), None)


def _fastest(trial: Trial, candidates: Sequence[Candidate], settings: Settings) -> Candidate | None:
    """The same, or one between it and the next, where no speeds were asked for."""
    held = _held(trial, candidates, settings)
    if held is None or settings.speeds:
        return held
    slow, *faster = candidates[candidates.index(held) :]
    return _held(trial, trial.between(slow, faster[0]) if faster else (), settings) or slow


def _least(trial: Trial, candidates: Sequence[Candidate], settings: Settings) -> Candidate:
    """Where none is sure to hold: the slowest if it does as measured, else the one that loses least."""
    if not _lost_too_much(trial, candidates[0], settings):
        return candidates[0]
    return min(candidates, key=lambda candidate: trial.lost(candidate).drop)


def worth_retraining(
    candidates: Sequence[Candidate], drops: Sequence[float], max_drop: float, held: Candidate | None
) -> Sequence[Candidate]:
    """From the fastest candidate that is sure to hold without retraining to the fastest that it may win back.

    Slower ones than that are as good as held. Where none is sure to hold, all are kept: the slowest is then the answer.

    Args:
        held: the fastest that is sure to hold without retraining, if any is.
    """
    first = last = candidates.index(held) if held is not None else 0
    for position, (candidate, drop) in enumerate(zip(candidates, drops, strict=True)):
        # A head that has never read what comes back from early layers says nothing of what it will once it has.
        unread = candidate.retention.restore is True and candidate.flops_ratio <= _UNREAD
        last = position if unread or drop <= max_drop + _RECOVERABLE else last
    return candidates[first : last + 1]
