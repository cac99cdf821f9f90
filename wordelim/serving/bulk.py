"""Many texts at once, in columns: what Ray Data and Spark call in each of their processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import AnswersError, DataError
from .answers import Answers, Row

__all__ = ["Scorer"]


class Scorer:
    """Adds to columns of texts what a compressed model says of them: for ``map_batches`` of Ray Data or datasets.

    A classifier's answers are the columns ``label`` and ``score``, as transformers' pipeline gives them, an embedding
    model's the column ``embedding``. What is too long is cut. A row whose text is null or blank, or either text of its
    pair, gets no answer: the label is None, the score NaN, the embedding of NaNs.

    Args:
        directory: compressed, or its hub name.
        text: name of the column of texts.
        text_pair: name of the column of second texts, of pairs.
        max_tokens: of all texts that are computed together, special ones included.
        speed: one of those that the model was compressed for; None for the one that its config names.
        device: None for the accelerator that is there, else the processor.

    Raises:
        WordelimError: the directory can't be loaded, isn't compressed, or its head isn't served.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        text: str = "text",
        text_pair: str | None = None,
        *,
        max_tokens: int = 8192,
        speed: float | None = None,
        device: str | None = None,
    ) -> None:
        self._answers = Answers.of(directory, speed=speed, device=device)
        self._text, self._pair, self._budget = text, text_pair, max_tokens
        self._size = None  # of an embedding, which layers behind the encoder may change
        if self._answers.embedding is not None:
            self._size = len(self._answers.answer([self._answers.encode(("size", None))])[0])

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The columns [rows], and the answers'; DataError where a column is missing, AnswersError where one is NaN."""
        names = [name for name in (self._text, self._pair) if name]
        for name in names:
            if name not in batch:
                raise DataError(f"There is no column {name!r}; the columns are {', '.join(batch)}.")
        return {**batch, **self.score(*(batch[name] for name in names))}

    def score(self, texts: Sequence[str | None], *pairs: Sequence[str | None]) -> dict[str, np.ndarray]:
        """The columns of the answers, [texts] or [texts, size], to texts or to pairs of them."""
        rows = {
            place: self._answers.encode((parts[0], parts[1] if pairs else None), truncate=True)
            for place, parts in enumerate(zip(texts, *pairs, strict=True))
            if all(isinstance(part, str) and part.strip() for part in parts)
        }
        found: dict[int, Any] = {}
        for places in _together({place: row.tokens for place, row in rows.items()}, self._budget):
            chosen: list[Row] = [rows[place] for place in places]
            found.update(zip(places, self._answers.answer(chosen), strict=True))
        for answer in found.values():
            if isinstance(answer, AnswersError):
                raise answer
        if self._size is not None:
            embeddings = np.full((len(texts), self._size), np.nan, dtype=np.float32)
            for place, answer in found.items():
                embeddings[place] = answer
            return {"embedding": embeddings}
        said = [found.get(place, {"label": None, "score": float("nan")}) for place in range(len(texts))]
        return {
            "label": np.array([one["label"] for one in said], dtype=object),
            "score": np.array([one["score"] for one in said], dtype=np.float32),
        }


def _together(tokens: Mapping[int, int], budget: int) -> Iterator[list[int]]:
    """Places of like length, the longest first, as many as the budget lets."""
    batch: list[int] = []
    left = budget
    for place in sorted(tokens, key=tokens.__getitem__, reverse=True):
        if batch and tokens[place] > left:
            yield batch
            batch, left = [], budget
        batch.append(place)
        left -= tokens[place]
    if batch:
        yield batch
