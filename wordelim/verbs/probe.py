"""Is there anything to win? In minutes, without training: lengths, padding, and how far word vectors can be dropped."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedModel

from ..data.encode import lengths_of
from ..data.read import Data, read
from ..data.usable import Skipped
from ..errors import WordelimError
from ..evaluation.examples import pose
from ..evaluation.proven import require_proven
from ..evaluation.timing import Batch, Forward, forward_of, interleave
from ..graph.splice import eliminate_, eliminating_encoder, restore_
from ..graph.support import is_marked
from ..retention import Retention
from ..system.machine import environment, open_device
from ..system.printable import bare_name
from ..system.progress import Progress
from ..tasks import template_for
from ..tasks.embedding import Embedding, Pooling
from ..tasks.metrics import name_of
from .headroom import measure, search
from .opened import open_model
from .settings import ProbeSettings
from .worth import RECOVERABLE, fastest, judge

__all__ = ["ProbeSettings", "probe", "probe_model"]


def probe(
    model_dir: str | os.PathLike[str],
    *,
    validation: Data,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    skip_bad_rows: bool = False,
    device: str | None = None,
    progress: Progress = lambda stage, share: None,
    **settings: Any,
) -> dict[str, Any]:
    """Say what compressing the model in a directory (or on the hub) promises; see :func:`probe_model`.

    Args:
        validation: labelled texts such as the model meets in use: a path, a hub name, or a data set.
        text, text_pair, label: names of the columns, where they aren't the usual ones; ``label`` may be several, of 0
            and 1 each, where a text may have several labels.
        delimiter, encoding: of data files, where they aren't the usual ones; see :func:`wordelim.data.read.read`.
        skip_bad_rows: leave out rows that can't be used, and list them in the report, instead of refusing them.
        device: where to compute; None for the accelerator that is there, else the processor.
        settings: fields of :class:`ProbeSettings`.

    Raises:
        WordelimError: the model, the data or a setting can't be used.

    Example:
        >>> report = wordelim.probe("my-bert", validation="dev.csv", examples=8, texts=8, rounds=1)
        >>> report["wordelim_probe"]
        1
    """
    chosen = ProbeSettings(**settings)
    opened = open_model(model_dir, "dense", device=open_device(device))
    tokenizer, embedding = opened.tokenizer, opened.embedding
    skipped = Skipped() if skip_bad_rows else None
    report = probe_model(
        opened.model,
        tokenizer,
        read(validation, delimiter=delimiter, encoding=encoding, skipped=skipped),
        chosen,
        columns={"text": text, "text_pair": text_pair, "label": label},
        embedding=embedding,
        skipped=skipped,
        progress=progress,
    )
    return {"model": bare_name(model_dir), **report}


def probe_model(
    model: PreTrainedModel,
    tokenizer: Any,
    validation: datasets.Dataset,
    settings: ProbeSettings | None = None,
    *,
    columns: Mapping[str, Any] | None = None,
    skipped: Skipped | None = None,
    pooling: Pooling = "mean",
    embedding: Embedding | None = None,
    progress: Progress = lambda stage, share: None,
) -> dict[str, Any]:
    """Measure, without training, what dropping word vectors would save and cost on these texts.

    Word vectors are ranked and packages left as ``compress`` does it unless told otherwise. What is lost is measured as
    the model is: retraining, which ``compress`` does, wins much of it back. The texts that the schedules are searched
    on are those that they are judged on, so the drops are a little too good; only ``compress`` proves anything.

    Args:
        model: a dense model of a known family; it is the same after as before, but in fp32.
        validation: texts with labels.
        columns: ``text``, ``text_pair`` and ``label``, where they aren't the usual ones.
        skipped: a :class:`wordelim.data.usable.Skipped`, which takes the rows that can't be used; None refuses them.
        pooling: how a model without a head makes an embedding.
        embedding: the same in full, with what follows the pooling; it goes before ``pooling``.

    Returns:
        The report as plain data: ``verdict`` and ``because``; ``lengths``; ``padding``, tokens computed for each real
        one; ``packing``, what the packed layout and the exact cut of the last layer give; ``headroom``, from slow to
        fast, the points lost, FLOPs ratio and measured speed; ``as_it_is`` and ``in_reach``, the fastest of these
        within ``max_drop`` without and (as an estimate) with retraining, or None.

    Raises:
        WordelimError: the model, the data or a setting can't be used.

    Example:
        >>> report = wordelim.probe_model(model, tokenizer, validation)
        >>> report["wordelim_probe"]
        1
    """
    started, chosen = time.perf_counter(), settings or ProbeSettings()
    if is_marked(model.config):
        raise WordelimError(f"{type(model).__name__} is compressed already: probe the dense model.")
    restore_(eliminate_(model, Retention.keep_all(max(1, getattr(model.config, "num_hidden_layers", 0)))))
    examples = pose(
        type(model).__name__,
        model.config,
        tokenizer,
        validation,
        names=columns,
        metric=chosen.metric,
        embedding=embedding or Embedding(pooling),
        model=model,
        max_length=chosen.max_length,
        part="test",
        skipped=skipped,
    )
    require_proven(model, examples.task, examples.dataset)
    model.float().eval()
    fast = eliminate_(copy.deepcopy(model), template_for(model, examples.task))
    random = np.random.default_rng(chosen.seed)
    sample = examples.sample(chosen.examples, random)
    found = search(model, fast, examples, sample, chosen, progress)
    dense, headroom = measure(model, fast, found.candidates, examples, sample, chosen, progress)
    work = examples.workload(batch_size=chosen.batch_size, texts=chosen.texts, seed=chosen.seed, device=model.device)
    retentions = [found.keep_all, *(candidate.retention for candidate in found.candidates)]
    packed, *speeds = _speeds(
        model, fast, retentions, work.dynamic, chosen.rounds, partial(progress, "measuring speed")
    )
    packing = {
        "flops_ratio": round(found.cost.ratio(lengths_of(sample), found.keep_all), 3),
        "speedup": round(packed, 3),
    }
    for point, speed in zip(headroom, speeds, strict=True):
        point["speedup"] = round(speed, 3)
    verdict, because = judge(examples.encoded.spread["mean"], packing["speedup"], headroom, chosen.max_drop)
    return {
        "wordelim_probe": 1,
        "class": type(model).__name__,
        "verdict": verdict,
        "because": because,
        "metric": examples.metric.name,
        "dense": dense,
        "lengths": examples.encoded.spread,
        "padding": _padding(random.permutation(examples.lengths), chosen.batch_size),
        "packing": packing,
        "headroom": headroom,
        "as_it_is": fastest(headroom, chosen.max_drop),
        "in_reach": fastest(headroom, chosen.max_drop + RECOVERABLE),
        "data": {**examples.describe(), "measured": len(sample)},
        "settings": {**asdict(chosen), "metric": name_of(chosen.metric)},
        "seconds": round(time.perf_counter() - started, 1),
        **environment(model.device),
    }


def _padding(lengths: Any, batch_size: int) -> dict[str, float]:
    """Tokens computed for each real one: padded to the longest text of all, and of each random batch."""
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    dynamic = sum(int(batch.max()) * len(batch) for batch in batches)
    real = int(lengths.sum())
    return {"fixed": round(int(lengths.max()) * len(lengths) / real, 3), "dynamic": round(dynamic / real, 3)}


def _speeds(
    dense: PreTrainedModel,
    fast: PreTrainedModel,
    retentions: Sequence[Retention],
    batches: Sequence[Batch],
    rounds: int,
    progress: Callable[[float], None],
) -> list[float]:
    """How much faster than the dense model each retention is, interleaved, in batches padded to their longest text."""
    encoder, run = eliminating_encoder(fast), forward_of(fast)

    def at(retention: Retention) -> Forward:
        def forward(batch: Batch) -> None:
            encoder.retention = retention
            run(batch)

        return forward

    runs: dict[str, tuple[Forward, Sequence[Batch]]] = {"dense": (forward_of(dense), batches)}
    runs |= {str(number): (at(retention), batches) for number, retention in enumerate(retentions)}
    totals = {name: taken.sum(1) for name, taken in interleave(runs, rounds, progress=progress).items()}
    return [float(np.median(totals["dense"] / totals[str(number)])) for number in range(len(retentions))]
