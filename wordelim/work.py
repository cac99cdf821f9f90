"""What a compression has done so far, on the disk, so that a run that was killed can go on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, uint8
from transformers import PreTrainedModel

from .distributed import from_main, is_main, wait
from .errors import CheckpointError
from .training.fit import last_checkpoint

__all__ = ["Work", "digest", "is_saving"]

_RUN = "run.json"
_SAVING = "saving"


def digest(model: PreTrainedModel) -> str:
    """SHA-256 (hex) of a model's weights: names, types, shapes and values."""
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(uint8).numpy())
    return found.hexdigest()


def is_saving(folder: Path) -> bool:
    """Whether the run that a folder is of had come to writing its output."""
    return (folder / _SAVING).exists()


class Work:
    """A folder for the finished stages of one run, and for the checkpoints of the unfinished one.

    It is made when the first of these is written. Every process may read; the main one alone writes.

    Args:
        folder: where; None keeps nothing.
        run: what the run is made of, as plain data. A run goes on only where all of it is the same.
        resume: go on from what is there.
        force: where ``resume`` is false, delete what is there.

    Raises:
        CheckpointError: something is there and neither was asked for, or it is of another run.
    """

    def __init__(
        self, folder: Path | None, run: Mapping[str, Any], *, resume: bool = False, force: bool = False
    ) -> None:
        self.folder = folder
        self.run = json.loads(json.dumps(run))
        self.parents = [] if folder is None else [parent for parent in folder.parents if not parent.exists()]
        from_main(lambda: self._open(resume=resume, force=force))

    def _open(self, *, resume: bool, force: bool) -> None:
        if self.folder is None or not self.folder.exists():
            return
        if not resume:
            if not force:
                raise CheckpointError(
                    f"{self.folder} holds an unfinished run: pass --resume to go on with it, or --force to start over."
                )
            shutil.rmtree(self.folder)
            return
        try:
            before = json.loads((self.folder / _RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{self.folder} holds no run that can go on ({_RUN} can't be read): delete it, or pass --force without "
                "--resume."
            ) from error
        different = [
            f"{name} was {_short(old)} and is {_short(new)}"
            for name, (old, new) in _differences(before, self.run).items()
        ]
        if different:
            raise CheckpointError(
                f"{self.folder} is of another run ({'; '.join(different)}): give what was given then, or pass --force "
                "without --resume to start over."
            )

    def known(self, stage: str) -> Any:
        """What was kept of a stage; None when it isn't finished."""
        path = self._path(stage, ".json")
        if path is None:
            return None
        # Of one mind: a slower process must not find what a faster one has just finished.
        return from_main(lambda: json.loads(path.read_text(encoding="utf-8")) if path.exists() else None)

    def weights(self, stage: str) -> dict[str, Tensor]:
        """The weights that a finished stage left."""
        path = self._path(stage, ".safetensors")
        assert path is not None
        return load_file(path)

    def keep(self, stage: str, result: Any, model: PreTrainedModel | None = None) -> None:
        """Keep a finished stage's result (plain data) and, where a model is given, its weights."""
        if self.folder is not None and is_main():
            self._begin()
            if model is not None:
                tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
                self._write(stage, ".safetensors", lambda path: save_file(tensors, path))
            self._write(stage, ".json", lambda path: path.write_text(json.dumps(result), encoding="utf-8"))
            shutil.rmtree(self.folder / stage, ignore_errors=True)
        wait()

    def place(self, stage: str) -> Path | None:
        """Where the checkpoints of a stage's training go."""
        if self.folder is None:
            return None
        if is_main():
            self._begin()
        return self.folder / stage

    def begin_saving(self) -> None:
        """Note that what stands at the output from now on is this run's own."""
        if self.folder is not None and is_main():
            self._begin()
            (self.folder / _SAVING).touch()

    def holds(self) -> bool:
        """Whether there is anything to go on from."""
        if self.folder is None or not self.folder.exists():
            return False
        stages = [path for path in self.folder.glob("*.json") if path.name != _RUN]
        return bool(stages) or any(last_checkpoint(path) for path in self.folder.iterdir() if path.is_dir())

    def remove(self) -> None:
        """Delete the folder, and those above it that are empty and weren't there before."""
        if self.folder is not None and is_main():
            shutil.rmtree(self.folder, ignore_errors=True)
            for parent in self.parents:
                with suppress(OSError):
                    parent.rmdir()

    def _path(self, stage: str, suffix: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{stage}{suffix}"

    def _begin(self) -> None:
        assert self.folder is not None
        if not (self.folder / _RUN).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write("run", ".json", lambda path: path.write_text(json.dumps(self.run), encoding="utf-8"))

    def _write(self, stage: str, suffix: str, write: Callable[[Path], Any]) -> None:
        """Whole or not at all."""
        path = self._path(stage, suffix)
        assert path is not None
        part = path.with_name(f".{path.name}.part")
        try:
            write(part)
            os.replace(part, path)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                part.unlink()
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{path} can't be written ({reason}): make room, or name another output.") from error


def _differences(before: Any, now: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in dict.fromkeys([*before, *now]):
            found |= _differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
        return found
    return {} if before == now else {name: (before, now)}


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text
