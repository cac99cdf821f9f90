"""Export a model to a runtime that serves it without PyTorch."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from wordelim.adapters.family import chooses

from ..checkpoint.directory import staged, write_files
from ..data.columns import find_columns
from ..data.read import Data, read
from ..data.usable import Skipped
from ..errors import ExportError
from ..evaluation.examples import check_tokenizer, examples_of
from ..evaluation.inference import batches
from ..evaluation.timing import forward_of, interleave
from ..exporting.formats import RETENTION_KEY, Format, format_named
from ..exporting.layouts import Exported, layout_named
from ..exporting.parity import compare, require_numbers
from ..exporting.program import OPSET, write_program
from ..exporting.runtime import EXPORT_FILE, ExportedModel
from ..graph.splice import restore_
from ..graph.support import require_fields
from ..system.machine import environment
from ..system.outputs import refuse_existing
from ..system.printable import bare_name, json_text
from ..system.progress import Progress, expect
from ..tasks import Task
from ..tasks.tagging import has_words
from .opened import Opened, open_model

__all__ = ["export"]

_OPSETS = range(18, 24)
# Texts that go through model and program, and that show the ranges of what is quantized.
_SAMPLE, _CALIBRATION = 16, 128
_ROUNDS = 5
_TEXTS = (
    "It works.",
    "A short sentence says little, and there is little in it to leave out.",
    "The second half of the film is better than the first, though not by much, and the ending is worth the wait.",
    "Not good.",
    "We ordered two of them in May; one came broken, the other never came, and nobody answered our letters until we "
    "wrote that we would go to court. Then the money was back within three days, with an apology that we did not ask "
    "for and a voucher that we will not use. I can't recommend this shop to anybody who needs what he pays for.",
    "Is the protein expressed in the liver, and if so, does its level change with age?",
    "The committee met on Tuesday to discuss the budget for the coming year, and after four hours it agreed to meet "
    "again on Thursday.",
    "Three men in a boat, to say nothing of the dog.",
)


def export(
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    format: str = "onnx",
    int8: bool = False,
    layout: str | None = None,
    data: Data | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    skip_bad_rows: bool = False,
    max_length: int | None = None,
    opset: int = OPSET,
    speed: float | None = None,
    measure: bool = False,
    threads: int | None = None,
    force: bool = False,
    progress: Progress = lambda stage, share: None,
) -> dict[str, Any]:
    """Export a model directory to ONNX Runtime or OpenVINO, and prove that it answers as before.

    The program takes any batch and length; its inputs are ``input_ids``, ``attention_mask`` and, where the model has
    them, ``token_type_ids``, its outputs ``logits`` (or ``start_logits`` and ``end_logits``). Config and tokenizer are
    written beside it. A model that isn't compressed is exported dense.

    Args:
        model_dir: a compressed directory, or a dense one or its hub name.
        output: directory to write, whole or not at all.
        format: ``onnx`` or ``openvino``.
        int8: quantize to eight bits: the weights, in ONNX Runtime also what they are multiplied with. In OpenVINO that
            takes 128 texts of ``data``, which show its ranges.
        layout: lay the files out as a server reads them: ``tei`` or ``triton``.
        data: texts that go through model and program, of which the first 16 are taken; built-in ones where None.
        text, text_pair: names of the columns, where they aren't the usual ones.
        delimiter, encoding: of a data file, where they aren't the usual ones; see :func:`wordelim.data.read.read`.
        skip_bad_rows: leave out rows that can't be used, and list them in the report, instead of refusing them.
        max_length: cut the texts at this many tokens.
        opset: ONNX operator set, 18 to 23.
        speed: one of those that the model was compressed for; None for the one that its config names.
        measure: time it against the dense model exported in the same way, which takes as long again.
        threads: threads of the runtime while it is timed; None for its own choice.
        force: replace ``output`` when it is a model and nothing else, and none of what is read here.

    Returns:
        The report that is written beside the program, as plain data.

    Raises:
        AnswersError: the model answers with NaN or infinity.
        ExportError: a package is missing, the model can't be exported, or the program answers otherwise.
        WordelimError: the model, the data or the output can't be used.

    Example:
        >>> report = wordelim.export("my-bert-fast", "my-bert-onnx", format="onnx", data="dev.csv")
        >>> report["format"]
        'onnx'
    """
    form = format_named(format)
    laid_out = None if layout is None else layout_named(layout, form.name)
    form.require((*form.makes, *(form.quantizes if int8 else ())))
    if opset not in _OPSETS:
        raise ExportError(f"ONNX opset {opset} isn't served: use {_OPSETS.start} to {_OPSETS.stop - 1}.")
    inputs = {"model": model_dir, "data": data}
    refuse_existing(output, force=force, inputs=inputs)
    stages = {"load": 1.0, "export": 4.0, "compare with the model": 2.0}
    expect(progress, stages | ({"measure the speed": 8.0} if measure else {}))
    progress("load", 0.0)
    opened = open_model(model_dir, "dense", "compressed", dtype=torch.float32, speed=speed)
    model, retention, beside_model = opened.model, opened.retention, opened.companions
    _require_exportable(model_dir, opened)
    if laid_out is not None:
        exported = Exported(opened.head, opened.config, opened.tokenizer, opened.embedding)
        laid_out.refuse(exported)
    skipped = Skipped() if skip_bad_rows else None
    own = None if data is None else read(data, delimiter=delimiter, encoding=encoding, skipped=skipped)
    calibrated = _CALIBRATION if int8 and own is not None and form.name == "openvino" else 0
    texts, padded, calibration = _sample(opened, own, text, text_pair, max_length, skipped, calibrated)
    require_numbers(model, padded)
    metadata = {} if retention is None else {RETENTION_KEY: retention.to_json()}
    with staged(output, force=force, inputs=inputs) as stage:
        progress("export", 0.0)
        how: dict[str, Any] = {"calibration": calibration, "opset": opset}
        write_program(model, padded[0], stage, form, int8=int8, metadata=metadata, **how)
        model.config.save_pretrained(stage)
        opened.tokenizer.save_pretrained(stage)
        write_files(beside_model, stage)
        progress("compare with the model", 0.0)
        parity = compare(model, stage, texts, padded)
        parity.require(int8=int8)
        report = {
            "wordelim_export": 1,
            "model": bare_name(model_dir),
            "class": opened.head,
            "format": form.name,
            "int8": int8,
            **({"calibration": len(calibration)} if calibration else {}),
            **({} if layout is None else {"layout": layout}),
            "opset": opset,
            "retention": None if retention is None else retention.told(),
            "megabytes": round(sum(path.stat().st_size for path in stage.glob("*model*.*")) / 1e6, 1),
            "parity": asdict(parity),
            **({} if skipped is None else skipped.to_dict()),
            **_environment(form),
        }
        if measure and retention is not None:
            progress("measure the speed", 0.0)
            report["speed"] = _speed(model, stage, form, texts, padded, how, int8=int8, threads=threads)
        if laid_out is not None:
            laid_out.arrange(stage, exported)
        (stage / EXPORT_FILE).write_text(json_text(report) + "\n", encoding="utf-8")
    progress("measure the speed" if "speed" in report else "compare with the model", 1.0)
    return report


def _require_exportable(model_dir: str | os.PathLike[str], opened: Opened) -> None:
    require_fields(opened.model)
    if chooses(opened.model):
        raise ExportError(f"{model_dir} holds a {opened.head}: programs for choices aren't served yet.")
    check_tokenizer(opened.tokenizer)
    if opened.retention is not None and opened.retention.protects_by_token:
        raise ExportError(
            f"{model_dir} protects tokens, so that the text decides how many are left, which no program can: compress "
            "it without --protect, or with --protect first:N."
        )


def _sample(
    opened: Opened,
    data: datasets.Dataset | None,
    text: str | None,
    text_pair: str | None,
    max_length: int | None,
    skipped: Skipped | None,
    calibrated: int,
) -> tuple[list[Mapping[str, Tensor]], list[Mapping[str, Tensor]], list[Mapping[str, Tensor]]]:
    """Texts one by one, the same in padded batches, and so many to calibrate with, if there are."""
    tokenizer = opened.tokenizer
    reading: dict[str, Any] = {"max_length": max_length, "skipped": skipped}
    given = datasets.Dataset.from_dict({"text": list(_TEXTS)}) if data is None else data
    needed = max(_SAMPLE, calibrated)
    if skipped is None:  # else so many are left only once the others are out
        given = given.select(range(min(len(given), needed)))
    if opened.head.endswith("ForTokenClassification") and has_words(given, text):
        encoded = opened.pose(given, {"text": text}, need_label=False, **reading).sequences
    else:
        columns = find_columns(given, text=text, text_pair=text_pair, need_label=False)
        columns = type(columns)(columns.text, columns.text_pair)  # labels have no part in this
        encoded = examples_of(Task(opened.config, tokenizer), given, columns, model=opened.model, **reading).dataset
    order = list(range(min(len(encoded), needed)))
    alone: list[Mapping[str, Tensor]] = list(batches(encoded, tokenizer, order, 1))
    padded: list[Mapping[str, Tensor]] = list(batches(encoded, tokenizer, order[:_SAMPLE] * 2, 8))
    return alone[:_SAMPLE], padded, alone[:calibrated] if len(alone) >= calibrated else []


def _environment(form: Format) -> dict[str, Any]:
    found = environment("cpu")
    names = dict.fromkeys((*form.makes, *form.runs))
    return {**found, "versions": {**found["versions"], **{name: version(name) for name in names}}}


def _speed(
    model: PreTrainedModel,
    directory: Path,
    form: Format,
    texts: Sequence[Mapping[str, Tensor]],
    padded: Sequence[Mapping[str, Tensor]],
    how: Mapping[str, Any],
    *,
    int8: bool,
    threads: int | None,
) -> dict[str, Any]:
    """How many times faster than the dense model, exported in the same way, in the same runtime; interleaved."""
    dense = restore_(copy.deepcopy(model))
    with tempfile.TemporaryDirectory() as scratch:
        programs = {"compressed": ExportedModel(directory, threads=threads)}
        for precision in ("fp32", "int8") if int8 else ("fp32",):
            place = Path(scratch) / precision
            place.mkdir()
            write_program(dense, padded[0], place, form, int8=precision == "int8", **how)
            dense.config.save_pretrained(place)
            programs[precision] = ExportedModel(place, threads=threads)
        result: dict[str, Any] = {"rounds": _ROUNDS, "threads": threads}
        for part, given in (("latency", texts), ("batches_of_8", padded)):
            seconds = interleave({name: (forward_of(run), given) for name, run in programs.items()}, _ROUNDS)
            totals = {name: of.sum(1) for name, of in seconds.items()}
            result[part] = {
                f"over_dense_{name}": round(float(np.median(totals[name] / totals["compressed"])), 3)
                for name in programs
                if name != "compressed"
            }
    return result
