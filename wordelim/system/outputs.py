"""May this be written, and what stands there be replaced? One answer for every file and directory that is written.

Nothing that a run reads is ever replaced, and nothing else that wordelim didn't write: of directories also other models
where ``force`` says so, of files none.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

import datasets

from ..errors import CheckpointError

__all__ = ["Inputs", "refuse_existing", "refuse_file", "refuse_files", "refuse_inputs"]

Inputs: TypeAlias = Mapping[str, Any]
"""What a run reads, by what it is called in a sentence: paths, hub names, data sets, or None."""

# Written by transformers and its relatives beside a model, by kinds. With nothing but these it is a model's directory.
_WEIGHTS = (
    *("*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "tf_model*.h5", "flax_model*.msgpack", "*.gguf"),
    *("rust_model.ot", "*model*.onnx", "*.onnx_data", "*.onnx.data", "openvino_*.xml", "openvino_*.bin"),
)
_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json", "*processor_config.json", "quantize*config.json"),
    *("*.safetensors.index.json", "*.bin.index.json", "*.h5.index.json", "*.msgpack.index.json"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("*.model", "*.tiktoken", "bpe.codes", "dict.txt", "emoji_map.json", "chat_template.*"),
    *("modules.json", "sentence_*_config.json", "config_sentence_transformers.json", "ort_config.json"),
    *("README.md", "LICENSE*", "NOTICE*", "USE_POLICY.md", ".gitattributes", ".DS_Store"),
    *("all_results.json", "*_results.json", "trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt"),
    *("scaler.pt", "rng_state*.pth", "events.out.tfevents.*"),
    *("wordelim_report.json", "wordelim_export.json", "report.html", "report.md"),
)
_FOLDERS = ("checkpoint-[0-9]*", "[0-9]_[A-Z]*", "onnx", "openvino", "runs", ".cache", "additional_chat_templates")
# Folders in which folders have names of any kind, and the files that these may hold.
_FREE = {"runs": ("events.out.tfevents.*",), ".cache": (".gitignore", "CACHEDIR.TAG", "*.metadata", "*.lock")}

# What marks a report in JSON, with its version.
_MARKS = tuple(f"wordelim_{kind}" for kind in ("report", "check", "bench", "probe", "export"))
# How the reports begin that are no JSON: a page, JUnit XML, Markdown of a check and of a compression.
_REPORT = re.compile(
    r'<!doctype html>.*<meta name="generator" content="wordelim '
    r'|<\?xml[^>]*>\s*<testsuites>\s*<testsuite name="wordelim '
    r"|### wordelim check: |# [^\n]*, (not )?compressed\n\n\*\*",
    re.DOTALL,
)
_HEAD, _MOST = 1 << 14, 1 << 28  # bytes that are read of a text, and of JSON


def refuse_existing(output: str | os.PathLike[str], *, force: bool = False, inputs: Inputs | None = None) -> None:
    """Refuse an output directory that may not be written or, where it is there, replaced; touches nothing.

    Args:
        force: replace a directory that wordelim wrote, or that holds a model and nothing else.
        inputs: what the run reads: none of it may be, hold or lie in ``output``.

    Raises:
        CheckpointError: the sentence says why, and what to do.
    """
    target = Path(output).expanduser()
    status = _status(target, f"Output {str(output)!r} can't be made")
    linked = status is not None and stat.S_ISLNK(status.st_mode)
    if status is not None and not linked and not stat.S_ISDIR(status.st_mode):
        raise CheckpointError(f"Output {str(output)!r} is a file: name a directory.")
    _refuse_within(target, f"Output {str(output)!r}", inputs or {})
    if linked:
        raise CheckpointError(f"Output {str(output)!r} is a symbolic link: name the directory that it leads to.")
    if status is not None:
        if not force:
            raise CheckpointError(
                f"Output directory {str(output)!r} exists: name another, or pass --force to replace it."
            )
        _refuse_replacing(target, output, inputs or {})
    above = next(parent for parent in target.absolute().parents if parent.exists())
    if not above.is_dir():
        raise CheckpointError(f"Output {str(output)!r} can't be made: {above} is a file; name another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise CheckpointError(f"Output {str(output)!r} can't be made: {above} isn't writable; name another place.")


def refuse_inputs(folder: str | os.PathLike[str], inputs: Inputs) -> None:
    """Refuse a directory that is to be written or deleted where an input of the run is, holds or lies in it.

    Raises:
        CheckpointError: one is.
    """
    target, name = Path(folder).expanduser(), f"Output {str(folder)!r}"
    _refuse_within(target, name, inputs)
    _refuse_holding(target, name, inputs)


def refuse_files(asked: Mapping[str, str | os.PathLike[str] | None], inputs: Inputs) -> None:
    """Ask of all the files that a run is to write, by their options, before its work; see :func:`refuse_file`.

    Raises:
        CheckpointError: one may not be written, or two are one.
    """
    named = {option: Path(path).expanduser() for option, path in asked.items() if path is not None}
    for option, target in named.items():
        refuse_file(target, inputs)
        for other, second in named.items():
            if other == option:
                break
            if _same(target, second) or os.path.realpath(target) == os.path.realpath(second):
                raise CheckpointError(f"{other} and {option} name the same file, {str(target)!r}: name two.")
            for file, below in ((target, second), (second, target)):
                if _is_in(below, file):
                    raise CheckpointError(f"{file} is to be a file, so {below} can't be in it: name another place.")


def refuse_file(path: str | os.PathLike[str], inputs: Inputs | None = None) -> None:
    """Refuse a file that may not be written or, where it is there, replaced; leaves nothing behind.

    Args:
        inputs: what the run reads: ``path`` may be none of it, and lie in none of its directories.

    Raises:
        CheckpointError: it is an input, no regular file, holds what wordelim didn't write, or can't be written.
    """
    target = Path(path).expanduser()
    status = _status(target, f"{target} can't be written")
    _refuse_within(target, str(target), inputs or {})
    if status is not None:
        if stat.S_ISDIR(status.st_mode):
            raise CheckpointError(f"{target} is a directory: name a file in it.")
        if stat.S_ISLNK(status.st_mode):
            raise CheckpointError(f"{target} is a symbolic link: name the file that it leads to.")
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{target} is a device, a pipe or a socket: name a file.")
        if status.st_size and not _is_report(target, status.st_size):
            raise CheckpointError(f"{target} exists and is no report of wordelim: name another, or delete it first.")
    above = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    try:
        # Tried, not asked: root has every permission, and yet can't write to a read-only disk.
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        reason = error.strerror if above.is_dir() else f"{above} is a file"
        raise CheckpointError(f"{target} can't be written ({reason}): name another place.") from error


def _status(target: Path, what: str) -> os.stat_result | None:
    """What stands there itself, not what it leads to; None for nothing."""
    try:
        return target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{what} ({reason}): name another place.") from error


def _paths(inputs: Inputs) -> Iterator[tuple[str, Path]]:
    """Every local file and directory of the inputs, by the name that was given and by that to which links lead."""
    for what, source in inputs.items():
        given = [file["filename"] for file in source.cache_files] if isinstance(source, datasets.Dataset) else [source]
        for one in given:
            if not isinstance(one, (str, os.PathLike)):
                continue
            name = os.path.expanduser(os.fspath(one))
            # Directories of data may have a configuration and a split behind them.
            found = next((part for part in (name, name.partition(":")[0]) if part and _exists(part)), None)
            if found is not None:
                ways = [os.path.abspath(found), os.path.realpath(found), *_led_to(found)]
                for path in dict.fromkeys(ways):
                    yield what, Path(path)


def _led_to(folder: str) -> Iterator[str]:
    """Where the links in a folder lead, such as those of a cached model to its files."""
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(above, name)
            if os.path.islink(path):
                yield os.path.realpath(path)


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:
        return False


def _refuse_within(target: Path, name: str, inputs: Inputs) -> None:
    for what, path in _paths(inputs):
        if _same(target, path):
            raise CheckpointError(f"{name} is the {what} itself: name another.")
        if path.is_dir() and _is_in(target, path):
            raise CheckpointError(f"{name} is in the {what}, {path}: name a place outside it.")


def _refuse_holding(target: Path, name: str, inputs: Inputs) -> None:
    for what, path in _paths(inputs):
        if _is_in(path, target):
            raise CheckpointError(f"{name} holds the {what}, {path}, which would be deleted: name another.")


def _refuse_replacing(target: Path, output: str | os.PathLike[str], inputs: Inputs) -> None:
    """Refuse a directory that isn't a model and nothing else, or without which something else would be lost."""
    _refuse_holding(target, f"Output directory {str(output)!r}", inputs)
    stranger = _stranger_in(target)
    if stranger is not None:
        raise CheckpointError(
            f"Output directory {str(output)!r} holds something else than a model ({stranger}), which --force doesn't "
            "replace: name another."
        )
    for what, place in (("working directory", Path(os.path.abspath("."))), ("home directory", Path("~").expanduser())):
        if _same(target, place) or _is_in(place, target):
            raise CheckpointError(f"Output directory {str(output)!r} holds the {what}: name another.")


