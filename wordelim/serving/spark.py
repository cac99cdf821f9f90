"""Spark: a function over columns of texts, whose model each Python worker loads once."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import WordelimError
from ..system.printable import short
from .answers import require_served
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
        WordelimError: the directory can't be loaded, isn't compressed, or isn't served so; or `batch_size` is none.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise WordelimError(f"batch_size is {short(batch_size)}: give a whole number of at least 1.")
    answer = [StructField("label", StringType()), StructField("score", FloatType())]
    if require_served(directory, pairs=pairs, speed=speed):
        answer = [StructField("embedding", ArrayType(FloatType()))]

    def make() -> Callable[..., dict[str, np.ndarray]]:
        loaded = Scorer(directory, "the first", "the second" if pairs else None, speed=speed, device="cpu")

        def say(*columns: np.ndarray) -> dict[str, np.ndarray]:
            said = loaded.score(*columns)
            if "label" in said:
                said["label"] = np.array([label or None for label in said["label"]], dtype=object)
            return said

        return (lambda first, second: say(first, second)) if pairs else (lambda texts: say(texts))  # Spark counts them

    return predict_batch_udf(make, return_type=StructType(answer), batch_size=batch_size)
