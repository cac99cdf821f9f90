"""Checkpoints of a training that a run which was killed goes on from: each whole, or none."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback

from ..system.processes import wait

__all__ = ["Complete", "Stateful", "all_numbers", "begin_at", "last_checkpoint"]

_COMPLETE = "wordelim-complete"


class Stateful(TrainerCallback):
    """A callback with a state that belongs to a checkpoint."""

    def store(self, folder: Path) -> None:
        """Write the state into a checkpoint's folder."""
        raise NotImplementedError

    def restore(self, folder: Path) -> None:
        """Take the state from there."""
        raise NotImplementedError


class Complete(TrainerCallback):
    """Adds the callbacks' states to a checkpoint, and marks it as whole if its weights are numbers."""

    def __init__(self, model: PreTrainedModel, callbacks: Sequence[Stateful]) -> None:
        self.model = model
        self.callbacks = callbacks

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        wait()  # for what every process adds to it
        if args.should_save and all_numbers(self.model):
            for callback in self.callbacks:
                callback.store(folder)
            (folder / _COMPLETE).write_text(json.dumps(_digests(folder)), encoding="utf-8")


def last_checkpoint(place: Path) -> Path | None:
    """The last whole checkpoint in a folder: one that holds, byte by byte, what was written when it was finished."""
    return next(filter(_is_whole, reversed(_checkpoints(place))), None)


def _checkpoints(place: Path) -> list[Path]:
    """Folders of checkpoints, whole or not, in the order of their steps."""
    numbered = [(re.fullmatch(r"checkpoint-([0-9]{1,18})", path.name), path) for path in place.glob("checkpoint-*")]
    return [path for _, path in sorted((int(found[1]), path) for found, path in numbered if found and path.is_dir())]


def _is_whole(folder: Path) -> bool:
    try:
        told, found = json.loads((folder / _COMPLETE).read_text(encoding="utf-8")), _digests(folder)
        return bool(told) and all(found.get(name) == value for name, value in told.items())
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _COMPLETE:
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def begin_at(place: Path) -> Path | None:
    """The last whole checkpoint, without those behind it that a kill or the disk left damaged."""
    known = last_checkpoint(place)
    found = _checkpoints(place)
    for folder in found[found.index(known) + 1 if known else 0 :]:
        shutil.rmtree(folder, ignore_errors=True)
    return known


def all_numbers(model: PreTrainedModel) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())
