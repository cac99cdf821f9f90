"""Labelled text that every installation has: docstrings, and the question which library each comes from.

The libraries' names are masked, so that the answer lies in what a text is about. No library is imported for
this, and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from datasets import Dataset

from ..errors import DataError
from .docstrings import collector_paused, docstrings_in, source_files

__all__ = ["LABELS", "MASK", "SIZES", "Split", "clean", "load", "load_unbalanced", "split_of"]

Split = Literal["train", "validation", "test"]

MASK: Final = "[MASK]"
"""What stands for a library's name. It is the shipped tokenizer's mask token, so it costs one word vector."""

LABELS: Final = ("numpy", "python", "torch", "transformers")
"""Label names, in the order of the shipped model's label ids."""

SIZES: Final[Mapping[Split, int]] = {"train": 3000, "validation": 600, "test": 800}
"""At most how many texts each split holds, all labels together."""

_SPLIT_SHARES: Final[Mapping[Split, float]] = {"train": 0.66, "validation": 0.14, "test": 0.20}
_SHINGLE_WORDS = 8
_MAX_COPIED_SHARE = 0.5
_MIN_WORDS = 25
_MAX_WORDS = 300  # More than the model reads.
# The fewest words of a length class, and its share: equal for all libraries, so that length tells little.
_LENGTH_CLASSES: Final = ((100, 0.5), (50, 0.28), (_MIN_WORDS, 0.22))

# Files and folders that aren't read: tests, and what would take long and hold little.
_SKIP_ALWAYS: Final = "__pycache__ dist-packages idle_test site-packages test testing testing_utils.py tests"
_SKIP: Final[Mapping[str, str]] = {
    "numpy": "distutils",
    "python": "distutils encodings idlelib lib2to3 pydoc_data turtledemo",
    "torch": "_decomp _dynamo _export _functorch _higher_order_ops _inductor _library _native _numpy _prims "
    "_refs _subclasses _vendor ao cuda distributed fx jit onnx package utils xpu",
    "transformers": "models",
}

_RULE = re.compile(r"([^\w\s])\1{3,}")
_TWO_WORDS = re.compile(r"[Hh]ugging [Ff]ace")
_NAME = re.compile(
    r"(?i:numpy|c?python|(?:py|lib)?torch|transformers|hugging[_-]?face)"  # also inside a word
    r"|(?<![^\W\d_])(?:(?i:np|py|pt|hf)(?![^\W\d_])|(?:Py|Np|HF|Hf)(?=[A-Z]))"
)


class _Text(NamedTuple):
    text: str
    label: str
    split: Split


def load(split: Split) -> Dataset:
    """One split of the corpus, with columns `text` and `label` (a name in `LABELS`).

    Labels are balanced as far as the libraries have text, and the order is mixed. The first call in a process
    reads a thousand source files, which takes a few seconds.

    Raises:
        DataError: `split` is unknown, or a library's source isn't there.
    """
    if split not in SIZES:
        raise DataError(f"The demo has no split {split!r}: choose one of {', '.join(get_args(Split))}.")
    return _dataset(_balanced(split))


def load_unbalanced() -> Dataset:
    """Every text of the training split, of which `load("train")` is a part: tests/demo/train.py uses it."""
    return _dataset(row for row in _collect() if row.split == "train")


def clean(text: str) -> str:
    """`text` as the corpus holds it: libraries' names masked, white space and ruled lines shortened.

    Names are replaced by `MASK` in any case, and inside words and identifiers too.
    """
    return " ".join(map(_clean_word, _TWO_WORDS.sub(MASK, text).split()))


def split_of(text: str) -> Split:
    """The split that a text belongs to: a hash of how it opens, so an edit further on doesn't move it."""
    place = _digest("split", _opening(text)) / 2**64
    for split, share in _SPLIT_SHARES.items():
        place -= share
        if place < 0:
            return split
    return "test"


def _dataset(rows: Iterable[_Text]) -> Dataset:
    texts, labels, _ = zip(*rows, strict=True)
    return Dataset.from_dict({"text": texts, "label": labels})


@cache
def _clean_word(word: str) -> str:
    # Docstrings repeat their words: cleaning each word once is many times faster than cleaning each text.
    return _RULE.sub(r"\1\1\1", _NAME.sub(MASK, word))


def _opening(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text[:200].lower())[:10])


def _digest(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8])


@cache
def _collect() -> tuple[_Text, ...]:
    # One text for each opening, the longest: what opens alike (overloads, copies between modules) is alike.
    longest: dict[str, tuple[str, str]] = {}
    with collector_paused():
        for label in LABELS:
            for docstring in _docstrings_of(label):
                words = docstring.split(maxsplit=_MAX_WORDS)[:_MAX_WORDS]
                if len(words) >= _MIN_WORDS:
                    text = clean(" ".join(words))
                    opening = _opening(text)
                    if len(text) > len(longest.get(opening, ("",))[0]):
                        longest[opening] = text, label
    return _without_copies([_Text(text, label, split_of(text)) for text, label in longest.values()])


def _docstrings_of(label: str) -> Iterator[str]:
    root = _source_root(label)
    found = False
    for path in source_files(root, skip=frozenset(f"{_SKIP_ALWAYS} {_SKIP[label]}".split())):
        for docstring in docstrings_in(path):
            found = True
            yield docstring
    if not found:
        raise DataError(f"The demo found no docstrings of {label} in {root}: install it with its .py files.")


def _without_copies(rows: list[_Text]) -> tuple[_Text, ...]:
    # A text that repeats much of a training text under another opening would be no test of anything.
    seen: set[int] = set()
    for row in rows:
        if row.split == "train":
            seen.update(_shingles(row.text))

    def is_copy(row: _Text) -> bool:
        shingles = _shingles(row.text)
        return sum(shingle in seen for shingle in shingles) > _MAX_COPIED_SHARE * len(shingles)

    return tuple(row for row in rows if row.split == "train" or not is_copy(row))


def _shingles(text: str) -> list[int]:
    words = text.split()
    return list(map(hash, zip(*(words[start:] for start in range(_SHINGLE_WORDS)), strict=False)))


def _source_root(label: str) -> Path:
    if label == "python":
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(label)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"The demo reads docstrings of {label}, which is missing: run pip install {label}.")
    return Path(spec.submodule_search_locations[0])


@cache
def _balanced(split: Split) -> tuple[_Text, ...]:
    groups: defaultdict[tuple[str, int], list[_Text]] = defaultdict(list)
    for row in _collect():
        if row.split == split:
            groups[row.label, _length_class(row.text)].append(row)
    chosen: list[_Text] = []
    for (_, length_class), rows in groups.items():
        cap = round(SIZES[split] / len(LABELS) * _LENGTH_CLASSES[length_class][1])
        chosen += sorted(rows, key=_mixed_order)[:cap]
    return tuple(sorted(chosen, key=_mixed_order))


def _length_class(text: str) -> int:
    words = len(text.split())
    return next(index for index, (start, _) in enumerate(_LENGTH_CLASSES) if words >= start)


def _mixed_order(row: _Text) -> int:
    return _digest("order", row.text)
