"""What each stage of a run is expected to take, so that a display can tell how long the whole of it will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..search.method import SPEEDS
from .settings import Settings

if TYPE_CHECKING:
    pass

__all__ = ["check_stages", "compress_stages", "probe_stages"]

# In tokens through the dense encoder: what a token costs that is trained on, with the teacher's pass, and what a model
# that drops word vectors takes of the dense one. Rough; the clock corrects them as the run goes on.
_TRAINED, _SOFTLY_TRAINED, _FAST = 2.5, 6.0, 0.6
# Texts and passes of the search, of the screening and of the measurement of speed.
_PROBED, _FRACTIONS, _CONFIRMED, _SCREENED, _TIMED = 128, 3, 256, 2000, 128


def compress_stages(settings: Settings, lengths: Mapping[str, Sequence[int]], layers: int) -> dict[str, float]:
    """The stages of a compression.

    Args:
        lengths: tokens of every text, for ``train``, ``validation`` and perhaps ``test``.
        layers: of the encoder.
    """
    train, validation = lengths["train"], lengths["validation"]
    speeds = settings.speeds or (SPEEDS if settings.aim is None else (settings.aim,))
    several = settings.keep is None and settings.aim is None and not settings.speeds
    stages = {} if settings.keep is not None else _search_stages(settings, lengths, layers, len(speeds))
    if several and settings.retrain:
        stages["screening"] = len(speeds) * _tokens(validation, _SCREENED) * _FAST
    for stage, epochs in _retrainings(settings, several=several):
        stages[stage] = epochs * sum(train) * _TRAINED
    for name in ("validation", "test"):
        if name in lengths:
            stages[f"verify: {name}"] = sum(lengths[name]) * (1 + _FAST)
    for speed in settings.speeds or ():
        for name in ("validation", "test"):
            if name in lengths:
                stages[f"verify: {name} at {speed:g}x"] = sum(lengths[name]) * (1 + _FAST)
    if settings.measure_speed:
        stages["verify: speed"] = _timing(lengths.get("test", validation), settings.max_length)
    return stages


def _search_stages(
    settings: Settings, lengths: Mapping[str, Sequence[int]], layers: int, speeds: int
) -> dict[str, float]:
    train, stages = lengths["train"], {}
    if settings.cost == "latency":
        stages["search: timing layers"] = 100.0 * max(map(max, lengths.values()))
    if settings.method == "learned":
        stages["search: learning"] = settings.search_epochs * sum(train) * _SOFTLY_TRAINED
    else:
        stages["search: measuring layers"] = _FRACTIONS * layers * _tokens(train, _PROBED) * _FAST
    return stages | {"search: confirming": speeds * _tokens(train, _CONFIRMED) * _FAST}


def _retrainings(settings: Settings, *, several: bool) -> list[tuple[str, float]]:
    """Each retraining, and its epochs."""
    if not settings.retrain:
        return []
    last, epochs = ("retrain: chosen speed", settings.epochs / 2) if several else ("retrain", settings.epochs)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    names = [f"{last}, seed {seed}" for seed in seeds] if settings.seeds > 1 else [last]
    first = [("retrain: all speeds", settings.epochs / 2)] if several else []
    return [*first, *((name, epochs) for name in names)]


def probe_stages(lengths: Sequence[int], examples: int, layers: int, *, searched: bool) -> dict[str, float]:
    """The stages of a probe.

    Args:
        lengths: tokens of every text.
        examples: texts that are measured on.
        searched: whether there is anything to search.
    """
    speeds = len(SPEEDS) if searched else 0
    stages = {
        "search: measuring layers": _FRACTIONS * layers * _tokens(lengths, _PROBED) * _FAST,
        "search: confirming": speeds * _tokens(lengths, _CONFIRMED) * _FAST,
        "measuring what is lost": speeds * _tokens(lengths, examples) * _FAST,
    }
    timed = {"measuring speed": 4 * _tokens(lengths, _TIMED) * (2 + speeds * _FAST)}
    return {**stages, **timed} if searched else timed


def check_stages(lengths: Sequence[int], *, base: bool, speed: bool) -> dict[str, float]:
    """The stages of a check.

    Args:
        lengths: tokens of every text.
        base: whether the base model is run.
        speed: whether speed is measured.
    """
    stages = {"compressed model": sum(lengths) * _FAST}
    if base:
        stages["base model"] = float(sum(lengths))
    if speed:
        stages["speed"] = _timing(lengths, None)
    return stages


def _tokens(lengths: Sequence[int], most: int) -> float:
    """Tokens of so many texts, or of all that there are."""
    return sum(lengths) * min(1.0, most / len(lengths))


def _timing(lengths: Sequence[int], padded: int | None) -> float:
    """What :func:`wordelim.evaluation.timing.measure_speed` takes."""
    texts = min(_TIMED, len(lengths))
    return 6 * (texts * (padded or max(lengths)) + _tokens(lengths, texts) * (2 + 2 * _FAST))
