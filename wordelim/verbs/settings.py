"""What a user can choose about a check, a probe and a measurement of speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..compression import common
from ..errors import WordelimError
from ..system.declared import Checked, number, setting

if TYPE_CHECKING:
    from ..tasks.metrics import ComputeMetrics

__all__ = ["BenchSettings", "CheckSettings", "ProbeSettings"]

_measurement = partial(setting, panel="Measurement")
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class CheckSettings(Checked):
    """What a check allows, and how it measures.

    Args:
        max_drop: points of the metric that may be lost.
        min_speedup: how many times faster the compressed model must be in random batches padded to their longest text;
            None measures no speed.
        strict: judge the upper end of the drop's interval, not the drop itself; where there is no interval (see
            :func:`wordelim.evaluation.statistics.paired_bootstrap`), the check fails.
        confidence: of that interval.
        metric: as in :class:`wordelim.Settings`.
        max_length: tokens at which texts are cut; None for what the tokenizer and the model allow.
        batch_size: texts a step.
        seed: of the bootstrap, and of the texts that speed is measured on.

    Raises:
        WordelimError: a value is out of its range.
    """

    max_drop: float = common.max_drop()
    min_speedup: float | None = setting(
        None,
        "Times as fast that it must be; without it, no speed is measured.",
        number("a ratio above 0, such as 1.5", lambda value: value > 0),
        panel="Goal",
    )
    strict: bool = setting(False, "Judge the upper end of the drop's interval.", panel="Goal")
    confidence: float = setting(0.95, "Confidence of that interval.", common.share("0.95"), panel="Goal")
    metric: str | ComputeMetrics | None = common.metric()
    max_length: int | None = common.max_length()
    batch_size: int = common.batch_size("Texts a step.")
    seed: int = common.seed("the bootstrap")


@dataclass(frozen=True)
class ProbeSettings(Checked):
    """Choices of one probe.

    Args:
        max_drop: points of the metric that may be lost.
        metric: as in :class:`wordelim.Settings`.
        examples: random texts that are searched and measured on.
        max_length: tokens at which texts are cut; None for what the tokenizer and the model allow.
        batch_size: texts a batch.
        texts, rounds: of the speed measurement.
        seed: of the choice of texts.

    Raises:
        WordelimError: a value is out of its range.
    """

    max_drop: float = common.max_drop()
    metric: str | ComputeMetrics | None = common.metric()
    examples: int = setting(512, "Texts that are measured on, drawn at random.", common.at_least(1), panel="Data")
    max_length: int | None = common.max_length()
    batch_size: int = common.batch_size("Texts a batch.")
    texts: int = setting(128, check=common.at_least(1))
    rounds: int = setting(3, check=common.at_least(1))
    seed: int = common.seed("the choice of texts")


def _dtypes(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not value or any(dtype not in _DTYPES for dtype in value):
        raise WordelimError(f"{name} is {value!r}: give a list out of {', '.join(_DTYPES)}.")
    return tuple(dict.fromkeys(value))


@dataclass(frozen=True)
class BenchSettings(Checked):
    """Choices of one measurement.

    Args:
        batch_size: texts a batch for the throughput.
        texts: random texts for the throughput.
        latency_texts: random texts for the latency, one at a time; 0 leaves the latency out.
        max_length: tokens at which texts are cut, and to which the fixed protocol pads; None for what the tokenizer and
            the model allow, and for the longest of the texts.
        dtypes: of the weights, a measurement each, out of float32, bfloat16 and float16; None for those in which the
            device is fast.
        compiled: measure through ``torch.compile`` too, not only in eager mode.
        rounds: how often each is timed.
        seed: of the choice of texts.

    Raises:
        WordelimError: a value is out of its range.
    """

    batch_size: int = common.batch_size("Texts a batch, for the throughput.")
    texts: int = _measurement(128, "Texts for the throughput, drawn at random.", common.at_least(1))
    latency_texts: int = _measurement(32, "Texts for the latency, one at a time; 0 leaves it out.", common.at_least(0))
    max_length: int | None = common.max_length(", and pad to it where padding is fixed")
    dtypes: Sequence[str] | None = _measurement(
        None,
        "float32, bfloat16, float16 (comma-separated); those that are fast here unless given.",
        _dtypes,
        flag="--dtype",
        listed="float32,bfloat16",
    )
    compiled: bool = _measurement(False, "Measure through torch.compile as well.", flag="--compile")
    rounds: int = _measurement(5, "How often everything is timed.", common.at_least(1))
    seed: int = common.seed("the choice of texts")
