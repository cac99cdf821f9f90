"""Is there anything to win? In minutes, without training: lengths, padding, and how far word vectors can be dropped."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedModel

from ..checkpoint.directory import load_dense
from ..checkpoint.sentence_transformers import companions, embedding_of
from ..data.encode import lengths_of, sequences_of
from ..data.read import Data, open_data
from ..data.split import describe
from ..data.usable import Skipped
from ..errors import WordelimError
from ..evaluation.examples import check_tokenizer, check_vocabulary, encode_usable
from ..evaluation.inference import logits_of
from ..evaluation.statistics import paired_bootstrap
from ..evaluation.timing import TIMED, Batch, Forward, forward_of, interleave, workload
from ..graph.cost import cost_of
from ..graph.splice import eliminate_, eliminating_encoder, restore_
from ..graph.support import is_marked
from ..retention import Retention
from ..search.method import SPEEDS, Candidate, Context
from ..search.methods.calibrated import Calibrated
from ..system.machine import environment, move, open_device
from ..system.printable import bare_name
from ..system.progress import FAST, Progress, expect, tokens
from ..tasks import task_for, template_for
from ..tasks.embedding import Embedding, Pooling
from ..tasks.metrics import name_of
from .opening import open_tokenizer
from .settings import ProbeSettings

__all__ = ["ProbeSettings", "Verdict", "judge", "probe", "probe_model"]

# Points above the bound that retraining may win back: a rule of thumb, put to the test by tests/benchmarks/probe.py.
RECOVERABLE = 3.0
# Tokens below which a text has little to drop: special tokens and the few words that decide are all there is.
_SHORT = 16
# What dropping must win over packing, and packing over padding, to be worth a user's while.
_WORTH, _WORTH_PACKING = 1.2, 1.15


@dataclass(frozen=True)
class Verdict:
    """Whether compressing is worth it: ``worth it``, ``pack only`` or ``no``, and why in a sentence."""

    answer: str
    because: str


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
    """
    chosen = ProbeSettings(**settings)
    place = open_device(device)
    model, tokenizer = load_dense(model_dir), open_tokenizer(model_dir)
    embedding = embedding_of(companions(model_dir), type(model).__name__)
    columns = {"text": text, "text_pair": text_pair, "label": label}
    skipped = Skipped() if skip_bad_rows else None
    report = probe_model(
        move(model, place),
        tokenizer,
        open_data(validation, delimiter=delimiter, encoding=encoding, skipped=skipped),
        chosen,
        columns=columns,
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

    What is lost is measured as the model is: retraining, which ``compress`` does, wins much of it back. The texts that
    the schedules are searched on are those that they are judged on, so the drops are a little too good; only
    ``compress`` proves anything.

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
    """
    started, chosen = time.perf_counter(), settings or ProbeSettings()
    if is_marked(model.config):
        raise WordelimError(f"{type(model).__name__} is compressed already: probe the dense model.")
    restore_(eliminate_(model, Retention.keep_all(max(1, getattr(model.config, "num_hidden_layers", 0)))))
    check_tokenizer(tokenizer)
    name = type(model).__name__
    task = task_for(
        name, model.config, tokenizer, validation, metric=chosen.metric, embedding=embedding or Embedding(pooling)
    )
    found = task.find_columns(validation, **(columns or {}))
    validation, encoded = encode_usable(
        task, validation, found, max_length=chosen.max_length, part="test", skipped=skipped
    )
    check_vocabulary(encoded.dataset, model)
    metric = task.metric(chosen.metric)
    model.float().eval()
    fast = eliminate_(copy.deepcopy(model), template_for(model, task))
    keep_all, cost = eliminating_encoder(fast).retention, cost_of(fast)
    random = np.random.default_rng(chosen.seed)
    units = task.units(encoded.dataset)
    examples = random.permutation(int(units.max()) + 1)[: chosen.examples]
    sample = encoded.dataset.select(np.flatnonzero(np.isin(units, examples)).tolist())
    truth, lengths = task.truth(sample), lengths_of(sample)

    def answers(of: PreTrainedModel) -> Any:
        who = "The dense model" if of is model else "The model with word vectors dropped"
        return task.answers(metric, logits_of(of, sample, task, batch_size=chosen.batch_size, who=who), sample)

    candidates: Sequence[Candidate] = ()
    searched = cost.ratio(lengths, Retention((0.0,) * cost.layers)) > _WORTH
    expect(progress, probe_stages(encoded.lengths, len(sample), cost.layers, searched=searched))
    if searched:
        context = Context.of(
            model,
            task,
            sample,
            template=keep_all,
            flops=cost,
            batch_size=chosen.batch_size,
            progress=lambda stage, share: progress(f"search: {stage}", share),
        )
        candidates = Calibrated()(context).candidates
    dense, judged = answers(model), metric.of_answers()
    headroom: list[dict[str, Any]] = []
    for done, candidate in enumerate(candidates):
        eliminate_(fast, candidate.retention)
        lost = paired_bootstrap(judged, dense, answers(fast), truth, seed=chosen.seed)
        headroom.append(
            {
                **candidate.to_dict(),
                "flops_ratio": round(candidate.flops_ratio, 3),
                "drop": round(lost.drop, 3),
                "drop_interval_95": lost.ends,
            }
        )
        progress("measuring what is lost", (done + 1) / len(candidates))
    speeds = _speeds(
        model,
        fast,
        [keep_all, *(candidate.retention for candidate in candidates)],
        workload(
            sequences_of(encoded.dataset),
            tokenizer,
            max_length=max(encoded.lengths),
            batch_size=chosen.batch_size,
            texts=chosen.texts,
            seed=chosen.seed,
            device=model.device,
        ).dynamic,
        chosen.rounds,
        lambda share: progress("measuring speed", share),
    )
    packing = {"flops_ratio": round(cost.ratio(lengths, keep_all), 3), "speedup": round(speeds[0], 3)}
    for point, speed in zip(headroom, speeds[1:], strict=True):
        point["speedup"] = round(speed, 3)
    verdict = judge(encoded.spread["mean"], packing["speedup"], headroom, chosen.max_drop)
    return {
        "wordelim_probe": 1,
        "class": name,
        "verdict": verdict.answer,
        "because": verdict.because,
        "metric": metric.name,
        "dense": round(judged(dense, truth), 3),
        "lengths": encoded.spread,
        "padding": _padding(random.permutation(encoded.lengths), chosen.batch_size),
        "packing": packing,
        "headroom": headroom,
        "as_it_is": _fastest(headroom, chosen.max_drop),
        "in_reach": _fastest(headroom, chosen.max_drop + RECOVERABLE),
        "data": {**describe(validation, found, encoded, skipped), "measured": len(sample)},
        "settings": {**asdict(chosen), "metric": name_of(chosen.metric)},
        "seconds": round(time.perf_counter() - started, 1),
        **environment(model.device),
    }


def probe_stages(lengths: Sequence[int], examples: int, layers: int, *, searched: bool) -> dict[str, float]:
    """The stages of a probe, and what each takes, in tokens through the dense encoder.

    Args:
        lengths: tokens of every text.
        examples: texts that are measured on.
        searched: whether there is anything to search.
    """
    speeds, stages = len(SPEEDS) if searched else 0, {}
    if searched:
        search = Calibrated().stages(lengths, layers, speeds)
        stages = {f"search: {stage}": weight for stage, weight in search.items()}
        stages["measuring what is lost"] = speeds * tokens(lengths, examples) * FAST
    return {**stages, "measuring speed": 4 * tokens(lengths, TIMED) * (2 + speeds * FAST)}


def judge(mean_length: float, packing: float, headroom: Sequence[Mapping[str, Any]], max_drop: float) -> Verdict:
    """Whether it is worth it.

    Args:
        mean_length: tokens of a text, on average.
        packing: measured speed-up of the rewritten model that drops nothing.
        headroom: from slow to fast, with ``drop`` and ``speedup``.
        max_drop: points that may be lost.
    """
    packed = f"packing alone gives {packing:.2f}x on batches of mixed length here"
    reach = _fastest(headroom, max_drop + RECOVERABLE)
    if mean_length < _SHORT:
        return Verdict("no", f"your inputs average {mean_length:.0f} tokens, too few to drop from; {packed}")
    if reach is not None and reach["speedup"] >= _WORTH * packing:
        now = _fastest(headroom, max_drop)
        held = "none of it without retraining" if now is None else f"{now['speedup']:.2f}x without retraining"
        return Verdict(
            "worth it",
            f"about {reach['speedup']:.2f}x is in reach with retraining, {held}; {packed}",
        )
    if packing >= _WORTH_PACKING:
        return Verdict("pack only", f"{packed}, and dropping word vectors adds little within {max_drop:g} points")
    return Verdict("no", f"{packed}, and dropping word vectors adds little within {max_drop:g} points")


def _fastest(headroom: Sequence[Mapping[str, Any]], bound: float) -> Mapping[str, Any] | None:
    return next((point for point in reversed(headroom) if point["drop"] <= bound + 1e-9), None)


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
