"""What a user can choose about a compression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_args

from ..errors import WordelimError
from ..search.registry import METHODS
from ..system.declared import Checked, called, is_number, number, one_of, setting
from . import common

if TYPE_CHECKING:  # `wordelim compress --help` needn't wait for torch
    from ..elimination.soft_extract import Form
    from ..tasks.embedding import Pooling
    from ..tasks.metrics import ComputeMetrics

__all__ = ["Settings"]

_TRACKERS = ("tensorboard", "wandb", "mlflow")
_goal, _search, _retraining = (partial(setting, panel=panel) for panel in ("Goal", "Search", "Retraining"))


def _forms() -> Sequence[str]:
    from ..elimination.soft_extract import Form

    return get_args(Form)


def _poolings() -> Sequence[str]:
    from ..tasks.embedding import Pooling

    return get_args(Pooling)


def _several(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, Iterable):
        raise WordelimError(f"{name} is {value!r}: give a list.")
    return (value,) if isinstance(value, str) else tuple(value)


def _trackers(name: str, value: Any) -> tuple[str, ...]:
    for tracker in (named := _several(name, value)):
        if tracker not in _TRACKERS:
            raise WordelimError(f"{name} is {tracker!r}: use {', '.join(_TRACKERS)}.")
        if find_spec(tracker) is None:
            raise WordelimError(f"The tracker {tracker} isn't installed: pip install {tracker}.")
    return named


def _speeds(name: str, value: Any) -> tuple[float, ...]:
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    if not listed or not value or not all(is_number(speed) and speed > 1 for speed in value):
        raise WordelimError(f"{name} is {value!r}: give ratios above 1, such as [1.5, 2, 3].")
    return tuple(sorted({float(speed) for speed in value}))


def _keep(name: str, value: Any) -> tuple[float, ...]:
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    if not listed or not all(is_number(kept, finite=False) for kept in value):
        raise WordelimError(f"{name} is {value!r}: give one number for each layer, such as [0.9, 0.5, 0.3].")
    return tuple(value)


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """Choices of one compression; the defaults suit most.

    Args:
        max_drop: points of the metric that may be lost on the validation texts.
        confidence: how sure to be that no more is lost on texts like the validation ones, too: a faster model is chosen
            only where a bound of this confidence is within ``max_drop``. 0.5 takes what is measured as it is.
        target_speedup: a FLOPs ratio against the dense encoder without padding to reach, instead of the fastest within
            ``max_drop``.
        flops_budget: the same as a share of the dense encoder's FLOPs: 0.4 is a target_speedup of 2.5.
        speeds: FLOPs ratios that one set of weights shall serve, to choose from when the model is loaded or running;
            the fastest within ``max_drop`` is the one to begin with.
        method: ``"calibrated"``, the training-free search, or ``"learned"``, PoWER-BERT's own.
        keep: fractions (or, where they are whole numbers and one is above 1, counts) of word vectors to keep in each
            layer, instead of a search.
        search_epochs: passes over the training texts of the learned search.
        retention_lr: learning rate of its retention parameters; None scales it to the number of steps.
        price: lambda of the paper: a fixed price of a word vector in the learned search, instead of aiming at speeds.
        form: what the learned search learns of a layer: ``"ramp"``, ``"table"``, or the paper's ``"count"``.
        cost: what the search saves and speeds are ratios of: ``"flops"``, or ``"latency"``, milliseconds that are
            measured first, on the device and with the threads of this run.
        protect: word vectors that are never dropped beside the first: ``"first:N"``, ``"separators"``, ``"query"`` (the
            first text of a pair) and ``"words:FILE"``; see :func:`wordelim.protect_rules`.
        significance: what decides which word vectors stay, where the head reads the first token or answers for every
            token: ``"linear"``, a linear map of what enters a layer, learned from the dense model, or ``"attention"``,
            what they receive, as in the paper. For question answering and embeddings it is attention.
        package: where the head reads the first token, what a layer drops goes on as one row: the mean, weighted by
            significance.
        metric: its name; None for the task's usual one. Or a function such as transformers' Trainer takes for its
            ``compute_metrics``, whose first value, a share of 1, is the metric.
        pooling: how a model without a head makes an embedding: ``"mean"`` of all tokens, or ``"cls"``, the first one.
        epochs: passes over the training texts while retraining; half as many again for each faster speed that is tried
            because the chosen one left room. Where speeds are chosen among, the first half is done for all of them at
            once, with no more than 5,000 texts or 150 steps, whichever is more.
        seeds: how often the last retraining is done, with one seed after the other; the best on the validation texts is
            kept.
        retrain: adapt the weights to the elimination.
        learning_rate: the highest one of the retraining; None for 5e-5, and for 2e-4 where every token is answered
            for (taggers, question answering) and for embeddings.
        batch_size, temperature: of the retraining.
        max_length: tokens at which texts are cut; None for what the tokenizer and the model allow.
        search_examples: training texts that the search measures on.
        measure_speed: time both models at the end.
        report_to: trackers that are told of the training: tensorboard, wandb or mlflow.
        seed: of everything that is random.

    Raises:
        WordelimError: a value is out of its range, or two exclude each other.

    Example:
        >>> wordelim.Settings(max_drop=0.5, epochs=3).method
        'calibrated'
        >>> wordelim.Settings(epochs=0)
        Traceback (most recent call last):
        wordelim.errors.WordelimError: epochs is 0: give a number above 0.
    """

    max_drop: float = common.max_drop(" on validation")
    confidence: float = _goal(
        0.8,
        "How sure to be that --max-drop holds on other texts, too; 0.5 takes the figure as it is.",
        number("a share from 0.5 up to 1, such as 0.8", lambda value: 0.5 <= value < 1),
    )
    target_speedup: float | None = _goal(
        None,
        "FLOPs ratio to reach, instead of the fastest within --max-drop.",
        number("a ratio above 1, such as 2", lambda value: value > 1),
    )
    flops_budget: float | None = _goal(
        None, "The same as a share of the dense model's FLOPs, such as 0.4.", common.share("0.4")
    )
    speeds: Sequence[float] | None = _goal(
        None,
        "FLOPs ratios that one set of weights shall serve, such as 1.5,2,3; see wordelim.set_speed_.",
        _speeds,
        listed="1.5,2,3",
    )
    method: str = _search(
        "calibrated", f"How keep counts are found: {METHODS.listed}.", one_of(lambda: METHODS, quoted=True)
    )
    keep: Sequence[float] | None = _search(
        None, "Fractions (or counts) to keep in each layer, comma-separated; no search.", _keep, listed="0.9,0.7,0.5"
    )
    search_epochs: float = _search(1.0, "Learned search: passes over the training texts.", common.positive)
    retention_lr: float | None = _search(
        None, "Learned search: rate of the retention parameters; scaled unless given.", common.positive
    )
    price: float | None = _search(
        None, "Learned search: a fixed price of a word vector, no speeds.", common.positive, called="lambda"
    )
    form: Form = setting(
        "ramp", "Learned search: what is learned, ramp, table or count.", one_of(_forms), panel="Search"
    )
    cost: str = _goal(
        "flops",
        "What speeds are ratios of: flops, or latency measured here.",
        one_of(lambda: ("flops", "latency"), quoted=True),
    )
    protect: Sequence[str] = setting(
        (), "Never drop these: first:N, separators, query, words:FILE; may be repeated.", _several
    )
    significance: str = _search(
        "linear",
        "What decides who stays: linear maps learned from the model, or attention received.",
        one_of(lambda: ("linear", "attention")),
    )
    package: bool = _search(True, "Leave what a layer drops without a row that stands for it.", flag="--no-package")
    metric: str | ComputeMetrics | None = common.metric()
    pooling: Pooling = setting("mean", check=one_of(_poolings))
    epochs: float = _retraining(
        2.0, "Passes over the training texts; half again for each faster speed tried.", common.positive
    )
    seeds: int = _retraining(1, "Last retraining: seeds to try; the best on validation is kept.", common.at_least(1))
    retrain: bool = _retraining(True, "Leave the weights as they are.", flag="--no-retrain")
    learning_rate: float | None = _retraining(
        None,
        "Highest learning rate of the retraining; 5e-5 unless given, 2e-4 for taggers, answers and embeddings.",
        common.positive,
    )
    batch_size: int = common.batch_size("Texts a step.")
    temperature: float = setting(2.0, check=common.positive)
    max_length: int | None = common.max_length()
    search_examples: int = setting(512, check=common.at_least(1))
    measure_speed: bool = True
    report_to: Sequence[str] = _retraining(
        (), "Tell a tracker: tensorboard, wandb or mlflow.", _trackers, listed="tensorboard,mlflow"
    )
    seed: int = common.seed("everything that is random")

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = ("keep", "target_speedup", "flops_budget", "speeds", "price")
        exclusive = [name for name in asked if getattr(self, name) is not None]
        if len(exclusive) > 1:
            raise WordelimError(f"Both {exclusive[0]} and {exclusive[1]} are given: give one of them.")
        for of in fields(self):
            if of.metadata.get("panel") == "Search" and of.default is None and getattr(self, of.name) is not None:
                owners = [method for method in METHODS if of.name in METHODS.options(method)]
                if owners and self.method not in owners:
                    raise WordelimError(
                        f"{called(of)} is given, which is the {owners[0]} search's: use it with method '{owners[0]}'."
                    )

    @property
    def aim(self) -> float | None:
        """The FLOPs ratio to reach, where one was asked for."""
        return self.target_speedup if self.flops_budget is None else 1 / self.flops_budget

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a report."""
        from ..tasks.metrics import name_of

        told = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**told, "metric": name_of(self.metric)}
