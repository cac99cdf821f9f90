"""What a directory may hold in place of one model in files that can be read."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import CheckpointError
from ..system.inputs import UnreadableError, irregular, read_json
from ..system.printable import short

__all__ = ["refuse_adapter", "refuse_irregular", "refuse_other_layout"]


def refuse_other_layout(directory: Path) -> None:
    """Refuse a directory that holds something else than one model in files that may be read.

    Raises:
        CheckpointError: a file is no regular one, the directory holds an adapter, or its model is in a folder of it.
    """
    refuse_irregular(directory)
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"):
        refuse_adapter(directory / name, str(directory))
    if (directory / "config.json").is_file():
        return
    below = [path.parent.name for path in sorted(directory.glob("*/config.json")) if _has_model(path.parent)]
    if not below:
        raise CheckpointError(f"{directory} has no config.json: it isn't a model directory.")
    anew = ""
    if (directory / "modules.json").is_file():
        anew = (
            ", or, so that the other modules of sentence-transformers aren't lost, write the directory anew with "
            "SentenceTransformer(...).save_pretrained"
        )
    # Of checkpoints the last.
    best = max(below, key=lambda name: int(found[0]) if (found := re.findall(r"-(\d+)$", name)) else -1)
    raise CheckpointError(f"{directory} has its model in a folder ({', '.join(below)}): give {directory / best}{anew}.")


def refuse_irregular(directory: Path) -> None:
    """Refuse a directory with a FIFO or a device in it, which may be read for ever: CheckpointError."""
    for path in sorted(directory.iterdir()):
        if path.exists() and not path.is_dir() and irregular(path):
            raise CheckpointError(f"{path} {irregular(path)}: copy the directory again.")


def _has_model(directory: Path) -> bool:
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    return any((directory / name).exists() for name in names)


def refuse_adapter(path: Path, source: str) -> None:
    """Refuse a model that comes with an adapter, whether or not peft is there to apply it.

    Args:
        path: of the adapter's config, or of its weights.

    Raises:
        CheckpointError: it exists.
    """
    if not path.exists():
        return
    try:
        adapter = read_json(path) if path.suffix == ".json" else {}
    except UnreadableError:
        adapter = {}
    adapter = adapter if isinstance(adapter, dict) else {}
    base = adapter.get("base_model_name_or_path")
    of = f" of {short(base)}" if isinstance(base, str) else ""
    raise CheckpointError(
        f"{source} holds an adapter ({short(adapter.get('peft_type', 'unknown'))}, {path.name}){of}: merge it "
        "into the model with peft's merge_and_unload(), and save that with save_pretrained in a directory of its own."
    )


def refuse_without_weights(directory: Path) -> None:
    """Refuse a directory without weights in safetensors: CheckpointError says what it holds instead."""
    names = {path.name for path in directory.iterdir()}
    if any(name.endswith(".safetensors") for name in names):
        return
    if any(name.endswith((".onnx", "_model.xml")) for name in names):
        raise CheckpointError(f"{directory} holds an exported program and no weights: give the model that it is of.")
    if any(name.endswith(".bin") for name in names):
        raise CheckpointError(
            f"{directory} has its weights as pickle only, which can run code when read: load it in transformers once "
            "and save_pretrained it as safetensors."
        )
    raise CheckpointError(f"{directory} has no weights (model.safetensors): give the directory that holds them.")
