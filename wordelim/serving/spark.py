"""Spark: a function over columns of texts, whose model each Python worker loads once."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..checkpoint.directory import require_compressed
from ..errors import WordelimError
from ..tasks.embedding import embeds
from .bulk import Scorer

try:
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType, StringType, StructField, StructType
except ImportError as error:
    raise WordelimError("Spark isn't installed: pip install pyspark.") from error

__all__ = ["scorer"]


def scorer(
    directory: str | os.PathLike[str], *, pairs: bool = False, batch_size: int = 1024, speed: float | None = None
) -> Any:
    """A function over a column of texts, to a struct of what :class:`.bulk.Scorer` says: ``label`` and ``score``.

    Args:
        directory: a compressed directory, where the driver and each worker find it, or its hub name.
        pairs: over two columns of texts instead, which are one input.
        batch_size: rows that are handed over together.
        speed: one of those that the model was compressed for; None for the one that its config names.

    Raises:
        WordelimError: the directory can't be loaded, or isn't compressed.
    """
    answer = [StructField("label", StringType()), StructField("score", FloatType())]
    if embeds(require_compressed(directory)["architectures"][0]):
        answer = [StructField("embedding", ArrayType(FloatType()))]

    def make() -> Callable[..., dict[str, np.ndarray]]:
        loaded = Scorer(directory, speed=speed, device="cpu")
        return (lambda texts, others: loaded.score(texts, others)) if pairs else (lambda texts: loaded.score(texts))

    return predict_batch_udf(make, return_type=StructType(answer), batch_size=batch_size)
