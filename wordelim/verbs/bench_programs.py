"""Time exported programs against each other, or against models in PyTorch."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

import datasets
import torch
import transformers
from transformers import PreTrainedModel

from ..checkpoint.directory import load, load_dense
from ..checkpoint.sentence_transformers import companions, embedding_of
from ..data.encode import sequences_of
from ..data.labels import names_of
from ..data.split import describe
from ..data.usable import Skipped
from ..errors import ExportError, WordelimError
from ..evaluation.examples import check_tokenizer, encode_usable
from ..evaluation.speedups import speedups
from ..evaluation.timing import Forward, forward_of, workload
from ..exporting.runtime import EXPORT_FILE, ExportedModel, is_exported
from ..graph.cost import Cost, cost_of
from ..graph.splice import eliminate_, retention_of
from ..graph.support import is_marked
from ..retention import Retention
from ..system.inputs import UnreadableError, read_json
from ..system.machine import environment
from ..system.progress import Progress, expect
from ..tasks import task_for
from .opening import open_tokenizer
from .settings import BenchSettings

__all__ = ["bench_programs"]

Side: TypeAlias = PreTrainedModel | ExportedModel


def bench_programs(
    base: str | os.PathLike[str],
    compressed: str | os.PathLike[str],
    data: datasets.Dataset,
    settings: BenchSettings,
    *,
    columns: Mapping[str, Any],
    skipped: Skipped | None = None,
    progress: Progress = lambda stage, share: None,
) -> dict[str, Any]:
    """Time a dense and a compressed directory, of which at least one is exported, on the same texts on a CPU.

    The report is that of :func:`wordelim.verbs.bench.bench_models`, without the model that keeps everything.

    Args:
        base: the dense side: a model, or a program exported from one.
        compressed: the compressed side: likewise.
        skipped: takes the rows that can't be used; None refuses them.

    Raises:
        WordelimError: a side can't be run, isn't what it should be, or they have different labels or words.
    """
    dense, fast = _open(base, load_dense), _open(compressed, load)
    if _retention(dense) is not None:
        raise ExportError(f"{base} is compressed: name the dense model, or one exported from it, first.")
    retention = _retention(fast)
    if retention is None:
        raise ExportError(f"{compressed} was exported dense: name one that was exported from a compressed model.")
    if names_of(dense.config) != names_of(fast.config):
        raise WordelimError(f"{base} and {compressed} have different labels: name two sides of one model.")
    tokenizer = open_tokenizer(base)
    check_tokenizer(tokenizer)
    if tokenizer.get_vocab() != open_tokenizer(compressed).get_vocab():
        raise WordelimError(f"The tokenizers of {base} and {compressed} have different words.")
    embedding = embedding_of(companions(base), _class(dense.config))
    task = task_for(_class(dense.config), dense.config, tokenizer, data, embedding=embedding)
    found = task.find_columns(data, **columns, need_label=False)
    data, encoded = encode_usable(task, data, found, max_length=settings.max_length, skipped=skipped)
    forwards, cost = {"dense": _forward(dense), "compressed": _forward(fast)}, _cost(dense.config, retention)
    longest = settings.max_length or max(encoded.lengths)
    measured: dict[str, Any] = {}
    parts = {"throughput": (settings.batch_size, settings.texts), "latency": (1, settings.latency_texts)}
    expect(progress, {part: float(texts) for part, (_, texts) in parts.items()})
    for part, (size, texts) in parts.items():
        if texts:
            given = workload(
                sequences_of(encoded.dataset),
                tokenizer,
                max_length=longest,
                batch_size=size,
                texts=texts,
                seed=settings.seed,
            )
            measured[part] = speedups(
                forwards,
                given,
                cost,
                retention,
                rounds=settings.rounds,
                progress=lambda share, part=part: progress(part, share),  # type: ignore[misc]
            )
    precisions, runtimes = zip(_kind(dense), _kind(fast), strict=True)
    return {
        "wordelim_bench": 1,
        "class": _class(dense.config),
        "attention": None,
        "retention": retention.to_dict(),
        "last_layer_cut_to_first_token": cost.first_token,
        "data": {**describe(data, found, encoded, skipped), "lengths": encoded.spread},
        "fixed_length": longest,
        "settings": asdict(settings),
        "measurements": [{"dtype": _against(precisions), "mode": _against(runtimes), **measured}],
        **environment("cpu"),
    }


def _open(directory: str | os.PathLike[str], otherwise: Any) -> Side:
    if is_exported(directory):
        return ExportedModel(directory, threads=torch.get_num_threads())
    model: PreTrainedModel = otherwise(directory, dtype=torch.float32).eval()
    return model


def _retention(side: Side) -> Retention | None:
    if isinstance(side, ExportedModel):
        return side.retention
    return retention_of(side) if is_marked(side.config) else None


def _forward(side: Side) -> Forward:
    return (lambda batch: side(**batch)) if isinstance(side, ExportedModel) else forward_of(side)


def _kind(side: Side) -> tuple[str, str]:
    """Precision and runtime."""
    if not isinstance(side, ExportedModel):
        return "float32", "eager"
    report = side.directory / EXPORT_FILE
    try:
        int8 = report.exists() and read_json(report)["int8"]
    except (UnreadableError, KeyError, TypeError) as error:
        reason = error if isinstance(error, UnreadableError) else "doesn't say int8"
        raise ExportError(f"{report} {reason}: export the model again.") from error
    return "int8" if int8 else "float32", side.format


def _against(sides: tuple[str, ...]) -> str:
    dense, fast = sides
    return dense if dense == fast else f"{fast} against {dense}"


def _class(config: Any) -> str:
    return str(config.architectures[0])


def _cost(config: Any, retention: Retention) -> Cost:
    """Of a model of this config with random weights, for a program has no graph of modules."""
    model: PreTrainedModel = getattr(transformers, _class(config))(copy.deepcopy(config))
    return cost_of(eliminate_(model, retention))
