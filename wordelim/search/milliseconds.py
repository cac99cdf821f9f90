"""What an encoder costs in time on this machine, measured once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ..graph.cost import Cost, Count, Flops, cost_of
from ..graph.graphed import Graphed
from ..graph.splice import eliminate_, restore_
from ..retention import Retention

__all__ = ["Milliseconds", "measure_latency", "timing"]

_TIMES = ("lengths", "entering", "leaving", "last")


@dataclass(frozen=True)
class Milliseconds(Cost):
    """Milliseconds of an encoder whose last layer leaves the first token alone, from a table of what was timed.

    Args:
        layers: of the encoder.
        lengths: word vectors of a text, rising, for which there are times; between them lie straight lines.
        entering: milliseconds a text for the part of a layer that all that entered it go through: query, key, value
            and scores.
        leaving: for the part behind it, which those go through that stay.
        last: for the last layer.
        base: what a text takes however short it is.
        drop: what dropping takes at a layer, however little is dropped: launches, on a card.
    """

    unit = "ratio of measured latencies"
    layers: int
    first_token: bool
    lengths: tuple[int, ...]
    entering: tuple[float, ...]
    leaving: tuple[float, ...]
    last: tuple[float, ...]
    base: float = 0.0
    drop: float = 0.0

    def layer(self, layer: int, entered: Count, left: Count) -> Count:
        if self.first_token and layer == self.layers - 1:
            return _between(entered, self.lengths, self.last)  # type: ignore[no-any-return]
        first, then = _between(entered, self.lengths, self.entering), _between(left, self.lengths, self.leaving)
        return first + then + self.drop * _part(entered - left)  # type: ignore[no-any-return]

    def entry(self, lengths: Count) -> Count:
        return self.base + 0.0 * lengths

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], flops: Flops) -> Milliseconds:
        """Read what :meth:`to_dict` wrote, of an encoder with these FLOPs."""
        times = {name: tuple(data[name]) for name in _TIMES}
        return cls(flops.layers, flops.first_token, **times, base=data["base"], drop=data["drop"])

    def to_dict(self) -> dict[str, Any]:
        """The table as plain data, for a report."""
        return {name: list(getattr(self, name)) for name in _TIMES} | {"base": self.base, "drop": self.drop}


def _between(at: Any, lengths: Sequence[int], times: Sequence[float]) -> Any:
    if not isinstance(at, Tensor):
        return np.interp(at, lengths, times)
    x, y = (torch.tensor(values, dtype=at.dtype, device=at.device) for values in (lengths, times))
    right = torch.searchsorted(x, at.detach()).clamp(1, len(lengths) - 1)
    slope = (y[right] - y[right - 1]) / (x[right] - x[right - 1])
    return y[right - 1] + slope * (at - x[right - 1])


def _part(dropped: Any) -> Any:
    """Of what dropping takes: all of it from one word vector on; there are parts of one while a search learns."""
    return dropped.clamp(0, 1) if isinstance(dropped, Tensor) else np.clip(dropped, 0, 1)


def timing(longest: int) -> float:
    """What :func:`measure_latency` takes, roughly, in tokens through the dense encoder."""
    return 100.0 * longest


@torch.inference_mode()
def measure_latency(
    model: PreTrainedModel,
    longest: int,
    template: Retention,
    *,
    batch_size: int = 8,
    rounds: int = 3,
    progress: Callable[[float], None] = lambda share: None,
) -> Milliseconds:
    """Time a dense model's layers on the device and with the threads that it has now.

    For each of some lengths four models are timed: one that drops nothing, one that drops all behind the first layer's
    attention, one that does so in the last layer that may, and one that has a row less behind each layer. What the
    parts of a layer take is their difference.

    Args:
        model: dense, of two layers or more whose last one leaves the first token alone; the same after as before.
        longest: tokens of the longest text.
        template: how word vectors are dropped, by its ``significance`` and with its ``package``.
        batch_size: texts of equal length a batch.
        rounds: how often each is timed; the fastest counts.
    """
    layers, training = model.config.num_hidden_layers, model.training
    dropping = partial(Retention, package=template.package, significance=template.significance)
    everything = dropping((1.0,) * layers)
    eliminate_(model.eval(), everything)
    try:
        cost = cost_of(model)
        lengths = tuple(dict.fromkeys(min(longest, 2**power) for power in range(1, 20)))
        whole_first_late = [
            everything,
            dropping((0.0,) * layers),
            dropping((1.0,) * (layers - 2) + (0.0, 0.0)),
        ]
        seconds = np.full((len(lengths), 4), np.inf)
        # On a card, of a size, the untimed call and the first one only make the graph, which is kept.
        run = Graphed(model, most=seconds.size)
        for row, length in enumerate(lengths):
            ids = torch.full((batch_size, length), min(5, model.config.vocab_size - 1), device=model.device)
            for round_ in range(rounds + 1):
                less = (length - 1 - layer - template.package for layer in range(layers))  # a package is a row too
                each = dropping(tuple(max(1, left) for left in less), "count")
                for column, retention in enumerate([*whole_first_late, each]):
                    eliminate_(model, retention)
                    taken = _time(run, ids)
                    if round_:
                        seconds[row, column] = min(seconds[row, column], taken)
            progress((row + 1) / len(lengths))
    finally:
        restore_(model)
        model.train(training)
    milliseconds = 1000 / batch_size * seconds
    drop = _drop(milliseconds[:, 0], milliseconds[:, 3], lengths, layers)
    whole, first, late, _ = (milliseconds - milliseconds[0]).T
    entering = _rising(first)
    leaving = _rising((late - (layers - 1) * entering) / max(1, layers - 2))
    last = _rising(whole - (layers - 1) * (entering + leaving))
    entered, left, cut = (tuple(values.tolist()) for values in (entering, leaving, last))
    return Milliseconds(layers, cost.first_token, lengths, entered, left, cut, float(milliseconds[0, 0]), drop)


def _drop(whole: NDArray[np.float64], each: NDArray[np.float64], lengths: Sequence[int], layers: int) -> float:
    """What dropping takes at a layer, from what it takes to leave a row less behind each that may.

    That saves something too: a few rows of each layer, on the average half as many as there are layers.
    """
    long = np.array(lengths) >= 4 * layers
    if layers < 2 or not long.any():
        return 0.0
    left = 1 - (layers - 1) / 2 / np.array(lengths)[long]
    return max(0.0, float(np.median(each[long] - whole[long] * left)) / (layers - 1))


def _rising(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """More word vectors can't take less time; what looks so is noise."""
    return np.maximum.accumulate(times.clip(0))


def _time(run: Graphed, ids: Tensor) -> float:
    start = time.perf_counter()
    run(input_ids=ids, attention_mask=torch.ones_like(ids))
    if ids.is_cuda:
        torch.cuda.synchronize(ids.device)
    return time.perf_counter() - start
