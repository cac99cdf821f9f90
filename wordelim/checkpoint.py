"""Save and load model directories."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel

from .errors import CheckpointError, RetentionError, UnsupportedModelError, WordelimError
from .files import parents, unwritable, write_whole
from .graph.model import is_marked
from .outputs import Inputs, refuse_existing
from .retention import QUANT_METHOD
from .speeds import set_speed_

__all__ = [
    "REPORT_FILE",
    "is_compressed",
    "load",
    "load_dense",
    "save",
    "staged",
    "write_report",
]

REPORT_FILE = "wordelim_report.json"


def load(
    directory: str | os.PathLike[str], *, dtype: torch.dtype | str = "auto", speed: float | None = None
) -> PreTrainedModel:
    """Load a compressed model, as ``from_pretrained`` of its own class does, and refuse anything else.

    Args:
        speed: one of those that the model was compressed for; None for the one that its config names.

    Raises:
        CheckpointError: the directory is missing or damaged, or its model isn't compressed.
        RetentionError: its retention is damaged, or doesn't fit the model's layers, or it has no such speed.
        UnsupportedModelError: its model isn't supported.
    """
    directory = _existing(directory)
    config = _read_config(directory)
    if not _names_wordelim(config):
        raise CheckpointError(
            f"{directory} holds no compressed model (its config.json has no quantization_config of wordelim): "
            "load it with from_pretrained, or compress it first."
        )
    model = _load(str(directory), config.get("architectures"), dtype)
    return model if speed is None else set_speed_(model, speed)


def load_dense(name: str | os.PathLike[str], *, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """Load a model that is still to be compressed from a directory or by its hub name.

    Raises:
        CheckpointError: the directory is missing or damaged, or its model is compressed already.
        UnsupportedModelError: the model names no class of transformers.
    """
    if Path(name).exists() or str(name).startswith((".", "/", "~")) or str(name).count("/") > 1:
        directory = _existing(name)
        config: Mapping[str, Any] = _read_config(directory)
        source = str(directory)
    else:
        source = str(name)
        config = _hub_config(source)
    if _names_wordelim(config):
        raise CheckpointError(f"{name} is compressed already: give the dense model that it was made from.")
    return _load(source, config.get("architectures"), dtype)


def is_compressed(directory: str | os.PathLike[str]) -> bool:
    """Whether a directory's config.json says that its model is compressed; CheckpointError when it has none."""
    return _names_wordelim(_read_config(_existing(directory)))


def _names_wordelim(config: Mapping[str, Any]) -> bool:
    entry = config.get("quantization_config")
    return isinstance(entry, dict) and entry.get("quant_method") == QUANT_METHOD


def _existing(directory: str | os.PathLike[str]) -> Path:
    path = Path(directory).expanduser()
    if not path.exists():
        raise CheckpointError(f"Model directory {str(directory)!r} doesn't exist.")
    if not path.is_dir():
        raise CheckpointError(f"{str(directory)!r} is a file: give the directory that holds config.json and weights.")
    return path


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{directory} has no config.json: it isn't a model directory.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} can't be read: {error}.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is damaged: it holds no JSON object.")
    return config


def _hub_config(name: str) -> dict[str, Any]:
    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        reason = _first_line(error).rstrip(".")
        raise CheckpointError(
            f"Model {name!r} is no directory here, and the hub doesn't give it ({reason}): check the path or the name."
        ) from error
    return dict(config)


