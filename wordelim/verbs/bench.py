"""Measure a compressed model's latency and throughput against the dense model's."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import datasets
import torch
from transformers import PreTrainedModel

from ..checkpoint.directory import load_dense
from ..checkpoint.sentence_transformers import companions, embedding_of
from ..data.encode import sequences_of
from ..data.read import Data, open_data
from ..data.split import describe
from ..data.usable import Skipped
from ..errors import WordelimError
from ..evaluation.examples import check_tokenizer, check_vocabulary, encode_usable
from ..evaluation.speedups import speedups
from ..evaluation.timing import forward_of, workload
from ..exporting.runtime import is_exported
from ..graph.cost import cost_of
from ..graph.splice import eliminate_, retention_of
from ..retention import Retention
from ..system.machine import environment, has_fast_bf16, move, open_device
from ..system.printable import bare_name
from ..system.progress import Progress, expect
from ..tasks import task_for
from ..tasks.embedding import Embedding
from .bench_programs import bench_programs
from .opening import open_pair, open_tokenizer
from .settings import BenchSettings

__all__ = ["bench", "bench_models"]


def bench(
    base: str | os.PathLike[str],
    compressed: str | os.PathLike[str] | None = None,
    *,
    data: Data,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    skip_bad_rows: bool = False,
    device: str | torch.device | None = None,
    speed: float | None = None,
    progress: Progress = lambda stage, share: None,
    **settings: Any,
) -> dict[str, Any]:
    """Time a dense model and the one compressed from it on the same texts, in one run; see :func:`bench_models`.

    Args:
        base: the dense model, a directory or a hub name; or an exported directory.
        compressed: the directory that was made from it. None: what the packed layout and the exact cut of the last
            layer alone give to ``base``, with nothing dropped and nothing trained. It may be an exported directory.
        data: texts such as the model meets in use: a path, a hub name, or a data set. Labels aren't needed, but where
            there are some they must be the model's.
        text, text_pair, label: names of the columns, where they aren't the usual ones; ``label`` may be several, of 0
            and 1 each, where a text may have several labels.
        delimiter, encoding: of data files, where they aren't the usual ones; see :func:`wordelim.data.read.read`.
        skip_bad_rows: leave out rows that can't be used, and list them in the report, instead of refusing them.
        device: where to compute; None for the accelerator that is there, else the processor.
        speed: one of those that ``compressed`` was made for; None for the one that its config names.
        settings: fields of :class:`wordelim.verbs.settings.BenchSettings`.

    Returns:
        The report, as plain data.

    Raises:
        AnswersError: a model answers with NaN or infinity to a text that it is timed on.
        WordelimError: a model, the data or a setting can't be used; the two models aren't one before and after.
    """
    chosen = BenchSettings(**settings)
    columns = {"text": text, "text_pair": text_pair, "label": label}
    names = {"base": bare_name(base), "compressed": None if compressed is None else bare_name(compressed)}
    skipped = Skipped() if skip_bad_rows else None
    opened = partial(open_data, data, delimiter=delimiter, encoding=encoding, skipped=skipped)
    if is_exported(base) or (compressed is not None and is_exported(compressed)):
        if compressed is None:
            raise WordelimError(f"{base} is an exported program: name the compressed one to time it against.")
        if speed is not None:
            raise WordelimError(f"A program has one speed: leave {speed:g} out, or export the model at that speed.")
        report = bench_programs(base, compressed, opened(), chosen, columns=columns, skipped=skipped, progress=progress)
        return {**names, **report}
    place = open_device(device)
    if compressed is None:
        dense, fast, tokenizer = load_dense(base), None, open_tokenizer(base)
    else:
        dense, fast, tokenizer = open_pair(base, compressed, speed=speed)
        move(fast, place)
    embedding = embedding_of(companions(base), type(dense).__name__)
    report = bench_models(
        move(dense, place),
        fast,
        tokenizer,
        opened(),
        chosen,
        columns=columns,
        embedding=embedding,
        skipped=skipped,
        progress=progress,
    )
    return {**names, **report}


def bench_models(
    dense: PreTrainedModel,
    compressed: PreTrainedModel | None,
    tokenizer: Any,
    data: datasets.Dataset,
    settings: BenchSettings,
    *,
    columns: Mapping[str, Any] = MappingProxyType({}),
    embedding: Embedding | None = None,
    skipped: Skipped | None = None,
    progress: Progress = lambda stage, share: None,
) -> dict[str, Any]:
    """Time models on the same texts: throughput in batches and latency one text at a time, interleaved.

    Each stands against the dense model under SDPA in its own dtype, in eager mode and, if asked for, through
    ``torch.compile``. What is measured, and against what, is said in :func:`wordelim.evaluation.speedups.speedups`.

    Args:
        dense: the dense model; its dtype is changed.
        compressed: the one made from it, on the same device; None judges ``dense`` rewritten with nothing dropped.
        columns: ``text``, ``text_pair`` and ``label``, where they aren't the usual ones.
        embedding: how models without a head read texts; None as they are.
        skipped: takes the rows that can't be used; None refuses them.

    Raises:
        WordelimError: the models, the data or a setting can't be used.
    """
    layers = max(1, getattr(dense.config, "num_hidden_layers", 0))
    everything = Retention.keep_all(layers)
    if compressed is not None:
        everything = replace(retention_of(compressed), keep=everything.keep, kind=everything.kind)
    keep_all = eliminate_(copy.deepcopy(dense), everything)
    check_tokenizer(tokenizer)
    task = task_for(type(dense).__name__, dense.config, tokenizer, data, embedding=embedding)
    found = task.find_columns(data, **columns, need_label=False)
    data, encoded = encode_usable(task, data, found, max_length=settings.max_length, skipped=skipped)
    check_vocabulary(encoded.dataset, dense)
    models = {"dense": dense, "keep-all": keep_all, **({} if compressed is None else {"compressed": compressed})}
    for model in models.values():
        model.eval()
    device, cost = dense.device, cost_of(keep_all)
    retention = retention_of(keep_all if compressed is None else compressed)
    longest = settings.max_length or max(encoded.lengths)
    parts = {"throughput": (settings.batch_size, settings.texts)}
    if settings.latency_texts:
        parts["latency"] = (1, settings.latency_texts)
    work = {
        part: workload(
            sequences_of(encoded.dataset),
            tokenizer,
            max_length=longest,
            batch_size=batch_size,
            texts=texts,
            seed=settings.seed,
            device=device,
        )
        for part, (batch_size, texts) in parts.items()
    }
    dtypes, modes = settings.dtypes or _fast_dtypes(device), ("eager", "compiled")[: 1 + settings.compiled]
    expect(
        progress,
        {f"{part}, {dtype}, {mode}": float(parts[part][1]) for dtype in dtypes for mode in modes for part in parts},
    )
    measurements = []
    for dtype in dtypes:
        for model in models.values():
            move(model, getattr(torch, dtype))
        for mode in modes:
            compiled = mode == "compiled"
            forwards = {name: forward_of(model, compiled=compiled) for name, model in models.items()}
            measured = {}
            for part, given in work.items():
                stage = f"{part}, {dtype}, {mode}"
                progress(stage, 0.0)
                with _compiler_errors(compiled):
                    measured[part] = speedups(
                        forwards,
                        given,
                        cost,
                        retention,
                        rounds=settings.rounds,
                        progress=lambda share, stage=stage: progress(stage, share),  # type: ignore[misc]
                    )
            measurements.append({"dtype": dtype, "mode": mode, **measured})
    return {
        "wordelim_bench": 1,
        "class": type(dense).__name__,
        "attention": dense.config._attn_implementation,
        "retention": None if compressed is None else retention.to_dict(),
        "last_layer_cut_to_first_token": cost.first_token,
        "data": {**describe(data, found, encoded, skipped), "lengths": encoded.spread},
        "fixed_length": longest,
        "settings": asdict(settings),
        "measurements": measurements,
        **environment(device),
    }


def _fast_dtypes(device: torch.device) -> tuple[str, ...]:
    return ("float32", "bfloat16") if has_fast_bf16(device) else ("float32",)


@contextmanager
def _compiler_errors(compiled: bool) -> Iterator[None]:
    """Say what to do where torch.compile fails; it raises errors of many classes."""
    try:
        yield
    except Exception as error:
        if not compiled or isinstance(error, WordelimError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise WordelimError(
            f"torch.compile fails here ({reason}): leave the compiled measurement out, or see that a C++ compiler is "
            "there."
        ) from error
