"""What a user can choose about a compression, and about a measurement of speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, get_args

from ..elimination.soft_extract import Form
from ..errors import WordelimError
from ..tasks.embedding import Pooling
from ..tasks.metrics import ComputeMetrics, name_of

__all__ = ["BenchSettings", "Settings"]

# What the command line calls a setting, where that is another word.
_OPTIONS = {"price": "lambda"}
_TRACKERS = ("tensorboard", "wandb", "mlflow")
_LARGEST_SEED = 2**32 - 1
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Settings:
    """Choices of one compression; the defaults suit most.

    Args:
        max_drop: points of the metric that may be lost on the validation texts.
        target_speedup: a FLOPs ratio against the dense encoder without padding to reach, instead of the fastest within
            ``max_drop``.
        flops_budget: the same as a share of the dense encoder's FLOPs: 0.4 is a target_speedup of 2.5.
        speeds: FLOPs ratios that one set of weights shall serve, to choose from when the model is loaded or running;
            the fastest within ``max_drop`` is the one to begin with.
        keep: fractions (or, where they are whole numbers and one is above 1, counts) of word vectors to keep in each
            layer, instead of a search.
        method: ``"calibrated"``, the training-free search, or ``"learned"``, PoWER-BERT's own.
        search_epochs: passes over the training texts of the learned search.
        retention_lr: learning rate of its retention parameters; None scales it to the number of steps.
        price: lambda of the paper: a fixed price of a word vector in the learned search, instead of aiming at speeds.
        form: what the learned search learns of a layer: ``"ramp"``, ``"table"``, or the paper's ``"count"``.
        cost: what the search saves and speeds are ratios of: ``"flops"``, or ``"latency"``, milliseconds that are
            measured first, on the device and with the threads of this run.
        protect: word vectors that are never dropped beside the first: ``"first:N"``, ``"separators"``, ``"query"`` (the
            first text of a pair) and ``"words:FILE"``; see :func:`wordelim.protect_rules`.
        metric: its name; None for the task's usual one. Or a function such as transformers' Trainer takes for its
            ``compute_metrics``, whose first value, a share of 1, is the metric.
        pooling: how a model without a head makes an embedding: ``"mean"`` of all tokens, or ``"cls"``, the first one.
        retrain: adapt the weights to the elimination.
        seeds: how often the last retraining is done, with one seed after the other; the best on the validation texts is
            kept.
        epochs: passes over the training texts while retraining; half as many again for each faster speed that is tried
            because the chosen one left room.
        learning_rate, batch_size, temperature: of the retraining.
        max_length: tokens at which texts are cut; None for what the tokenizer and the model allow.
        search_examples: training texts that the search measures on.
        measure_speed: time both models at the end.
        report_to: trackers that are told of the training: tensorboard, wandb or mlflow.
        seed: of everything that is random.

    Raises:
        WordelimError: a value is out of its range, or two exclude each other.
    """

    max_drop: float = 1.0
    target_speedup: float | None = None
    flops_budget: float | None = None
    speeds: Sequence[float] | None = None
    keep: Sequence[float] | None = None
    method: str = "calibrated"
    search_epochs: float = 1.0
    retention_lr: float | None = None
    price: float | None = None
    form: Form = "ramp"
    cost: str = "flops"
    protect: Sequence[str] = ()
    metric: str | ComputeMetrics | None = None
    pooling: Pooling = "mean"
    retrain: bool = True
    seeds: int = 1
    epochs: float = 2.0
    learning_rate: float = 5e-5
    batch_size: int = 32
    temperature: float = 2.0
    max_length: int | None = None
    search_examples: int = 512
    measure_speed: bool = True
    report_to: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("calibrated", "learned"):
            raise WordelimError(f"Method {self.method!r} is unknown: use 'calibrated' or 'learned'.")
        if self.form not in get_args(Form):
            raise WordelimError(f"Form {self.form!r} is unknown: use one of {', '.join(get_args(Form))}.")
        if self.pooling not in get_args(Pooling):
            raise WordelimError(f"Pooling {self.pooling!r} is unknown: use one of {', '.join(get_args(Pooling))}.")
        if self.cost not in ("flops", "latency"):
            raise WordelimError(f"Cost {self.cost!r} is unknown: use 'flops' or 'latency'.")
        exclusive = [
            name
            for name in ("keep", "target_speedup", "flops_budget", "speeds", "price")
            if getattr(self, name) is not None
        ]
        if len(exclusive) > 1:
            raise WordelimError(f"Both {exclusive[0]} and {exclusive[1]} are given: give one of them.")
        for name in ("retention_lr", "price"):
            if getattr(self, name) is not None and self.method != "learned":
                option = _OPTIONS.get(name, name)
                raise WordelimError(f"{option} is given, which is the learned search's: use it with method 'learned'.")
        budget = self.flops_budget
        if budget is not None and not (_is_number(budget) and 0 < budget < 1):
            raise WordelimError(f"flops_budget is {budget}: give a share between 0 and 1, such as 0.4.")
        if not _is_number(self.max_drop) or self.max_drop < 0:
            raise WordelimError(f"max_drop is {self.max_drop}: give 0 or more points, such as 1.")
        if self.target_speedup is not None and (not _is_number(self.target_speedup) or self.target_speedup <= 1):
            raise WordelimError(f"target_speedup is {self.target_speedup}: give a ratio above 1, such as 2.")
        for name in ("epochs", "learning_rate", "temperature", "search_epochs", "retention_lr", "price"):
            value = getattr(self, name)
            if value is None and name in ("retention_lr", "price"):
                continue
            if not _is_number(value) or value <= 0:
                raise WordelimError(f"{_OPTIONS.get(name, name)} is {value}: give a number above 0.")
        for name in ("batch_size", "search_examples", "seeds"):
            if not _is_whole(getattr(self, name)) or getattr(self, name) < 1:
                raise WordelimError(f"{name} is {getattr(self, name)}: give a whole number of at least 1.")
        if self.max_length is not None and not _is_whole(self.max_length):
            raise WordelimError(f"max_length is {self.max_length}: give a whole number of tokens.")
        _check_seed(self.seed)
        protect = (self.protect,) if isinstance(self.protect, str) else tuple(self.protect)
        object.__setattr__(self, "protect", protect)
        named = (self.report_to,) if isinstance(self.report_to, str) else tuple(self.report_to)
        object.__setattr__(self, "report_to", named)
        for tracker in named:
            _check_tracker(tracker)
        if self.speeds is not None:
            speeds = self.speeds
            if isinstance(speeds, str) or not speeds or not all(_is_number(speed) and speed > 1 for speed in speeds):
                raise WordelimError(f"speeds is {speeds!r}: give ratios above 1, such as [1.5, 2, 3].")
            object.__setattr__(self, "speeds", tuple(sorted({float(speed) for speed in speeds})))
        if self.keep is not None:
            if isinstance(self.keep, str) or not all(_is_number(value, finite=False) for value in self.keep):
                raise WordelimError(f"keep is {self.keep!r}: give one number for each layer, such as [0.9, 0.5, 0.3].")
            object.__setattr__(self, "keep", tuple(self.keep))

    @property
    def aim(self) -> float | None:
        """The FLOPs ratio to reach, where one was asked for."""
        return self.target_speedup if self.flops_budget is None else 1 / self.flops_budget

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a report."""
        lists = {
            name: list(getattr(self, name))
            for name in ("keep", "speeds", "protect", "report_to")
            if getattr(self, name) is not None
        }
        return {**asdict(self), **lists, "metric": name_of(self.metric)}


