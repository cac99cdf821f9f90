"""Many texts at once, in columns: what Ray Data and Spark call in each of their processes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.cells import is_unicode
from ..errors import AnswersError, DataError, WordelimError
from ..system.printable import short
from .answers import Answers, require_served, together

__all__ = ["Scorer"]


class Scorer:
    """Adds to columns what a compressed model says of their texts: for Ray Data's ``map_batches``, datasets' ``map``.

    A classifier's answers are the columns ``label`` and ``score``, as transformers' pipeline gives them, an embedding
    model's the column ``embedding``. What is too long is cut. A row whose text is null or blank, or either text of its
    pair, gets no answer: the label is ``""``, the score NaN, the embedding of NaNs.

    Args:
        directory: compressed, or its hub name.
        text: name of the column of texts.
        text_pair: name of the column of second texts, of pairs.
        prefix: what the names of the new columns begin with.
        max_tokens: of all texts that are computed together, special ones and padding included.
        speed: one of those that the model was compressed for; None for the one that its config names.
        device: None for the accelerator that is there, else the processor.

    Raises:
        WordelimError: the directory can't be loaded, isn't compressed, or isn't served so; or an argument is none.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        text: str = "text",
        text_pair: str | None = None,
        *,
        prefix: str = "",
        max_tokens: int = 8192,
        speed: float | None = None,
        device: str | None = None,
    ) -> None:
        self._names = [text] if text_pair is None else [text, text_pair]
        for name in self._names:
            if not isinstance(name, str) or not name:
                raise DataError(f"A column's name is {short(name)}: name the column of the texts.")
        if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
            raise WordelimError(f"max_tokens is {short(max_tokens)}: give a whole number of at least 1.")
        require_served(directory, pairs=text_pair is not None, speed=speed)
        self._answers = Answers.of(directory, speed=speed, device=device)
        self._prefix, self._budget = prefix, max_tokens
        self._size = None  # of an embedding, which layers behind the encoder may change
        if self._answers.embedding is not None:
            self._size = len(self._answers.answer([self._answers.encode(("size", None))])[0])

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The columns [rows], and the answers'.

        Raises:
            AnswersError: an answer is NaN or infinity.
            DataError: a column is missing, isn't of texts, or stands where an answer's is to.
        """
        if not hasattr(batch, "keys"):
            kind = type(batch).__name__
            raise DataError(f"The batch is a {kind}: give columns by name, as batch_format='numpy' does.")
        for name in self._names:
            if name not in batch:
                raise DataError(f"There is no column {name!r}; the columns are {', '.join(map(str, batch))}.")
        said = self.score(*(batch[name] for name in self._names))
        found = {f"{self._prefix}{name}": column for name, column in said.items()}
        taken = next((name for name in found if name in batch), None)
        if taken is not None:
            raise DataError(f"There is a column {taken!r} already: give a prefix for the new ones, such as 'said_'.")
        return {**batch, **found}

    def score(self, *columns: Any) -> dict[str, np.ndarray]:
        """The columns of the answers, [texts] or [texts, size], to a column of texts or to two, of pairs."""
        parts = list(zip(*map(_texts, columns, self._names), strict=True))
        places = [place for place, texts in enumerate(parts) if all(text and text.strip() for text in texts)]
        rows = [
            self._answers.encode((texts[0], texts[1] if len(texts) > 1 else None), truncate=True)
            for texts in map(parts.__getitem__, places)
        ]
        found: dict[int, Any] = {}
        for batch in together([row.tokens for row in rows], self._budget):
            for number, answer in zip(batch, self._answers.answer([rows[number] for number in batch]), strict=True):
                if isinstance(answer, AnswersError):
                    raise answer
                found[places[number]] = answer
        if self._size is not None:
            embeddings = np.full((len(parts), self._size), np.nan, dtype=np.float32)
            for place, answer in found.items():
                embeddings[place] = answer
            return {"embedding": embeddings}
        said = [found.get(place, {"label": "", "score": np.nan}) for place in range(len(parts))]
        return {
            "label": np.array([one["label"] for one in said], dtype=object),
            "score": np.array([one["score"] for one in said], dtype=np.float32),
        }


def _texts(column: Any, name: str) -> list[str | None]:
    """The texts of a column of any library, None where there is none."""
    if isinstance(column, (str, bytes)):
        raise DataError(f"The column {name!r} is {short(column)}: give a list of texts.")
    values = next((getattr(column, way)() for way in ("to_pylist", "tolist") if hasattr(column, way)), list(column))
    return [_text(value, name, number) for number, value in enumerate(values, 1)]


def _text(value: Any, name: str, number: int) -> str | None:
    if isinstance(value, str):
        if not is_unicode(value):
            raise DataError(f"Row {number} has half a character in column {name!r}: write the text anew, as UTF-8.")
        return str(value)
    if value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType":
        return None
    raise DataError(f"Row {number} has {short(value)} in column {name!r}, a {type(value).__name__}: give texts.")
