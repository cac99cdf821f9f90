"""The whole path on what every installation has: a small shipped BERT, and docstrings to classify."""

from __future__ import annotations

import os
from collections.abc import Mapping

from datasets import Dataset

from ..checkpoint.loading import load_tokenizer
from ..compression.run import CompressionResult
from ..demo import MODEL_DIR
from ..demo.corpus import Split, load
from ..report.explanation import Explanation
from ..system.outputs import refuse_existing
from ..system.progress import Progress
from .compress import compress
from .explain import explain

__all__ = ["run_demo"]

# Less than there is, so that it takes a minute and a half on two cores.
_TEXTS: Mapping[Split, int] = {"train": 1000, "validation": 400, "test": 500}


def run_demo(
    output: str | os.PathLike[str], *, force: bool = False, progress: Progress = lambda stage, share: None
) -> tuple[CompressionResult, Explanation]:
    """Compress the shipped model, which tells from a docstring the library that it comes from.

    Returns:
        The result, and which words of one test text survive in it.

    Raises:
        CheckpointError: ``output`` exists and ``force`` is false, or can't be written.
    """
    refuse_existing(output, force=force, inputs={"model": MODEL_DIR})
    progress("reading docstrings", 0.0)
    texts: dict[str, Dataset] = {}
    for split, most in _TEXTS.items():
        whole = load(split)
        texts[split] = whole.select(range(min(most, len(whole))))
    progress("reading docstrings", 1.0)
    result = compress(
        MODEL_DIR,
        **texts,
        output=output,
        force=force,
        progress=progress,
        search_examples=128,
        epochs=1.0,
        learning_rate=2e-4,
    )
    tokenizer = load_tokenizer(MODEL_DIR)
    # Prose of middling length is easiest to read.
    text = min(texts["test"]["text"], key=lambda t: (">>>" in t, abs(len(t.split()) - 60)))
    return result, explain(result.model.float(), tokenizer, text)
