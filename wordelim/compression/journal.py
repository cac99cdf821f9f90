"""What a compression has done so far, on the disk, so that a run that was killed can go on."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import CheckpointError, NotMetError
from ..system.disk import unwritable
from ..system.lock import LOCK, hold
from ..system.processes import from_main, is_main, wait
from ..training.checkpoints import last_checkpoint
from .identity import differences, digest_of_data, digest_of_weights

__all__ = ["Journal", "has_written", "journal", "refuse_foreign"]

_RUN = "run.json"
_SAVING = "saving"
# Files that a run leaves in its folder.
_OWN = re.compile(rf"{_SAVING}|{LOCK}|\.?[\w-]+\.(json|safetensors)(\.part)?")


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that is there and isn't one of a run's: nothing is written or deleted in it.

    Raises:
        CheckpointError: it is a link or a file, or holds something else.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_dir() and not folder.is_symlink():
        names = set(os.listdir(folder))
        strangers = sorted(name for name in names if (folder / name).is_file() and not _OWN.fullmatch(name))
        if not names or (names & {_RUN, LOCK} and not strangers):
            return
    raise CheckpointError(f"{folder} is no folder of an unfinished run: move it away, or name another output.")


def has_written(folder: Path, output: Path) -> bool:
    """Whether what stands at ``output`` is the very directory that the run which a folder is of put there."""
    try:
        return bool((folder / _SAVING).read_text(encoding="utf-8") == _place_of(output))
    except (OSError, ValueError):
        return False


def _place_of(directory: Path) -> str:
    """What a directory is known by on its disk, whatever it is called."""
    status = directory.lstat()
    return f"{status.st_dev} {status.st_ino}"


@contextmanager
def journal(folder: Path | None, *, resume: bool = False, force: bool = False) -> Iterator[Journal]:
    """Hold the folder of a run for its journal, and leave it where there is something to go on from.

    A run that comes to its end, or to a goal that is out of reach, leaves nothing; nor does one that fails before
    anything was kept.

    Raises:
        CheckpointError: another run holds the folder.
        KeyboardInterrupt: the run was interrupted; it says from where it goes on.
    """
    with hold(folder):
        kept = Journal(folder, resume=resume, force=force)
        try:
            yield kept
        except BaseException as error:
            if isinstance(error, NotMetError) or not kept.holds():
                kept.remove()
            elif isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"no model was written; --resume goes on from {folder}") from error
            raise
        kept.remove()


class Journal:
    """A folder for the finished stages of one run, and for the checkpoints of the unfinished one.

    It is made when the first of these is written. Every process may read; the main one alone writes.

    Args:
        folder: where; None keeps nothing.
        resume: go on from what is there.
        force: where ``resume`` is false, delete what is there.
    """

    def __init__(self, folder: Path | None = None, *, resume: bool = False, force: bool = False) -> None:
        self.folder, self.resume, self.force = folder, resume, force
        self.run: dict[str, Any] | None = None
        self.parents = [] if folder is None else [parent for parent in folder.parents if not parent.exists()]

    def bind(self, run: Mapping[str, Any]) -> None:
        """Say which run it is of, before anything is kept or looked up.

        Args:
            run: what the run is made of, as plain data. A run goes on only where all of it is the same.

        Raises:
            CheckpointError: something is there and neither to go on nor to delete it was asked for, or it is of another
                run.
        """
        plain = json.loads(json.dumps(run, default=str))
        from_main(lambda: self._open(plain))
        self.run = plain

    def _open(self, run: Mapping[str, Any]) -> None:
        if self.folder is None or not self.folder.exists():
            return
        refuse_foreign(self.folder)
        if not any(path.name not in (LOCK, _SAVING) for path in self.folder.iterdir()):
            return  # of a run that was killed before there was anything to keep, or when all was done
        if not self.resume:
            if not self.force:
                raise CheckpointError(
                    f"{self.folder} holds an unfinished run: pass --resume to go on with it, or --force to start over."
                )
            self._clear()
            return
        try:
            before = json.loads((self.folder / _RUN).read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{self.folder} holds no run that can go on ({_RUN} can't be read): delete it, or pass --force without "
                "--resume."
            ) from error
        if different := differences(before, run):
            raise CheckpointError(
                f"{self.folder} is of another run ({different}): give what was given then, or pass --force without "
                "--resume to start over."
            )

    def known(self, stage: str) -> Any:
        """What was kept of a stage; None when it isn't finished."""
        path = self._path(stage, ".json")
        if path is None:
            return None
        # Of one mind: a slower process must not find what a faster one has just finished.
        return from_main(lambda: self._read(path)["result"] if path.exists() else None)

    def _read(self, path: Path) -> dict[str, Any]:
        """What :meth:`keep` wrote of a stage, if it is what it wrote."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["sha256"] != digest_of_data([kept["result"], kept["weights"]]):
                raise ValueError("changed")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._damaged(path, path) from error
        return dict(kept)

    def _damaged(self, what: Path, cause: Path) -> CheckpointError:
        return CheckpointError(
            f"{what} is damaged: delete {cause} and --resume does that part again, or pass --force without --resume to "
            "start over."
        )

    def weights(self, stage: str) -> dict[str, Tensor]:
        """The weights that a finished stage left."""
        path, told = self._path(stage, ".safetensors"), self._path(stage, ".json")
        assert path is not None and told is not None
        expected = self._read(told)["weights"]
        try:
            found = load_file(path)
        except (OSError, SafetensorError, ValueError) as error:
            raise self._damaged(path, told) from error
        if digest_of_weights(dict(sorted(found.items()))) != expected:
            raise self._damaged(path, told)
        return found

    def keep(self, stage: str, result: Any, model: PreTrainedModel | None = None) -> None:
        """Keep a finished stage's result (plain data) and, where a model is given, its weights."""
        if self.folder is not None and is_main():
            self._begin()
            weights = None
            if model is not None:
                tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
                weights = digest_of_weights(dict(sorted(tensors.items())))
                self._write(stage, ".safetensors", lambda path: save_file(tensors, path))
            result = json.loads(json.dumps(result))
            kept = {"result": result, "weights": weights, "sha256": digest_of_data([result, weights])}
            self._write(stage, ".json", lambda path: path.write_text(json.dumps(kept), encoding="utf-8"))
            shutil.rmtree(self.folder / stage, ignore_errors=True)
        wait()

    def place(self, stage: str) -> Path | None:
        """Where the checkpoints of a stage's training go."""
        if self.folder is None:
            return None
        if is_main():
            self._begin()
        return self.folder / stage

    def begin_saving(self, made: Path) -> None:
        """Note that a finished directory, which is about to become the output, is this run's own."""
        if self.folder is not None and is_main():
            self._begin()
            self._write(_SAVING, "", lambda path: path.write_text(_place_of(made), encoding="utf-8"))

    def holds(self) -> bool:
        """Whether there is anything of this run to go on from."""
        if self.run is None or self.folder is None or not self.folder.exists():
            return False
        stages = [path for path in self.folder.glob("*.json") if path.name != _RUN]
        return bool(stages) or any(last_checkpoint(path) for path in self.folder.iterdir() if path.is_dir())

    def remove(self) -> None:
        """Delete the folder, if it is this run's, and those above it that are empty and weren't there before."""
        if self.folder is not None and self.run is not None and is_main() and self.folder.exists():
            self._clear()
            for path in (self.folder, *self.parents):
                with suppress(OSError):
                    path.rmdir()

    def _clear(self) -> None:
        """Delete what is in the folder, but for the lock of who holds it; last what says whose it is."""
        assert self.folder is not None
        for path in sorted(self.folder.iterdir(), key=lambda path: (path.name == _SAVING, path.name == _RUN)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                with suppress(OSError):
                    path.unlink()

    def _path(self, stage: str, suffix: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{stage}{suffix}"

    def _begin(self) -> None:
        assert self.folder is not None
        if not (self.folder / _RUN).exists():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise unwritable(self.folder, error) from error
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
            raise unwritable(path, error) from error
