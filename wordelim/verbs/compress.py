"""Compress the model in a directory, and write the result to another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ..checkpoint.directory import REPORT_FILE, save, write_report
from ..checkpoint.sentence_transformers import companions, embedding_of
from ..compression.journal import has_written, journal, refuse_foreign
from ..compression.prepare import Given, prepare
from ..compression.run import CompressionResult, run, told
from ..compression.settings import Settings
from ..data.read import Data, read
from ..data.usable import Skipped
from ..errors import CheckpointError, DataError, NotMetError
from ..report.card import model_card
from ..report.html import READABLE, readable
from ..system.files import write_whole
from ..system.machine import environment, move, open_device
from ..system.outputs import Inputs, refuse_existing, refuse_file, refuse_inputs
from ..system.printable import bare_name
from ..system.processes import is_main, join, wait
from ..system.progress import Progress
from .opened import open_model

__all__ = ["compress", "plan"]

_WORK = "wordelim-work"


def compress(
    model_dir: str | os.PathLike[str],
    *,
    train: Data,
    validation: Data,
    test: Data | None = None,
    output: str | os.PathLike[str] | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    skip_bad_rows: bool = False,
    device: str | torch.device | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress = lambda stage, share: None,
    **settings: Any,
) -> CompressionResult:
    """Compress the model in a directory (or on the hub) and write the result to another; see :func:`compress_model`.

    Args:
        model_dir: a fine-tuned model with its tokenizer.
        train, validation, test: paths (CSV, TSV, JSON lines, also .gz, Parquet), hub names, or data sets.
        output: where the compressed model goes, if its drop is within bounds; if it isn't, the report alone goes
            beside, to ``OUTPUT.wordelim_report.json`` and ``OUTPUT.report.html`` (``OUTPUT.report.md`` without plotly).
            None writes nothing.
        text, text_pair, label: names of the columns, where they aren't the usual ones; ``label`` may be several, of 0
            and 1 each, where a text may have several labels.
        delimiter, encoding: of data files, where they aren't the usual ones; see :func:`wordelim.data.read.read`.
        skip_bad_rows: leave out rows that can't be used, and list them in the report, instead of refusing them.
        device: where to compute; None for the accelerator that is there, else the processor.
        force: replace ``output`` when it is a model and nothing else, and forget what an unfinished run left. Whatever
            this run reads is never replaced.
        resume: go on with a run that was killed, of the same model, tokenizer, data and settings, from what it left in
            ``OUTPUT.wordelim-work``. The result is that of a run that wasn't.
        settings: fields of :class:`wordelim.Settings`.

    Raises:
        WordelimError: the model, the data or a setting can't be used, or training or an answer came to NaN. Nothing has
            been written then but, once there is something to go on from, ``OUTPUT.wordelim-work``.
        NotMetError: the speed-up asked for is out of reach; the report is written.

    Example:
        >>> result = wordelim.compress(
        ...     "my-bert", train="train.csv", validation="dev.csv", output="my-bert-half", keep=(0.5,) * 6, max_drop=100
        ... )
        >>> result.met, str(result.output)
        (True, 'my-bert-half')
    """
    chosen = Settings(**settings)
    place = open_device(device)
    join(cpu=place.type == "cpu")
    target = None if output is None else Path(output).expanduser()
    beside, folder = (target and _beside(target, ending) for ending in (REPORT_FILE, _WORK))

    def may_replace() -> bool:
        # Killed between the last two things that it does, a run leaves a model that is its own.
        return force or (resume and target is not None and folder is not None and has_written(folder, target))

    sources = {"train": train, "validation": validation, **({} if test is None else {"test": test})}
    inputs = _inputs(model_dir, sources, chosen)
    _refuse_output(output, inputs, force=may_replace())
    with journal(folder, resume=resume, force=force) as kept:
        replaceable = may_replace()  # now that no other run can change it
        model, tokenizer = _open(model_dir, output, inputs, force=replaceable)
        move(model, place)
        beside_model = companions(model_dir)
        embedding = embedding_of(beside_model, type(model).__name__, settings.get("pooling"))
        chosen = replace(chosen, pooling=embedding.pooling)
        names = {"text": text, "text_pair": text_pair, "label": label}
        given = _read(sources, names, delimiter, encoding, skip_bad_rows=skip_bad_rows)
        try:
            result = run(model, tokenizer, given, chosen, kept, progress, embedding=embedding, companions=beside_model)
        except NotMetError as error:
            if target is not None and is_main():
                unmet = {"met": False, "unmet": str(error), "best": error.best, "settings": told(chosen)}
                known = {"wordelim_report": 1, "model": bare_name(model_dir), **unmet, **environment(place)}
                _write_beside(target, known)
            wait()  # a launcher ends the others when the first one leaves
            raise
        report = {"model": bare_name(model_dir), **result.report}
        _name_sources(report["data"], sources)
        if target is not None and is_main():
            if result.met:
                card = model_card({**report, "model": str(model_dir)}, result.model)
                name, page = readable(report)
                save(
                    result.model,
                    tokenizer,
                    target,
                    report=report,
                    card=card,
                    companions={**beside_model, name: page.encode()},
                    force=replaceable,
                    scratch=folder,
                    inputs=inputs,
                    made=kept.begin_saving,
                )
            else:
                _write_beside(target, report)
        wait()
    return replace(result, report=report, output=target if result.met else beside)


def _beside(target: Path, ending: str) -> Path:
    named = target if target.name else target.absolute()
    if not named.name:
        raise CheckpointError(f"Output {str(target)!r} is the root of the disk: name another.")
    return named.with_name(f"{named.name}.{ending}")


def _write_beside(target: Path, report: Mapping[str, Any]) -> None:
    """Write the report of a run whose goal wasn't met, as data and to read."""
    write_report(report, _beside(target, REPORT_FILE))
    name, page = readable(report)
    write_whole(page, _beside(target, name))


