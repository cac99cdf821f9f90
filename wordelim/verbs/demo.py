"""The whole path on what every installation has: a small shipped BERT, and docstrings to classify."""

from __future__ import annotations

import os

from ..checkpoint.loading import load_tokenizer
from ..compression.run import CompressionResult
from ..demo import MODEL_DIR
from ..demo.corpus import load
from ..report.explanation import Explanation
from ..system.outputs import refuse_existing
from ..system.progress import Progress
from .compress import compress
from .explain import explain

__all__ = ["run_demo"]

_TRAIN, _VALIDATION = 1300, 400


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
    train, validation, test = (load(split) for split in ("train", "validation", "test"))
    progress("reading docstrings", 1.0)
    # Less than there is, so that it takes minutes on two cores.
    result = compress(
        MODEL_DIR,
        train=train.select(range(min(_TRAIN, len(train)))),
        validation=validation.select(range(min(_VALIDATION, len(validation)))),
        test=test,
        output=output,
        force=force,
        progress=progress,
        search_examples=128,
        epochs=1.0,
        learning_rate=2e-4,
    )
    tokenizer = load_tokenizer(MODEL_DIR)
    # Prose of middling length is easiest to read.
    text = min(test["text"], key=lambda t: (">>>" in t, abs(len(t.split()) - 60)))
    return result, explain(result.model.float(), tokenizer, text)
