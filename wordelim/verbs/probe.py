"""Is there anything to win? In minutes, without training: lengths, padding, and how far word vectors can be dropped."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedModel

from ..data.encode import lengths_of
from ..data.read import Data, open_data
from ..data.usable import Skipped
from ..errors import WordelimError
from ..evaluation.examples import Examples, pose
from ..evaluation.inference import logits_of
from ..evaluation.proven import require_proven
from ..evaluation.statistics import paired_bootstrap
from ..evaluation.timing import TIMED, Batch, Forward, forward_of, interleave
from ..graph.cost import cost_of
from ..graph.splice import eliminate_, eliminating_encoder, restore_
from ..graph.support import is_marked
from ..retention import Retention
from ..search.method import SPEEDS, Candidate, Context
from ..search.methods.calibrated import Calibrated
from ..search.significance import RANKING, linear_maps, may_rank, ranking_stages
from ..system.machine import environment, open_device
from ..system.printable import bare_name
from ..system.progress import FAST, Progress, expect, tokens
from ..tasks import template_for
from ..tasks.embedding import Embedding, Pooling
from ..tasks.metrics import name_of
from .opened import open_model
from .settings import ProbeSettings
from .worth import RECOVERABLE, WORTH, fastest, judge

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
        open_data(validation, delimiter=delimiter, encoding=encoding, skipped=skipped),
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
    candidates: Sequence[Candidate] = ()
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
    keep_all = eliminating_encoder(fast).retention
    keep_all = replace(keep_all, package=not keep_all.restore)
    cost = cost_of(eliminate_(fast, keep_all))
    random = np.random.default_rng(chosen.seed)
    sample = examples.sample(chosen.examples, random)
    lengths = lengths_of(sample)
    searched = cost.ratio(lengths, Retention((0.0,) * cost.layers)) > WORTH
    ranked = searched and may_rank(examples.task, cost)
    expect(progress, probe_stages(examples.lengths, len(sample), cost.layers, searched=searched, ranked=ranked))
    if ranked:
        maps = linear_maps(
            model, examples.task, sample, keep_all, seed=chosen.seed, progress=lambda share: progress(RANKING, share)
        )
        keep_all = replace(keep_all, significance=maps)
        cost = cost_of(eliminate_(fast, keep_all))
    if searched:
        context = Context.of(
            model,
            examples.task,
            sample,
            template=keep_all,
            flops=cost,
            batch_size=chosen.batch_size,
            progress=lambda stage, share: progress(f"search: {stage}", share),
        )
        candidates = Calibrated()(context).candidates
    dense, headroom = _headroom(model, fast, candidates, examples, sample, chosen, progress)
    work = examples.workload(batch_size=chosen.batch_size, texts=chosen.texts, seed=chosen.seed, device=model.device)
    retentions = [keep_all, *(candidate.retention for candidate in candidates)]
    packed, *speeds = _speeds(
        model, fast, retentions, work.dynamic, chosen.rounds, partial(progress, "measuring speed")
    )
    packing = {"flops_ratio": round(cost.ratio(lengths, keep_all), 3), "speedup": round(packed, 3)}
    for point, speed in zip(headroom, speeds, strict=True):
        point["speedup"] = round(speed, 3)
    verdict = judge(examples.encoded.spread["mean"], packing["speedup"], headroom, chosen.max_drop)
    return {
        "wordelim_probe": 1,
        "class": type(model).__name__,
        "verdict": verdict.answer,
        "because": verdict.because,
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


def probe_stages(
    lengths: Sequence[int], examples: int, layers: int, *, searched: bool, ranked: bool
) -> dict[str, float]:
    """The stages of a probe, and what each takes, in tokens through the dense encoder.

    Args:
        lengths: tokens of every text.
        examples: texts that are measured on.
        searched: whether there is anything to search.
        ranked: whether linear maps decide which word vectors stay.
    """
    speeds = len(SPEEDS) if searched else 0
    stages = ranking_stages(lengths, examples) if ranked else {}
    if searched:
        search = Calibrated().stages(lengths, layers, speeds)
        stages |= {f"search: {stage}": weight for stage, weight in search.items()}
        stages["measuring what is lost"] = speeds * tokens(lengths, examples) * FAST
    return {**stages, "measuring speed": 4 * tokens(lengths, TIMED) * (2 + speeds * FAST)}


def _headroom(
    dense: PreTrainedModel,
    fast: PreTrainedModel,
    candidates: Sequence[Candidate],
    examples: Examples,
    sample: datasets.Dataset,
    settings: ProbeSettings,
    progress: Progress,
) -> tuple[float, list[dict[str, Any]]]:
    """The points of the dense model, and what each candidate loses of them without retraining; ``fast`` is changed."""
    task, metric = examples.task, examples.metric

    def answers(model: PreTrainedModel, who: str) -> Any:
        logits = logits_of(model, sample, task, batch_size=settings.batch_size, who=who)
        return task.answers(metric, logits, sample)

    truth, judged, before = task.truth(sample), metric.of_answers(), answers(dense, "The dense model")
    headroom = []
    for done, candidate in enumerate(candidates, start=1):
        eliminate_(fast, candidate.retention)
        after = answers(fast, "The model with word vectors dropped")
        lost = paired_bootstrap(judged, before, after, truth, seed=settings.seed)
        ratio, drop = round(candidate.flops_ratio, 3), round(lost.drop, 3)
        headroom.append({**candidate.to_dict(), "flops_ratio": ratio, "drop": drop, "drop_interval_95": lost.ends})
        progress("measuring what is lost", done / len(candidates))
    return round(judged(before, truth), 3), headroom


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
