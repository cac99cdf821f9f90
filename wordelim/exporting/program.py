"""Write a model as a program of a runtime."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ExportError
from ..system.printable import first_line
from .formats import FORMATS, Format

__all__ = ["KEPT", "OPSET", "quantize_onnx", "write_program"]

OPSET = 20
"""ONNX operator set unless another is asked for: the oldest that has Gelu."""
KEPT = "kept_{layer}"
"""Name of the value in an exported program that holds which rows leave a layer, [batch, kept]."""

# What fits into one file of ONNX, which is a protocol buffer, with room for the graph.
_ONE_FILE = 1_900_000_000


def write_program(
    model: PreTrainedModel,
    sample: Mapping[str, Tensor],
    directory: Path,
    form: Format,
    *,
    int8: bool = False,
    calibration: Sequence[Mapping[str, Tensor]] = (),
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Export a model, dense or compressed, with dynamic batch and length.

    Both formats are made from one ONNX program, so that they mean the same; for ONNX Runtime it is fused further.

    Args:
        sample: inputs by name, [batch, tokens], at least two texts; which inputs the program has is read from it.
        directory: where the program's files go; must exist.
        int8: quantize the weights: for ONNX Runtime with activations quantized as they come, for OpenVINO with
            activations in the ranges that ``calibration`` shows, or alone where there is none.
        calibration: inputs by name, each [1, tokens]: texts such as the program will answer.
        opset: ONNX operator set.
        metadata: entries of the program's own metadata.

    Raises:
        ExportError: the model can't be exported, or not with this operator set.
    """
    import onnx_ir

    onnx_path = directory / FORMATS["onnx"].program
    program = _traced(model, sample, opset)
    if form.name == "onnx":
        from onnxscript.rewriter.ort_fusions import optimize_for_ort

        program, _ = optimize_for_ort(program)
    program.metadata_props.update(metadata or {})
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    onnx_ir.save(program, onnx_path, external_data=f"{onnx_path.name}.data" if size > _ONE_FILE else None)
    if form.name == "onnx":
        if int8:
            quantize_onnx(onnx_path)
        return
    _write_openvino(onnx_path, directory / form.program, int8, calibration, metadata or {})
    for path in directory.glob(f"{onnx_path.name}*"):
        path.unlink()


def _traced(model: PreTrainedModel, sample: Mapping[str, Tensor], opset: int) -> Any:
    """A model as an ``onnx_ir.Model``."""
    import onnx_ir
    from torch.export import Dim
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    dynamic = {name: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for name in sample}
    training, named = model.training, model.config.return_dict
    model.eval()
    model.config.return_dict = True  # the program's outputs have names
    try:
        with _quiet(), torch.no_grad():
            config = OnnxConfig(dynamic_shapes=dynamic, opset_version=opset)
            program: Any = OnnxExporter().export(model, dict(sample), config).program
    except Exception as error:  # exporters raise errors of many classes, without a common base
        reason = first_line(error)
        raise ExportError(f"{type(model).__name__} can't be exported to ONNX opset {opset} ({reason}).") from error
    finally:
        model.train(training)
        model.config.return_dict = named
    made = program.opset_imports[""]
    if made != opset:
        raise ExportError(f"This model can't be exported to ONNX opset {opset}: use {made}.")
    for value in program.graph.inputs:
        value.shape = onnx_ir.Shape(["batch", "tokens"])
    _name_kept_rows(program)
    return program


def _name_kept_rows(program: Any) -> None:
    """Give the rows that leave each eliminating layer a name: they come out of its ascending sort."""
    for node in program.graph:
        scope = re.search(r"extract_(\d+)'", node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
        if scope and node.op_type == "TopK" and not node.attributes["largest"].as_int():
            node.outputs[0].name = KEPT.format(layer=scope[1])


def quantize_onnx(path: Path) -> None:
    """Quantize a program of ONNX to int8, in its own file: weights now, activations as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    program = onnx.load(path)
    # Shapes are inferred anew; those of the exporter name weights that the quantizer replaces.
    del program.graph.value_info[:]
    # What the map of a layer's significance is multiplied with has one dimension, which ONNX Runtime can't quantize.
    vectors = {tensor.name for tensor in program.graph.initializer if len(tensor.dims) < 2}
    exact = [node.name for node in program.graph.node if node.op_type == "MatMul" and vectors & set(node.input)]
    large = path.with_name(f"{path.name}.data").exists()
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with _quiet():
        quantize_dynamic(
            program,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=exact,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Seven bits: on processors without VNNI the sum of two products of eight overflows.
            reduce_range=True,
            use_external_data_format=large,
            # Nobody infers types behind operators that ONNX Runtime alone has.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def _write_openvino(
    onnx_path: Path,
    path: Path,
    int8: bool,
    calibration: Sequence[Mapping[str, Tensor]],
    metadata: Mapping[str, str],
) -> None:
    import openvino

    program = openvino.convert_model(onnx_path)
    if int8:
        import nncf

        names = [value.get_any_name() for value in program.inputs]
        feeds = [{name: text[name].numpy() for name in names} for text in calibration]
        with _quiet():
            if feeds:
                encoder, count = nncf.ModelType.TRANSFORMER, len(feeds)
                program = nncf.quantize(program, nncf.Dataset(feeds), model_type=encoder, subset_size=count)
            else:
                program = nncf.compress_weights(program)
    for name, value in metadata.items():
        program.set_rt_info(value, [name])
    openvino.save_model(program, path, compress_to_fp16=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep exporters and quantizers from printing their progress and their own warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
