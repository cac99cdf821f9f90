"""How the files of an exported program are laid out for servers that run programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.encode import length_limit
from ..errors import ExportError
from ..tasks.embedding import Embedding, embeds
from .formats import FORMATS, VERSION

__all__ = ["LAYOUTS", "Exported", "Layout", "layout_named"]

# By the numbers that ONNX has for them.
_TYPES = {7: "TYPE_INT64", 1: "TYPE_FP32"}
# Texts that Triton puts together, and microseconds for which it waits for more.
_MOST, _DELAY = 32, 1000


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Args:
        head: the name of the model's class.
        config: its transformers configuration.
        embedding: how an embedding is made, where it has no head.
    """

    head: str
    config: Any
    tokenizer: Any
    embedding: Embedding


@dataclass(frozen=True)
class Layout:
    """A way to lay the files out.

    Args:
        name: as it is given to :func:`wordelim.export`.
        refuse: raises ExportError for a model that the server can't serve.
        arrange: changes a directory that holds an ONNX program, config and tokenizer, in place.
    """

    name: str
    refuse: Callable[[Exported], None]
    arrange: Callable[[Path, Exported], None]


def layout_named(name: str, form: str) -> Layout:
    """The layout of this name; ExportError when there is none, or not for programs of this format."""
    if name not in LAYOUTS:
        raise ExportError(f"Layout {name!r} is unknown: use {' or '.join(LAYOUTS)}.")
    if form != "onnx":
        raise ExportError(f"The layout {name!r} is of ONNX programs, not of {form}: use the format onnx.")
    return LAYOUTS[name]


# --- Text Embeddings Inference -------------------------------------------------------------------------------------


def _refuse_for_tei(exported: Exported) -> None:
    name = exported.head
    if not (name.endswith("ForSequenceClassification") or embeds(name)):
        raise ExportError(f"{name} isn't served by TEI, which serves classifiers, rerankers and embedding models.")
    if not exported.tokenizer.is_fast:
        raise ExportError("TEI reads tokenizer.json, which this tokenizer has none of: use its fast version.")
    layers = [type(layer).__name__.strip("_") for layer in exported.embedding.layers]
    if embeds(name) and set(layers) - {"Normalize"}:
        raise ExportError(
            f"Behind its pooling this model has {', '.join(layers)}, which TEI doesn't apply to programs: serve it "
            "with vLLM or Ray Serve."
        )


def _for_tei(stage: Path, exported: Exported) -> None:
    """Say in config.json all that TEI reads there, though transformers leaves out what is usual or has another name."""
    config = exported.config
    said = {
        "architectures": [exported.head],
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "pad_token_id": config.pad_token_id or 0,
    }
    if not embeds(exported.head):
        said |= {"id2label": {str(i): name for i, name in config.id2label.items()}, "label2id": config.label2id}
    _write(stage / "config.json", json.loads((stage / "config.json").read_text(encoding="utf-8")) | said)
    if embeds(exported.head):
        mean = exported.embedding.pooling == "mean"
        modes = {"cls_token": not mean, "mean_tokens": mean, "max_tokens": False, "mean_sqrt_len_tokens": False}
        flags = {f"pooling_mode_{mode}": on for mode, on in modes.items()}
        _write(stage / "1_Pooling" / "config.json", {"word_embedding_dimension": config.hidden_size, **flags})
        limit = exported.embedding.max_length or length_limit(exported.tokenizer, config, None, pair=False)
        _write(stage / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})


# --- Triton --------------------------------------------------------------------------------------------------------


def _for_triton(stage: Path, exported: Exported) -> None:
    """Make the directory a model of Triton's repository, with its program as version 1."""
    program = FORMATS["onnx"].program
    import onnx

    (stage / VERSION).mkdir()
    for path in stage.glob(f"{program}*"):
        path.rename(stage / VERSION / path.name)
    graph = onnx.load(stage / VERSION / program, load_external_data=False).graph
    labels = ""
    if exported.head.endswith("ForSequenceClassification"):
        named = exported.config.id2label
        lines = [" ".join(str(named[number]).split()) for number in sorted(named)]
        (stage / "labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        labels = ' label_filename: "labels.txt"'
    said = [
        'backend: "onnxruntime"',
        f"max_batch_size: {_MOST}",
        *(f"input [ {{ {_tensor(value)} }} ]" for value in graph.input),
        *(f"output [ {{ {_tensor(value)}{labels} }} ]" for value in graph.output),
        f"dynamic_batching {{ max_queue_delay_microseconds: {_DELAY} }}",
    ]
    (stage / "config.pbtxt").write_text("\n".join(said) + "\n", encoding="utf-8")


def _tensor(value: Any) -> str:
    """A tensor in config.pbtxt, without its first dimension: the batch, which Triton adds."""
    kind = value.type.tensor_type
    dims = ", ".join(str(size.dim_value or -1) for size in kind.shape.dim[1:])
    return f"name: {json.dumps(value.name)} data_type: {_TYPES[kind.elem_type]} dims: [ {dims} ]"


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("tei", _refuse_for_tei, _for_tei),
        Layout("triton", lambda exported: None, _for_triton),
    )
}
"""Every layout, by name."""
