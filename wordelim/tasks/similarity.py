"""Sentence embeddings, judged by how well their cosines, or what else compares them, order pairs of texts (STS)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch
from scipy.stats import rankdata
from tokenizers.normalizers import Lowercase
from torch import Tensor

from ..data.columns import Columns
from ..data.encode import INPUTS, Encoded, encode, labels_of, texts_in, usable_positions
from ..data.labels import read_score
from ..data.usable import each_row
from ..errors import DataError
from .embedding import Embedding
from .metrics import Metric, metrics_of
from .task import Logits, Task, TextsOf, Worst, flatten_rows
from .worst import worst_units

__all__ = ["Similarity"]


class Similarity(Task):
    """Each text of a pair is a sequence of its own; the student learns the teacher's embeddings, and no scores.

    Args:
        embedding: how the embedding is made.
    """

    title = "embeddings"
    pipeline_tag = "sentence-similarity"
    takes_metrics = False
    own_loss = True
    kind = "regression"
    names = ()

    def __init__(self, config: Any, tokenizer: Any, embedding: Embedding | None = None) -> None:
        super().__init__(config, tokenizer)
        self.embedding = embedding or Embedding()

    @property
    def reads_mean(self) -> bool:  # type: ignore[override]
        return self.embedding.pooling == "mean"

    def encode(self, data: datasets.Dataset, columns: Columns, *, max_length: int | None = None) -> Encoded:
        if max_length is None and self.embedding.max_length is not None:
            max_length = min(self.embedding.max_length, usable_positions(self.config) or self.embedding.max_length)
        if columns.text_pair is None and columns.label is None:
            return super().encode(self._as_read(data, columns.text), columns, max_length=max_length)
        if columns.text_pair is None:
            raise DataError("Embeddings are compared in pairs: name the columns with --text and --text-pair.")
        parts = [
            encode(self._as_read(data, name), self.tokenizer, Columns(name), self.config, max_length=max_length)
            for name in (columns.text, columns.text_pair)
        ]
        names = [name for name in INPUTS if name in parts[0].dataset.column_names]
        pairs = {name: zip(*(part.dataset[name] for part in parts), strict=True) for name in names}
        rows: dict[str, list[Any]] = {name: [list(pair) for pair in values] for name, values in pairs.items()}
        if columns.label is not None:
            repair = "give how similar the two texts are"
            rows["labels"] = each_row(partial(read_score, repair=repair), labels_of(data, columns.label))
        lengths = [list(pair) for pair in zip(*(part.lengths for part in parts), strict=True)]
        rows |= {"lengths": lengths, "length": [sum(pair) for pair in lengths]}
        flat = [length for pair in lengths for length in pair]
        return Encoded(datasets.Dataset.from_dict(rows), sum(part.truncated for part in parts), flat)

    def _as_read(self, data: datasets.Dataset, name: str) -> datasets.Dataset:
        """A column of texts as the model reads them; the data itself where that is as they are."""
        prompt, lower = self.embedding.prompt, self.embedding.lower_case
        if not (prompt or lower):
            return data
        texts = [prompt + text for text in texts_in(data, name, "--text", blank_allowed=False)]
        # By the tokenizers' own rule, which differs from Python's for a few letters.
        return datasets.Dataset.from_dict({name: list(map(Lowercase().normalize_str, texts)) if lower else texts})

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        nested = isinstance(rows[0]["input_ids"][0], Sequence)
        return self.pad(flatten_rows(rows) if nested else rows)

    def logits(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        found = self.embedding.of(output[0], inputs["attention_mask"])
        return self.embedding.compare(found[0::2], found[1::2])[:, None]

    def state(self, hidden_states: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.embedding.of(hidden_states, inputs["attention_mask"])

    def loss(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return torch.zeros((), device=output[0].device)

    def metrics(self) -> Mapping[str, Metric]:
        return metrics_of("regression", 1, partial(np.reshape, shape=-1))

    def worst(self, metric: Metric, logits: Logits, encoded: datasets.Dataset, texts_of: TextsOf) -> Worst:
        labels = self.truth(encoded)
        scores = [each.reshape(-1) for each in logits]
        ranks = [rankdata(each) / len(labels) for each in (labels, *scores)]
        said = [[f"{value:.3g}" for value in each] for each in (labels, *scores)]
        return worst_units([1 - np.abs(each - ranks[0]) for each in ranks[1:]], texts_of, said=said)
