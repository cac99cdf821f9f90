"""Run an exported directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils.generic import ModelOutput

from ..checkpoint.loading import load_config
from ..data.encode import usable_positions
from ..errors import ExportError
from ..retention import Retention
from ..system.inputs import UnreadableError, read_json
from ..system.printable import first_line
from .formats import FORMATS, RETENTION_KEY, format_in

__all__ = ["EXPORT_FILE", "ExportedModel", "feed_of", "is_exported", "open_program"]

EXPORT_FILE = "wordelim_export.json"
"""The report beside an exported program."""

Run = Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]


def is_exported(directory: str | os.PathLike[str]) -> bool:
    """Whether a directory holds an exported program."""
    try:
        return format_in(Path(directory).expanduser()) is not None
    except (OSError, ValueError):  # no name that a file may have
        return False


class ExportedModel:
    """An exported directory that is called as its model was, on a CPU and for inference alone.

    Args:
        directory: what :func:`wordelim.export` wrote.
        threads: threads of the runtime; None for its own choice.

    Raises:
        ExportError: the directory holds no exported program, the program is damaged, or its runtime isn't installed or
            is too old for it.
        CheckpointError: its config is missing or damaged.
    """

    training = False
    device = torch.device("cpu")

    def __init__(self, directory: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.directory = Path(directory).expanduser()
        form = format_in(self.directory)
        program = None if form is None else form.find(self.directory)
        if form is None or program is None:
            names = " or ".join(known.program for known in FORMATS.values())
            raise ExportError(f"{directory} holds no exported program ({names}): make one with wordelim export.")
        form.require(form.runs)
        self.format = form.name
        self.config: Any = load_config(self.directory)
        opened = open_program(program, threads=threads)
        self.input_names, self.output_names, self._run, metadata = opened
        kept = metadata.get(RETENTION_KEY)
        self.retention = Retention.from_json(kept) if kept else None
        self._positions = usable_positions(self.config)

    @property
    def precision(self) -> str:
        """Of its weights, ``int8`` or ``float32``; ExportError where the report beside it is damaged."""
        report = self.directory / EXPORT_FILE
        try:
            int8 = report.exists() and read_json(report)["int8"]
        except (UnreadableError, KeyError, TypeError) as error:
            reason = error if isinstance(error, UnreadableError) else "doesn't say int8"
            raise ExportError(f"{report} {reason}: export the model again.") from error
        return "int8" if int8 else "float32"

    def eval(self) -> ExportedModel:
        """Itself: there is no other mode."""
        return self

    def train(self, mode: bool = True) -> ExportedModel:
        """Itself where ``mode`` is false; ExportError where it is true."""
        if mode:
            raise ExportError(f"{self.directory} is an exported program, which can't be trained: train the model.")
        return self

    def __call__(self, **inputs: Any) -> ModelOutput:
        """Logits of a batch, padded on the right.

        Args:
            inputs: tensors, arrays or lists by name, each [batch, tokens]. Names that the program doesn't have are left
                out; without an attention mask every token is real.

        Returns:
            What the model returns: ``logits``, or ``start_logits`` and ``end_logits``, as tensors.

        Raises:
            ExportError: an input is missing or longer than the model's positions, or a text is padded on the left.
        """
        feed = feed_of(inputs, self.input_names)
        tokens = feed["input_ids"].shape[1]
        if self._positions is not None and tokens > self._positions:
            raise ExportError(
                f"A batch of {tokens} tokens is longer than the {self._positions} that the model has positions "
                "for: cut the texts (truncation=True)."
            )
        if not feed["attention_mask"][:, 0].all():
            raise ExportError(
                "An example of the batch is padded on the left or is padding alone, but the head reads position 0: pad "
                "on the right (tokenizer.padding_side = 'right') and leave out empty examples."
            )
        outputs = self._run(feed)
        return ModelOutput(
            {name: torch.from_numpy(value) for name, value in zip(self.output_names, outputs, strict=True)}
        )


def feed_of(inputs: Mapping[str, Any], names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """A batch as a program takes it; the mask and the token types may be missing.

    Raises:
        ExportError: another input is missing.
    """
    ids = inputs.get("input_ids")
    if ids is None:
        raise ExportError("The input input_ids is missing.")
    shape = np.shape(ids)
    usual = {"attention_mask": np.ones(shape, np.int64), "token_type_ids": np.zeros(shape, np.int64)}
    found = {name: usual.get(name) if inputs.get(name) is None else inputs[name] for name in names}
    missing = next((name for name, values in found.items() if values is None), None)
    if missing is not None:
        raise ExportError(f"The input {missing} is missing.")
    return {name: np.ascontiguousarray(np.asarray(values, dtype=np.int64)) for name, values in found.items()}


def open_program(
    path: Path, *, outputs: Sequence[str] = (), threads: int | None = None
) -> tuple[list[str], list[str], Run, dict[str, str]]:
    """Open a program file.

    Args:
        outputs: values inside the program to give out too, behind its own outputs.
        threads: threads of the runtime; None for its own choice.

    Returns:
        Names of its inputs, names of its outputs, what runs it, and its metadata.

    Raises:
        ExportError: the file is damaged, or the runtime is too old for it.
    """
    try:
        return (_open_onnx if path.suffix == ".onnx" else _open_openvino)(path, outputs, threads)
    except ExportError:
        raise
    except Exception as error:  # runtimes raise errors of many classes, without a common base
        reason = first_line(error)
        raise ExportError(
            f"{path} can't be opened ({reason}): export it again, with a lower opset if the runtime is too old for it."
        ) from error


def _open_onnx(
    path: Path, outputs: Sequence[str], threads: int | None
) -> tuple[list[str], list[str], Run, dict[str, str]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that go on spinning when a program is done would slow down whatever is run next, and falsify its time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    given, made = path, None
    if outputs:
        import onnx

        program = onnx.load(path, load_external_data=False)
        program.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
        given = made = path.with_name(f"outputs.{path.name}")
        onnx.save(program, given)
    try:
        session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    finally:
        if made is not None:
            made.unlink()
    names = [value.name for value in session.get_outputs()]
    return (
        [value.name for value in session.get_inputs()],
        names,
        lambda feed: session.run(names, dict(feed)),
        dict(session.get_modelmeta().custom_metadata_map),
    )


def _open_openvino(
    path: Path, outputs: Sequence[str], threads: int | None
) -> tuple[list[str], list[str], Run, dict[str, str]]:
    import openvino

    core = openvino.Core()
    program = core.read_model(path)
    if outputs:
        program.add_outputs(list(outputs))
    # Left to itself the processor's plugin may choose bfloat16.
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(program, "CPU", options)
    request = compiled.create_infer_request()
    names = [value.get_any_name() for value in compiled.outputs]

    def run(feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        results = request.infer(dict(feed))
        return [np.array(results[value]) for value in compiled.outputs]

    metadata = {}
    if program.has_rt_info([RETENTION_KEY]):
        metadata[RETENTION_KEY] = str(program.get_rt_info([RETENTION_KEY]).value)
    return [value.get_any_name() for value in compiled.inputs], names, run, metadata