def _load(source: str, architectures: Any, dtype: torch.dtype | str) -> PreTrainedModel:
    if not (isinstance(architectures, list) and architectures and isinstance(architectures[0], str)):
        raise UnsupportedModelError(
            f"The config.json of {source} names no class (architectures): write the model with save_pretrained of its "
            "class, such as BertForSequenceClassification."
        )
    name = architectures[0]
    model_class = getattr(transformers, name, None)
    if not (isinstance(model_class, type) and issubclass(model_class, PreTrainedModel)):
        raise UnsupportedModelError(
            f"{source} names the class {name!r}, which transformers doesn't have: remote code is not run."
        )
    try:
        loaded: Any = model_class.from_pretrained(source, dtype=dtype, use_safetensors=True, output_loading_info=True)
    except (RetentionError, UnsupportedModelError):
        raise
    except SafetensorError as error:
        raise CheckpointError(f"The weights in {source} are damaged ({error}): copy the directory again.") from error
    except Exception as error:  # a damaged config.json fails anywhere in the model's own code, in any way
        if isinstance(error, OSError) and _has_pickle_only(source):
            raise CheckpointError(
                f"{source} has its weights as pickle only, which can run code when read: load it in transformers once "
                "and save_pretrained it as safetensors."
            ) from error
        kind = "" if isinstance(error, (OSError, RuntimeError, ValueError)) else f"{type(error).__name__}: "
        raise CheckpointError(f"{source} can't be loaded: {kind}{_first_line(error)}") from error
    model: PreTrainedModel = loaded[0]
    info: dict[str, Any] = loaded[1]
    if info["missing_keys"] or info["mismatched_keys"]:
        missing = sorted(str(key) for key in [*info["missing_keys"], *info["mismatched_keys"]])
        raise CheckpointError(
            f"The weights in {source} lack {len(missing)} that {name} needs (first: {missing[0]}): it is damaged, or "
            "was saved without its head."
        )
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"The weight {key} in {source} holds NaN or infinity: train or copy the model again.")
    return model


def _has_pickle_only(source: str) -> bool:
    path = Path(source)
    return path.is_dir() and any(path.glob("*.bin")) and not any(path.glob("*.safetensors"))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextmanager
def staged(
    output: str | os.PathLike[str], *, force: bool = False, scratch: Path | None = None, inputs: Inputs | None = None
) -> Iterator[Path]:
    """A new directory that becomes ``output`` when the block ends well, and is gone when it doesn't.

    Args:
        force, inputs: see :func:`wordelim.outputs.refuse_existing`, which is asked before the block and after it.
        scratch: an existing directory on the same disk where it is made; None makes one beside ``output``.

    Raises:
        CheckpointError: ``output`` may not be written, or the disk refuses the files.
    """
    target = Path(output).expanduser()
    refuse_existing(target, force=force, inputs=inputs)
    try:
        with parents(target), _scratch(scratch or target.parent) as made:
            stage, old = made / "new", made / "old"
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


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A hidden directory on the disk that the output will be on."""
    with tempfile.TemporaryDirectory(prefix=".wordelim-", dir=folder, ignore_cleanup_errors=True) as directory:
        yield Path(directory)


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
) -> Path:
    """Write a compressed model with its tokenizer, whole or not at all.

    Args:
        report: written beside it as ``wordelim_report.json``.
        card: written beside it as ``README.md``.
        companions: more files, by their path in the directory.
        force: replace ``output`` when it exists and is a model.
        scratch, inputs: see :func:`staged`.

    Raises:
        CheckpointError: ``output`` may not be written, the model isn't compressed, or the disk refuses.
    """
    if not is_marked(model.config):
        raise CheckpointError(f"{type(model).__name__} isn't compressed: call wordelim.eliminate_ before saving it.")
    with staged(output, force=force, scratch=scratch, inputs=inputs) as stage:
        model.save_pretrained(stage, safe_serialization=True)
        tokenizer.save_pretrained(stage)
        for name, content in (companions or {}).items():
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_bytes(content)
        if report is not None:
            (stage / REPORT_FILE).write_text(_json(report), encoding="utf-8")
        if card is not None:
            (stage / "README.md").write_text(card, encoding="utf-8")
    return Path(output).expanduser()


def write_report(report: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write a report as JSON, whole or not at all, replacing an older one.

    Raises:
        CheckpointError: the disk refuses.
    """
    return write_whole(_json(report), path)


def _json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
