"""Measure how fast models are, side by side on the same texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from wordelim.adapters.family import chooses

from ..errors import AnswersError
from ..graph.graphed import Graphed
from ..system.progress import FAST, tokens
from ..tasks import ask
from .inference import batches, has_numbers

__all__ = [
    "TIMED",
    "Batch",
    "Forward",
    "Mode",
    "Workload",
    "forward_of",
    "interleave",
    "measure_speed",
    "timing",
    "workload",
]

Batch: TypeAlias = Mapping[str, Tensor]
"""Inputs of a model by name, each [batch, tokens]."""
Forward: TypeAlias = Callable[[Batch], object]
"""What is timed: it takes one batch and returns the result once it is there."""
Mode: TypeAlias = Literal["eager", "compiled", "graphed"]
"""How a model is run."""


# Enough for every shape of the texts that are timed one at a time.
_GRAPHS = 256

TIMED = 128
"""Texts that speed is measured on."""


@dataclass(frozen=True)
class Workload:
    """The same texts in batches of three kinds.

    Args:
        fixed: random batches, every text padded to one length.
        dynamic: the same batches, padded to their longest text, as pipelines do.
        unpadded: batches of texts of similar length, each cut or repeated to its batch's mean length: as many tokens
            as in the real texts, and not one of padding.
        lengths: real tokens of each text in ``fixed`` and ``dynamic``, in their order.
    """

    fixed: Sequence[Batch]
    dynamic: Sequence[Batch]
    unpadded: Sequence[Batch]
    lengths: tuple[int, ...]


def workload(
    encoded: datasets.Dataset,
    tokenizer: Any,
    *,
    max_length: int,
    batch_size: int,
    texts: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Workload:
    """Batches of ``texts`` random texts (all where there are fewer), on ``device``.

    Args:
        max_length: tokens to which ``fixed`` pads.
    """
    order = np.random.default_rng(seed).permutation(len(encoded))[:texts]
    lengths = np.asarray(encoded["length"])[order]
    by_length = order[np.argsort(lengths, kind="stable")]

    def made(rows: NDArray[np.int64], **pad: Any) -> list[Batch]:
        taken = batches(encoded, tokenizer, rows.tolist(), batch_size, **pad)
        return [{name: values.to(device) for name, values in batch.items()} for batch in taken]

    return Workload(
        fixed=made(order, padding="max_length", max_length=max_length),
        dynamic=made(order),
        unpadded=[_without_padding(batch) for batch in made(by_length)],
        lengths=tuple(lengths.tolist()),
    )


def _without_padding(batch: Batch) -> Batch:
    """Every text cut or repeated to the batch's mean length."""
    real = batch["attention_mask"].sum(1, keepdim=True)
    width = round(float(real.float().mean()))
    columns = torch.arange(width, device=real.device) % real
    return {name: values.gather(1, columns) for name, values in batch.items()}


def forward_of(model: Any, *, mode: Mode = "eager") -> Forward:
    """What is timed of a model: inference on a batch that is on its device already, until the device is done.

    A model that chooses among several texts is given each text as the only choice.

    Args:
        model: a PyTorch model, or an exported program.
        mode: ``compiled``: through torch.compile with dynamic shapes; ``graphed``: from CUDA graphs, one for inputs of
            a size.
    """
    device = model.device
    choices = chooses(model)
    run: Callable[..., object] = model
    if mode == "compiled":
        run = torch.compile(model, dynamic=True)
    elif mode == "graphed":
        run = Graphed(model, most=_GRAPHS)

    def forward(batch: Batch) -> object:
        with torch.inference_mode():
            result = ask(run, {name: of[:, None] if choices else of for name, of in batch.items()}, model.config)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return result

    return forward


def interleave(
    runs: Mapping[str, tuple[Forward, Sequence[Batch]]],
    rounds: int,
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, NDArray[np.float64]]:
    """Seconds of every run, [rounds, batches]: in each round, batch by batch, each run in turn; one round goes untimed.

    So what slows the machine down for a while slows all of them, and ratios within a round stay right. What a model
    answers is looked at in the untimed round: one that computes nothing but NaN isn't fast.

    Args:
        runs: by name: what is timed, and its batches; all have the same number of batches.

    Raises:
        AnswersError: a model answers with NaN or infinity.
    """
    counts = {len(batches) for _, batches in runs.values()}
    (count,) = counts
    seconds = {name: np.empty((rounds, count)) for name in runs}
    for round_ in range(-1, rounds):
        for number in range(count):
            for name, (forward, given) in runs.items():
                start = time.perf_counter()
                result = forward(given[number])
                if round_ >= 0:
                    seconds[name][round_, number] = time.perf_counter() - start
                elif not has_numbers(result, given[number]["attention_mask"]):
                    raise AnswersError(f"A model that is timed ({name})", "answers with NaN or infinity")
                del result
        progress((round_ + 2) / (rounds + 1))
    return seconds


def measure_speed(
    dense: PreTrainedModel,
    compressed: PreTrainedModel,
    encoded: datasets.Dataset,
    tokenizer: Any,
    *,
    max_length: int,
    batch_size: int = 32,
    texts: int = TIMED,
    rounds: int = 5,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Time both models on the same texts, interleaved, in eager mode, each in its own dtype.

    Args:
        encoded: encoded texts, of which ``texts`` random ones are taken.
        max_length: tokens to which the fixed protocol pads.
        rounds: how often each is timed, after one untimed pass.

    Returns:
        As plain data, for a report: how many times faster the compressed model is, the median over rounds of the ratio
        of the two times in that round, and how that was measured. ``fixed``: the dense model given every text padded to
        ``max_length`` (the paper's protocol), the compressed one the same batches padded to their longest text;
        ``dynamic``: both given random batches padded to their longest text, as pipelines do; ``unpadded``: both given
        batches of texts of equal length, so that neither computes padding.
    """
    work = workload(
        encoded, tokenizer, max_length=max_length, batch_size=batch_size, texts=texts, seed=seed, device=dense.device
    )
    slow, fast = forward_of(dense), forward_of(compressed)
    seconds = interleave(
        {
            "dense fixed": (slow, work.fixed),
            "dense dynamic": (slow, work.dynamic),
            "dense unpadded": (slow, work.unpadded),
            "compressed dynamic": (fast, work.dynamic),
            "compressed unpadded": (fast, work.unpadded),
        },
        rounds,
        progress=progress,
    )

    def ratio(slow: str, fast: str) -> float:
        return float(np.median(seconds[slow].sum(1) / seconds[fast].sum(1)))

    return {
        "fixed": ratio("dense fixed", "compressed dynamic"),
        "dynamic": ratio("dense dynamic", "compressed dynamic"),
        "unpadded": ratio("dense unpadded", "compressed unpadded"),
        "batch_size": batch_size,
        "max_length": max_length,
        "texts": len(work.lengths),
        "threads": torch.get_num_threads(),
        "dtype": str(compressed.dtype).removeprefix("torch."),
        "rounds": rounds,
    }


def timing(lengths: Sequence[int], padded: int | None = None, rounds: int = 5) -> float:
    """What :func:`measure_speed` takes on texts of these lengths, in tokens through the dense encoder."""
    texts = min(TIMED, len(lengths))
    return (1 + rounds) * (texts * (padded or max(lengths)) + tokens(lengths, texts) * (2 + 2 * FAST))
