"""What wordelim, transformers and their relatives write: a model's directory and nothing else, or a report."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .inputs import UnreadableError, read_json

__all__ = ["is_report", "stranger_in"]

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
    *("config.pbtxt", "labels.txt"),
)
_FOLDERS = ("checkpoint-[0-9]*", "[0-9]_[A-Z]*", "1", "onnx", "openvino", "runs", ".cache", "additional_chat_templates")
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
# Folders of sentence-transformers' modules, such as 1_Pooling.
_MODULE = re.compile(r"\w[\w-]*")
_HEAD = 1 << 14  # bytes that are read of a text


def stranger_in(folder: Path) -> str | None:
    """The first thing in a folder that keeps it from being a model and nothing else; None where it is one, or empty."""
    names = sorted(os.listdir(folder))
    if not names:
        return None
    config = _read_object(folder / "config.json") if "config.json" in names else None
    if config is None:
        return next(name for name in names if name != "config.json") if len(names) > 1 else names[0]
    if not any(_fits(name, (*_WEIGHTS, "config.pbtxt")) for name in names):  # in Triton's layout they lie in a folder
        return "config.json"  # of something else, for there are no weights beside it
    return _stranger(folder, modules=_module_folders(folder))


def _module_folders(folder: Path) -> tuple[str, ...]:
    """The folders that modules.json of sentence-transformers names, which may hold any file."""
    try:
        modules = read_json(folder / "modules.json")
        return tuple(path for module in modules if _MODULE.fullmatch(path := str(module["path"])))
    except (UnreadableError, KeyError, TypeError):
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
        found = read_json(path)
    except UnreadableError:
        return None
    return found if isinstance(found, dict) else None


def is_report(path: Path) -> bool:
    """Whether wordelim wrote a file: one of its reports, in any form."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if head.lstrip()[:1] == b"{":
        found = _read_object(path)
        return found is not None and any(found.get(mark) == 1 for mark in _MARKS)
    return _REPORT.match(head.decode("utf-8", errors="replace")) is not None
