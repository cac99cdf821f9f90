"""Many texts at once, in columns: what Ray Data and Spark call in each of their processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
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
        if not isinstance(prefix, str):
            raise DataError(f"prefix is {short(prefix)}: give what the new columns' names are to begin with, or ''.")
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
        answers = ("label", "score") if self._size is None else ("embedding",)
        names = {answer: f"{self._prefix}{answer}" for answer in answers}
        taken = next((name for name in names.values() if name in batch), None)
        if taken is not None:
            raise DataError(f"There is a column {taken!r} already: give a prefix for the new ones, such as 'said_'.")
        said = self.score(*(batch[name] for name in self._names))
        return {**batch, **{names[answer]: column for answer, column in said.items()}}

    def score(self, *columns: Any) -> dict[str, np.ndarray]:
        """The columns of the answers, [texts] or [texts, size], to a column of texts, or to two where it takes pairs.

        Raises:
            AnswersError, DataError: as when it is called.
        """
        if len(columns) != len(self._names):
            raise DataError(f"{len(columns)} columns of texts are given: give {len(self._names)}.")
        read = [_texts(column, name) for column, name in zip(columns, self._names, strict=True)]
        if len({len(texts) for texts in read}) > 1:
            raise DataError(f"The columns have {' and '.join(str(len(texts)) for texts in read)} rows: give as many.")
        parts = list(zip(*read, strict=True))
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
    way = next((getattr(column, way) for way in ("to_pylist", "tolist") if hasattr(column, way)), None)
    values = None if way is None else way()
    if (
        way is None
        and isinstance(column, Iterable)
        and not (isinstance(column, (str, bytes)) or hasattr(column, "keys"))
    ):
        values = list(column)
    if not isinstance(values, list):
        raise DataError(f"The column {name!r} is {short(column)}: give one list of texts.")
    return [_text(value, name, number) for number, value in enumerate(values, 1)]


def _text(value: Any, name: str, number: int) -> str | None:
    if isinstance(value, str):
        if not is_unicode(value):
            raise DataError(f"Row {number} has half a character in column {name!r}: write the text anew, as UTF-8.")
        return str(value)
    missing = isinstance(value, (float, np.floating)) and bool(np.isnan(value))
    if value is None or missing or type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise DataError(f"Row {number} has {short(value)} in column {name!r}, a {type(value).__name__}: give texts.")