@dataclass(frozen=True)
class BenchSettings:
    """Choices of one measurement.

    Args:
        dtypes: of the weights, a measurement each, out of float32, bfloat16 and float16; None for those in which the
            device is fast.
        compiled: measure through ``torch.compile`` too, not only in eager mode.
        batch_size: texts a batch for the throughput.
        texts: random texts for the throughput.
        latency_texts: random texts for the latency, one at a time; 0 leaves the latency out.
        max_length: tokens at which texts are cut, and to which the fixed protocol pads; None for what the tokenizer and
            the model allow, and for the longest of the texts.
        rounds: how often each is timed.
        seed: of the choice of texts.

    Raises:
        WordelimError: a value is out of its range.
    """

    dtypes: Sequence[str] | None = None
    compiled: bool = False
    batch_size: int = 32
    texts: int = 128
    latency_texts: int = 32
    max_length: int | None = None
    rounds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "texts", "latency_texts", "rounds"):
            value, least = getattr(self, name), 0 if name == "latency_texts" else 1
            if not _is_whole(value) or value < least:
                raise WordelimError(f"{name} is {value}: give a whole number of at least {least}.")
        _check_seed(self.seed)
        if self.dtypes is not None:
            unknown = next((dtype for dtype in self.dtypes if dtype not in _DTYPES), None)
            if unknown is not None or isinstance(self.dtypes, str) or not self.dtypes:
                raise WordelimError(f"dtypes is {self.dtypes!r}: give a list out of {', '.join(_DTYPES)}.")
            object.__setattr__(self, "dtypes", tuple(dict.fromkeys(self.dtypes)))


def _check_seed(seed: int) -> None:
    if not _is_whole(seed) or not 0 <= seed <= _LARGEST_SEED:
        raise WordelimError(f"seed is {seed}: give a whole number from 0 to {_LARGEST_SEED}.")


def _check_tracker(name: str) -> None:
    if name not in _TRACKERS:
        raise WordelimError(f"report_to is {name!r}: use {', '.join(_TRACKERS)}.")
    if find_spec(name) is None:
        raise WordelimError(f"The tracker {name} isn't installed: pip install {name}.")


def _is_number(value: Any, *, finite: bool = True) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and (not finite or math.isfinite(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