def _same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except (OSError, ValueError):
        return os.path.abspath(first) == os.path.abspath(second)


def _is_in(path: Path, folder: Path) -> bool:
    """Whether a path lies below a folder, by whatever names and links."""
    ways = {Path(os.path.abspath(path)), Path(os.path.realpath(path))}
    return any(_same(parent, folder) for way in ways for parent in way.parents)


def _stranger_in(folder: Path) -> str | None:
    """The first thing in a folder that keeps it from being a model and nothing else; None where it is one, or empty."""
    names = sorted(os.listdir(folder))
    if not names:
        return None
    config = _read_object(folder / "config.json") if "config.json" in names else None
    if config is None:
        return next(name for name in names if name != "config.json") if len(names) > 1 else names[0]
    if not any(_fits(name, _WEIGHTS) for name in names):
        return "config.json"  # of something else, for there are no weights beside it
    return _stranger(folder, modules=_module_folders(folder))


def _module_folders(folder: Path) -> tuple[str, ...]:
    """The folders that modules.json of sentence-transformers names, which may hold any file."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        return tuple(str(module["path"]) for module in modules if module["path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()


def _stranger(folder: Path, *, modules: tuple[str, ...] = (), inside: tuple[str, ...] | None = None) -> str | None:
    """The first file or folder that no model's directory has.

    Args:
        modules: names of folders in it that may hold any file, but no folder.
        inside: the kinds of files that it may hold, where folders in it may have any name; None for a model's.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            inner: str | None = ""
            if entry.name in modules:
                inner = _stranger(Path(entry.path), inside=("*",))
            elif inside is not None or _fits(entry.name, _FOLDERS):
                inner = _stranger(Path(entry.path), inside=_FREE.get(entry.name, inside))
            if inner is not None:
                return f"{entry.name}/{inner}"
        else:
            known = _fits(entry.name, (*_WEIGHTS, *_FILES) if inside is None else inside)
            if not known or not (entry.is_file() or entry.is_symlink()):
                return entry.name
    return None


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        if not path.is_file() or path.stat().st_size > _MOST:
            return None
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_report(path: Path, size: int) -> bool:
    """Whether wordelim wrote a file: one of its reports, in any form."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if head.lstrip()[:1] == b"{":
        found = _read_object(path) if size <= _MOST else None
        return found is not None and any(found.get(mark) == 1 for mark in _MARKS)
    return _REPORT.match(head.decode("utf-8", errors="replace")) is not None
