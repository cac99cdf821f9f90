"""What sentence-transformers keeps beside a model: which modules follow it, and how an embedding is made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import snapshot_download

from .errors import CheckpointError
from .tasks.similarity import Pooling

__all__ = ["companions", "pooling_of"]

_PATTERNS = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "[0-9]*_*/*.json",
    "[0-9]*_*/*.safetensors",
)
_NAMES: Mapping[str, Pooling] = {
    "mean": "mean",
    "cls": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}


def companions(model_dir: str | os.PathLike[str]) -> dict[str, bytes]:
    """Those files of a model directory or hub model, by their path in it; none where the hub can't be reached."""
    place = Path(model_dir).expanduser()
    if not place.is_dir():
        try:
            place = Path(snapshot_download(str(model_dir), allow_patterns=list(_PATTERNS)))
        except (OSError, ValueError):
            return {}
    found = sorted(path for pattern in _PATTERNS for path in place.glob(pattern) if path.is_file())
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in found}


def pooling_of(files: Mapping[str, bytes]) -> Pooling:
    """How these files say that an embedding is made; the mean where they say nothing.

    Raises:
        CheckpointError: it is made in a way that isn't served.
    """
    path = next((path for path in files if path.endswith("_Pooling/config.json")), None)
    if path is None:
        return "mean"
    try:
        config = json.loads(files[path])
        stated = config.get("pooling_mode")
        modes = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
        modes = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else modes
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} of the model is damaged: {error}.") from error
    if len(modes) != 1 or modes[0] not in _NAMES:
        raise CheckpointError(
            f"The model makes an embedding by {', '.join(map(str, modes)) or 'nothing known'} ({path}): only the "
            "mean of all tokens and the first token are served."
        )
    return _NAMES[modes[0]]
