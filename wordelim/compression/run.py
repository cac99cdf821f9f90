"""The story of one compression: find, choose, verify."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import datasets
import numpy as np
import torch
from transformers import PreTrainedModel, set_seed

from ..data.encode import lengths_of
from ..data.usable import Skipped
from ..errors import DataError, UnsupportedModelError
from ..evaluation.inference import logits_of
from ..graph.protect import bare_rules
from ..graph.splice import restore_, retention_of
from ..graph.support import is_marked
from ..retention import Retention
from ..system.machine import environment, has_fast_bf16, move
from ..system.memory import peak_memory
from ..system.processes import from_main, processes
from ..system.progress import Progress, expect
from ..tasks.embedding import Embedding, embeds
from ..training.fit import unwrap_
from .choose import choose, choose_stages
from .find import find, find_stages
from .identity import digest_of_code, identity
from .job import Job, Log
from .journal import Journal
from .prepare import Given, Ready, prepare, sources
from .rank import rank, rank_stages
from .settings import Settings
from .verify import verify, verify_stages

__all__ = ["CompressionResult", "compress_model", "run", "stages", "told"]

# Texts that tell how long a run will take.
_TIMED = 32
# Learning rates of the retraining. What answers for every token, or makes an embedding of all, meets word vectors from
# layers that it has never read. Heads that pool all tokens for one answer are few, and weren't tried.
_RATE, _RATE_OF_EVERY_TOKEN = 5e-5, 2e-4


@dataclass(frozen=True)
class CompressionResult:
    """What a compression came to.

    Args:
        model: the compressed model.
        retention: how many word vectors each of its layers keeps.
        met: whether the drop, and the speed-up where one was asked for, were reached on the validation texts.
        report: everything measured, as plain data.
        output: the directory that was written, if any.

    Example:
        >>> result = wordelim.compress_model(
        ...     model, tokenizer, train=train, validation=validation, keep=(0.5,) * 6, retrain=False, max_drop=100
        ... )
        >>> result.met, result.retention.keep, sorted(result.report["validation"])[:2]
        (True, (0.5, 0.5, 0.5, 0.5, 0.5, 0.5), ['compressed', 'dense'])
    """

    model: PreTrainedModel
    retention: Retention
    met: bool
    report: Mapping[str, Any]
    output: Path | None = None


def told(settings: Settings) -> dict[str, Any]:
    """Settings for a report, without where a file stands."""
    return {**settings.to_dict(), "protect": bare_rules(settings.protect)}


def compress_model(
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    train: datasets.Dataset,
    validation: datasets.Dataset,
    test: datasets.Dataset | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    skip_bad_rows: bool = False,
    progress: Progress = lambda stage, share: None,
    **settings: Any,
) -> CompressionResult:
    """Compress a fine-tuned model, in place.

    Finds how many word vectors each layer may drop, makes the model drop them, retrains it to do without, and measures
    what was lost. The search and the retraining see ``train``; choices are made on ``validation``; ``test`` is only
    reported on.

    Args:
        model: a dense model of a known family. It is compressed when this returns, and dense with its old weights
            when this raises.
        tokenizer: its tokenizer; pads on the right.
        train, validation, test: texts with labels.
        text, text_pair, label, skip_bad_rows: as in :func:`compress`.
        progress: called as the work goes on.
        settings: fields of :class:`wordelim.Settings`.

    Raises:
        WordelimError: the model, the data or a setting can't be used.

    Example:
        >>> result = wordelim.compress_model(
        ...     model, tokenizer, train=train, validation=validation, keep=(0.5,) * 6, retrain=False, max_drop=100
        ... )
        >>> result.model is model, wordelim.retention_of(model) == result.retention
        (True, True)
    """
    sets = {"train": train, "validation": validation, **({} if test is None else {"test": test})}
    names = {"text": text, "text_pair": text_pair, "label": label}
    for name, data in sets.items():
        if not isinstance(data, datasets.Dataset):
            raise DataError(
                f"The {name} data is a {type(data).__name__}: give a datasets.Dataset, such as wordelim.data.read.read "
                "makes of a file, or call wordelim.compress."
            )
    if not isinstance(model, PreTrainedModel):
        raise UnsupportedModelError(f"The model is a {type(model).__name__}: give one of transformers.")
    given = Given(sets, names, {name: Skipped() for name in sets} if skip_bad_rows else {})
    return run(model, tokenizer, given, Settings(**settings), Journal(), progress)


def run(
    model: PreTrainedModel,
    tokenizer: Any,
    given: Given,
    settings: Settings,
    journal: Journal,
    progress: Progress,
    *,
    embedding: Embedding | None = None,
    companions: Mapping[str, bytes] = MappingProxyType({}),
) -> CompressionResult:
    """The same, kept in a journal on the way.

    Args:
        journal: bound to nothing yet.
        embedding: how a model without a head makes one; None for the pooling of the settings alone.
        companions: files beside the model that its answers depend on.
    """
    log, started = Log(), time.perf_counter()
    set_seed(settings.seed)
    unwrap_(model)
    stored, device = model.dtype, model.device
    ready = prepare(model, tokenizer, given, settings, embedding)
    if settings.learning_rate is None:
        every = ready.template.restore is True or embeds(type(model).__name__)
        settings = replace(settings, learning_rate=_RATE_OF_EVERY_TOKEN if every else _RATE)
    lengths = {name: part.lengths for name, part in ready.examples.items()}
    data = sources(ready)
    journal.bind(
        {
            **identity(model, tokenizer),
            **_circumstances(ready, settings, device, data),
            **({} if embedding is None else {"embedding": embedding.to_dict()}),
            "companions": {name: hashlib.sha256(content).hexdigest() for name, content in companions.items()},
        }
    )
    with _undone_on_failure(model):
        model.float()
        teacher = copy.deepcopy(model).eval().requires_grad_(False)
        fast = has_fast_bf16(device)
        token = _seconds_a_token(teacher, ready, fast)
        exact = _seconds_a_token(teacher, ready, False) / token if fast else 1.0
        expected = stages(settings, lengths, ready.cost.layers, ready.ranked, exact)
        expect(progress, expected, sum(expected.values()) * token)
        job = rank(Job(model, teacher, ready, settings, journal, progress), log)
        candidates, cost = find(job, log)
        choose(job, candidates, log)
        # What is measured from here on is what will be on the disk.
        move(model, stored).float()
        measured = verify(job, candidates, cost, log)
        report = from_main(lambda: measured)  # timings differ from process to process
        move(model, stored)
    report = {
        "wordelim_report": 1,
        **report,
        "data": {"columns": ready.columns.to_dict(), **data},
        "settings": told(settings),
        "seconds": {**log.seconds, "total": round(time.perf_counter() - started, 1)},
        "peak_memory_gib": peak_memory(device),
        **environment(device),
    }
    return CompressionResult(model, retention_of(model), bool(report["met"]), report)


def _seconds_a_token(model: PreTrainedModel, ready: Ready, bf16: bool) -> float:
    """What a token through the dense model takes, on a few training texts of like, middling length."""
    train = ready.examples["train"].dataset
    by_length = np.argsort(train["length"], kind="stable")
    few = train.select(by_length[max(0, len(train) - _TIMED) // 2 :][:_TIMED].tolist())
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        logits_of(model, few, ready.task, bf16=bf16)
        taken.append(time.perf_counter() - start)
    return min(taken) / sum(lengths_of(few))


def stages(
    settings: Settings, lengths: Mapping[str, Sequence[int]], layers: int, ranked: bool = True, exact: float = 1.0
) -> dict[str, float]:
    """What is to come, in its order, and what each stage takes, in tokens through the dense encoder.

    Args:
        lengths: tokens of every text, for ``train``, ``validation`` and perhaps ``test``.
        layers: of the encoder.
        ranked: whether linear maps may decide which word vectors stay.
        exact: what a token takes in fp32, in tokens in bf16 where that is faster.
    """
    return {
        **rank_stages(settings, lengths, ranked),
        **find_stages(settings, lengths, layers),
        **choose_stages(settings, lengths, exact),
        **verify_stages(settings, lengths, exact),
    }


def _circumstances(ready: Ready, settings: Settings, device: torch.device, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's result depends on beside model and tokenizer, as plain data."""
    return {
        "data": {name: part["fingerprint"] for name, part in data.items()},
        "columns": ready.columns.to_dict(),
        "settings": {**settings.to_dict(), "report_to": None},
        "code of the metric": digest_of_code(settings.metric),
        "protected": hashlib.sha256(" ".join(ready.template.protect).encode()).hexdigest(),
        "versions": environment(device)["versions"],
        "device": device.type,
        "processes": processes(),
    }


@contextmanager
def _undone_on_failure(model: PreTrainedModel) -> Iterator[None]:
    """Give back a dense model with its old weights where the work on it fails."""
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    stored, training = model.dtype, model.training
    try:
        yield
    except BaseException:
        if is_marked(model.config):
            restore_(model)
        move(model, stored).load_state_dict(before)
        model.train(training)
        raise
