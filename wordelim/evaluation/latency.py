"""Measure a compressed model's speed against its dense one, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import datasets
import numpy as np
import torch
from transformers import PreTrainedModel

from .inference import batches

__all__ = ["Speed", "measure_speed"]


@dataclass(frozen=True)
class Speed:
    """How much faster the compressed model is than the dense one, and how that was measured.

    Args:
        fixed: dense model given every text padded to ``max_length`` (the paper's protocol).
        dynamic: both given random batches padded to their longest text, as pipelines do.
        unpadded: both given batches of texts of (nearly) equal length, so that neither computes padding.
        batch_size, max_length, texts, threads, dtype, rounds: of the measurement; each figure is the median over
            rounds of the ratio of the two times in that round.
    """

    fixed: float
    dynamic: float
    unpadded: float
    batch_size: int
    max_length: int
    texts: int
    threads: int
    dtype: str
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a report."""
        return asdict(self)


@torch.inference_mode()
def measure_speed(
    dense: PreTrainedModel,
    compressed: PreTrainedModel,
    encoded: datasets.Dataset,
    tokenizer: Any,
    *,
    max_length: int,
    batch_size: int = 32,
    texts: int = 128,
    rounds: int = 5,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Speed:
    """Time both models on the same texts, interleaved, in eager mode, each in its own dtype.

    Args:
        encoded: encoded texts, of which ``texts`` random ones are taken.
        max_length: tokens to which the fixed protocol pads.
        rounds: how often each is timed, after one untimed pass.
    """
    random_order = np.random.default_rng(seed).permutation(len(encoded))[:texts]
    lengths = np.asarray(encoded["length"])[random_order]
    by_length = random_order[np.argsort(lengths, kind="stable")]
    shuffled = [dict(b) for b in batches(encoded, tokenizer, random_order.tolist(), batch_size)]
    even = list(batches(encoded, tokenizer, by_length.tolist(), batch_size))
    padded = list(
        batches(encoded, tokenizer, random_order.tolist(), batch_size, padding="max_length", max_length=max_length)
    )
    runs: dict[str, tuple[PreTrainedModel, list[dict[str, torch.Tensor]]]] = {
        "dense fixed": (dense, padded),
        "dense dynamic": (dense, shuffled),
        "dense unpadded": (dense, even),
        "compressed dynamic": (compressed, shuffled),
        "compressed unpadded": (compressed, even),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, (model, inputs) in runs.items():
            seconds = _time(model, inputs)
            if round_:
                times[name].append(seconds)
        progress((round_ + 1) / (rounds + 1))

    def ratio(slow: str, fast: str) -> float:
        return float(np.median(np.array(times[slow]) / np.array(times[fast])))

    return Speed(
        fixed=ratio("dense fixed", "compressed dynamic"),
        dynamic=ratio("dense dynamic", "compressed dynamic"),
        unpadded=ratio("dense unpadded", "compressed unpadded"),
        batch_size=batch_size,
        max_length=max_length,
        texts=len(random_order),
        threads=torch.get_num_threads(),
        dtype=str(compressed.dtype).removeprefix("torch."),
        rounds=rounds,
    )


def _time(model: PreTrainedModel, inputs: list[dict[str, torch.Tensor]]) -> float:
    device = model.device
    start = time.perf_counter()
    for batch in inputs:
        model(**{name: values.to(device) for name, values in batch.items()})
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
