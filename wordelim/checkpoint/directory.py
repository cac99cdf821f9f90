"""Save and load model directories."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.quantizers.auto import AutoQuantizationConfig

from ..errors import CheckpointError, WordelimError
from ..graph.speeds import set_speed_
from ..graph.support import is_marked
from ..retention import QUANT_METHOD
from ..system.disk import unwritable
from ..system.files import parents, write_whole
from ..system.outputs import Inputs, refuse_existing
from ..system.printable import json_text
from .layout import refuse_without_weights
from .loading import existing, hub_config, is_there, load_model, read_config

__all__ = [
    "REPORT_FILE",
    "is_compressed",
    "load",
    "load_dense",
    "require_compressed",
    "save",
    "staged",
    "write_files",
    "write_report",
]

REPORT_FILE = "wordelim_report.json"


def load(
    directory: str | os.PathLike[str], *, dtype: torch.dtype | str = "auto", speed: float | None = None
) -> PreTrainedModel:
    """Load a compressed model, as ``from_pretrained`` of its own class does, and refuse anything else.

    Args:
        directory: where it is, or its hub name.
        speed: one of those that the model was compressed for; None for the one that its config names.

    Raises:
        CheckpointError: the directory is missing or damaged, or its model isn't compressed.
        RetentionError: its retention is damaged, or doesn't fit the model's layers, or it has no such speed.
        UnsupportedModelError: its model isn't supported.

    Example:
        >>> model = wordelim.load("my-bert-fast")
        >>> type(model).__name__, wordelim.retention_of(model).kind
        ('BertForSequenceClassification', 'fraction')
    """
    source, config = _read(directory)
    _refuse_dense(directory, config)
    model = load_model(source, config, dtype)
    return model if speed is None else set_speed_(model, speed)


def load_dense(name: str | os.PathLike[str], *, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """Load a model that is still to be compressed from a directory or by its hub name.

    Raises:
        CheckpointError: the directory is missing or damaged, or its model is compressed already.
        UnsupportedModelError: the model names no class of transformers.
    """
    source, config = _read(name)
    if _names_wordelim(config):
        raise CheckpointError(f"{name} is compressed already: give the dense model that it was made from.")
    return load_model(source, config, dtype)


def require_compressed(directory: str | os.PathLike[str]) -> Mapping[str, Any]:
    """What the config of a directory says; refuse what :func:`load` refuses, as far as it shows without the weights.

    Raises:
        CheckpointError, RetentionError: as there.
    """
    _, config = _read(directory)
    _refuse_dense(directory, config)
    AutoQuantizationConfig.from_dict(config["quantization_config"])
    return config


def _refuse_dense(directory: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
    if not _names_wordelim(config):
        raise CheckpointError(
            f"{directory} holds no compressed model (its config.json has no quantization_config of wordelim): "
            "load it with from_pretrained, or compress it first."
        )


def is_compressed(name: str | os.PathLike[str]) -> bool:
    """Whether the config.json of a directory or hub name says that its model is compressed.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    return _names_wordelim(hub_config(str(name)) if _is_on_hub(name) else read_config(existing(name)))


def _read(name: str | os.PathLike[str]) -> tuple[str, Mapping[str, Any]]:
    """What transformers is to load a model from, and its config; CheckpointError where that can't be."""
    if _is_on_hub(name):
        return str(name), hub_config(str(name))
    directory = existing(name)
    config = read_config(directory)
    refuse_without_weights(directory)
    return str(directory), config


def _is_on_hub(name: str | os.PathLike[str]) -> bool:
    text = str(name)
    return not (text.startswith((".", "/", "~")) or text.count("/") > 1 or is_there(Path(name)))


def _names_wordelim(config: Mapping[str, Any]) -> bool:
    entry = config.get("quantization_config")
    return isinstance(entry, dict) and entry.get("quant_method") == QUANT_METHOD


@contextmanager
def staged(
    output: str | os.PathLike[str], *, force: bool = False, scratch: Path | None = None, inputs: Inputs | None = None
) -> Iterator[Path]:
    """A new directory that becomes ``output`` when the block ends well, and is gone when it doesn't.

    Args:
        force, inputs: see :func:`wordelim.system.outputs.refuse_existing`, asked before the block and after it.
        scratch: an existing directory on the same disk where it is made; None makes one beside ``output``.

    Raises:
        CheckpointError: ``output`` may not be written, or the disk refuses the files.
    """
    target = Path(output).expanduser()
    refuse_existing(target, force=force, inputs=inputs)
    try:
        hidden = partial(tempfile.TemporaryDirectory, prefix=".wordelim-", ignore_cleanup_errors=True)
        with parents(target), hidden(dir=scratch or target.parent) as made:
            stage, old = Path(made, "new"), Path(made, "old")
            stage.mkdir()
            yield stage
            # safetensors writes files that only their owner may read; who may list the directory may read these too.
            for path in filter(Path.is_file, stage.rglob("*")):
                path.chmod(stage.stat().st_mode & 0o666)
            refuse_existing(target, force=force, inputs=inputs)
            replaced = os.path.lexists(target)
            if replaced:
                target.rename(old)
            try:
                stage.rename(target)
            except BaseException:
                if replaced:
                    old.rename(target)
                raise
    except WordelimError:
        raise
    except (OSError, SafetensorError) as error:
        raise unwritable(target, error, left=" and nothing was left there") from error


def save(
    model: PreTrainedModel,
    tokenizer: Any,
    output: str | os.PathLike[str],
    *,
    report: Mapping[str, Any] | None = None,
    card: str | None = None,
    companions: Mapping[str, bytes] | None = None,
    force: bool = False,
    scratch: Path | None = None,
    inputs: Inputs | None = None,
    made: Callable[[Path], object] = lambda directory: None,
) -> Path:
    """Write a compressed model with its tokenizer, whole or not at all.

    Args:
        report: written beside it as ``wordelim_report.json``.
        card: written beside it as ``README.md``.
        companions: more files, by their path in the directory.
        force: replace ``output`` when it exists and is a model.
        scratch, inputs: see :func:`staged`.
        made: called with the finished directory before it becomes ``output``.

    Raises:
        CheckpointError: ``output`` may not be written, the model isn't compressed, or the disk refuses.
    """
    if not is_marked(model.config):
        raise CheckpointError(f"{type(model).__name__} isn't compressed: call wordelim.eliminate_ before saving it.")
    with staged(output, force=force, scratch=scratch, inputs=inputs) as stage:
        model.save_pretrained(stage, safe_serialization=True)
        tokenizer.save_pretrained(stage)
        write_files(companions or {}, stage)
        if report is not None:
            (stage / REPORT_FILE).write_text(json_text(report) + "\n", encoding="utf-8")
        if card is not None:
            (stage / "README.md").write_text(card, encoding="utf-8")
        made(stage)
    return Path(output).expanduser()


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files by their paths in a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write_report(report: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write a report as JSON, whole or not at all, replacing an older one.

    Raises:
        CheckpointError: the disk refuses.
    """
    return write_whole(json_text(report) + "\n", path)