def _read(
    sources: Mapping[str, Data | None],
    names: Mapping[str, Any],
    delimiter: str | None,
    encoding: str | None,
    *,
    skip_bad_rows: bool,
) -> Given:
    """The data of a compression, read."""
    skipped = {name: Skipped() for name in sources} if skip_bad_rows else {}
    sets = {}
    for name, source in sources.items():
        if source is None:
            raise DataError(f"There is no {name} data: give a file, a hub name or a data set.")
        sets[name] = read(source, delimiter=delimiter, encoding=encoding, skipped=skipped.get(name))
    return Given(sets, names, skipped)


def _name_sources(data: dict[str, Any], given: Mapping[str, Data | None]) -> None:
    """Note which file or hub data set each set is, without where a file stands."""
    for name, source in given.items():
        if isinstance(source, (str, os.PathLike)):
            data[name]["source"] = bare_name(source)


def plan(
    model_dir: str | os.PathLike[str],
    *,
    train: Data,
    validation: Data,
    test: Data | None = None,
    output: str | os.PathLike[str] | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    skip_bad_rows: bool = False,
    device: str | torch.device | None = None,
    force: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Check everything that :func:`compress` is given, and say what it would do; nothing is run or written.

    Raises:
        WordelimError: the model, the data or a setting can't be used.
    """
    chosen = Settings(**settings)
    place = open_device(device)
    sources = {"train": train, "validation": validation, **({} if test is None else {"test": test})}
    inputs = _inputs(model_dir, sources, chosen)
    model, tokenizer = _open(model_dir, output, inputs, force=force)
    embedding = embedding_of(companions(model_dir), type(model).__name__, settings.get("pooling"))
    names = {"text": text, "text_pair": text_pair, "label": label}
    given = _read(sources, names, delimiter, encoding, skip_bad_rows=skip_bad_rows)
    ready = prepare(model, tokenizer, given, chosen, embedding)
    left_out = {name: len(skipped) for name, skipped in given.skipped.items() if len(skipped)}
    return {
        "model": str(model_dir),
        "class": type(model).__name__,
        "layers": ready.cost.layers,
        "metric": ready.metric.name,
        "columns": ", ".join(ready.columns.used),
        **{
            name: f"{len(of.lengths)} texts, {np.mean(of.lengths):.0f} tokens on average, {of.encoded.truncated} cut"
            + (f", rows left out: {left_out[name]}" if name in left_out else "")
            for name, of in ready.examples.items()
        },
        "search": "none: keep is given"
        if chosen.keep is not None
        else f"{chosen.method}, on {min(chosen.search_examples, len(ready.examples['train'].rows))} texts",
        "retraining": f"{chosen.epochs:g} epochs" if chosen.retrain else "none",
        "device": str(place),
        "output": None if output is None else str(output),
    }


def _inputs(model_dir: str | os.PathLike[str], sets: Mapping[str, Data | None], settings: Settings) -> Inputs:
    """What a compression reads."""
    words = {f"file of --protect {rule}": rule.partition(":")[2] for rule in settings.protect if rule[:6] == "words:"}
    return {"model": model_dir, **{f"{name} data": source for name, source in sets.items()}, **words}


def _refuse_output(output: str | os.PathLike[str] | None, inputs: Inputs, *, force: bool) -> None:
    """Refuse an output where the result, the work on the way, or the report of an unmet goal couldn't be put."""
    if output is None:
        return
    target = Path(output).expanduser()
    refuse_existing(output, force=force, inputs=inputs)
    work = _beside(target, _WORK)
    refuse_inputs(work, inputs)
    refuse_foreign(work)
    for name in (REPORT_FILE, *READABLE):
        refuse_file(_beside(target, name), inputs)


def _open(
    model_dir: str | os.PathLike[str], output: str | os.PathLike[str] | None, inputs: Inputs, *, force: bool
) -> tuple[PreTrainedModel, Any]:
    """Load a model and its tokenizer, once it is sure that the result can be put where it should go."""
    _refuse_output(output, inputs, force=force)
    opened = open_model(model_dir, "dense")
    model, tokenizer = opened.model, opened.tokenizer
    if output is not None:
        above = next(parent for parent in Path(output).expanduser().absolute().parents if parent.exists())
        free, size = shutil.disk_usage(above).free, sum(t.numel() * t.element_size() for t in model.parameters())
        if free < size:
            raise CheckpointError(
                f"The disk of {str(output)!r} has {free / 1e6:.3g} MB left, but the model takes {size / 1e6:.3g} MB: "
                "make room, or name another output."
            )
    return model, tokenizer
