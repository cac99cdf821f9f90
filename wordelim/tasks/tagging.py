"""Token classification: a tag for each word, such as named entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from ..data.cells import items_of, shown, words_of
from ..data.columns import Columns, find_columns
from ..data.encode import INPUTS, Encoded, column_values, length_limit
from ..data.label_names import names_of
from ..data.labels import encode_names
from ..data.usable import Unusable, each_row
from ..errors import DataError, WordelimError
from .metrics import Metric, f1_micro, mean
from .task import Array, Logits, Task, TextsOf, Worst
from .worst import worst_units

__all__ = ["Tagging", "has_words"]

# What a token has as its label that has none: a special token, or one that goes on with a word (transformers' own).
_NONE = -100
_TOKENS = ("tokens", "words")
_TAGS = ("tags", "ner_tags", "labels", "label")


def has_words(data: datasets.Dataset, text: str | None) -> bool:
    """Whether a data set's texts are lists of words, in the column of this name, or in one of the usual ones."""
    wanted = [text] if text else [name for name in data.column_names if name.casefold() in _TOKENS]
    return any(name in wanted and not isinstance(of, datasets.Value) for name, of in data.features.items())


class Tagging(Task):
    """The first token of each word answers for it; a unit is a sentence."""

    title = "token classification"
    pipeline_tag = "token-classification"
    kind = "tokens"

    @property
    def names(self) -> Sequence[str]:
        return [self._names.get(index, str(index)) for index in range(self.config.num_labels)]

    @property
    def _names(self) -> dict[int, str]:
        return {index: name for name, index in names_of(self.config).items()}

    def find_columns(self, data: datasets.Dataset, **names: Any) -> Columns:
        existing = {name.casefold(): name for name in reversed(data.column_names)}
        for name, usual in (("text", _TOKENS), ("label", _TAGS)):
            if names.get(name) is None:
                names[name] = next((existing[column] for column in usual if column in existing), None)
        found = find_columns(data, **names)
        if isinstance(found.label, tuple):
            raise DataError(
                f"The columns {', '.join(found.label)} can't all hold the tags: name one column of lists with --label."
            )
        if found.text_pair is not None:
            raise DataError(
                f"The text may be {found.text}/{found.text_pair}, but a tagger reads one text: name the column of "
                "words with --text."
            )
        return found

    def encode(self, data: datasets.Dataset, columns: Columns, *, max_length: int | None = None) -> Encoded:
        sentences = each_row(_words, column_values(data, columns.text))
        limit = length_limit(self.tokenizer, self.config, max_length, pair=False)
        assert not isinstance(columns.label, tuple)
        tags = None if columns.label is None else self._tags(data, columns.label, sentences)
        options: dict[str, Any] = {"is_split_into_words": True, "verbose": False}
        whole = self._tokenize(sentences, **options)
        lengths = [len(ids) for ids in whole["input_ids"]]
        truncated = 0 if limit is None else sum(length > limit for length in lengths)
        encoded = self._tokenize(sentences, truncation=True, max_length=limit, **options) if truncated else whole
        rows: dict[str, list[Any]] = {name: encoded[name] for name in INPUTS if name in encoded}
        if getattr(self.config, "type_vocab_size", 0) < 2:
            rows.pop("token_type_ids", None)
        if tags is not None:
            rows["labels"] = [
                [
                    _NONE if word is None or word == before else of[word]
                    for before, word in zip([None, *words], words, strict=False)
                ]
                for words, of in ((encoded.word_ids(row), of) for row, of in enumerate(tags))
            ]
        rows["length"] = [len(ids) for ids in rows["input_ids"]]
        return Encoded(datasets.Dataset.from_dict(rows), truncated, rows["length"])

    def _tokenize(self, sentences: Sequence[list[str]], **options: Any) -> Any:
        if not self.tokenizer.is_fast:
            raise DataError(
                "The tokenizer doesn't say which word a token is of: save a fast one beside the model (AutoTokenizer)."
            )
        try:
            return self.tokenizer(list(sentences), **options)
        except AssertionError as error:
            raise DataError(
                "The tokenizer takes no words: save it beside the model as the model was trained, with "
                "add_prefix_space=True."
            ) from error

    def _tags(self, data: datasets.Dataset, column: str, sentences: Sequence[list[str]]) -> list[list[int]]:
        tags = each_row(_tags, column_values(data, column), sentences)
        return encode_names(tags, self.config, feature=getattr(data.features[column], "feature", None))

    def require(self, encoded: datasets.Dataset, part: str) -> None:
        found = {tag for tags in encoded["labels"] for tag in tags if tag != _NONE}
        if part != "test" and len(found) < 2:
            raise DataError("All tags are the same: give sentences with every kind of tag that the model tells apart.")

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        batch = super().collate([{name: row[name] for name in INPUTS if name in row} for row in rows])
        if "labels" in rows[0]:
            width = batch["input_ids"].shape[1]
            padded = [[*row["labels"], *[_NONE] * (width - len(row["labels"]))] for row in rows]
            batch["labels"] = torch.tensor(padded)
        return batch

    def metrics(self) -> Mapping[str, Metric]:
        return {
            "f1": Metric("f1", parts=self._entities, finish=f1_micro),
            "accuracy": Metric("accuracy", parts=_same, finish=mean),
        }

    def _entities(self, truth: Array, answers: Array) -> Array:
        """Entities found rightly, found, and there, of each sentence: as seqeval counts them."""
        try:
            from seqeval.metrics.sequence_labeling import get_entities
        except ImportError as error:
            raise WordelimError("The F1 of entities needs seqeval: pip install 'wordelim[tagging]'.") from error
        names, parts = self._names, np.zeros((len(truth), 3), dtype=np.int64)
        for row, (right, said) in enumerate(zip(truth, answers, strict=True)):
            tagged = right != _NONE
            true, found = (set(get_entities([names[int(i)] for i in tags[tagged]])) for tags in (right, said))
            parts[row] = len(true & found), len(found), len(true)
        return parts

    def truth(self, encoded: datasets.Dataset) -> Array:
        labels = encoded["labels"]
        table = np.full((len(labels), max(map(len, labels))), _NONE)
        for row, tags in enumerate(labels):
            table[row, : len(tags)] = tags
        return table

    def answers(self, metric: Metric, logits: Array, encoded: datasets.Dataset) -> Array:
        truth = self.truth(encoded)
        known = np.nan_to_num(logits[:, : truth.shape[1]])  # behind the text
        return known if metric.of_logits else np.where(truth == _NONE, _NONE, known.argmax(-1))

    def decided(self, metric: Metric, answers: Array) -> Array:
        return answers.argmax(-1) if metric.of_logits else answers

    def worst(self, metric: Metric, logits: Logits, encoded: datasets.Dataset, texts_of: TextsOf) -> Worst:
        truth = self.truth(encoded)
        own = self.named_metric("accuracy")
        answers = [self.answers(own, each, encoded) for each in logits]
        shares = [mean(_same(truth, each)) for each in answers]
        said = [[self._said(*pair) for pair in zip(each, truth, strict=True)] for each in (truth, *answers)]
        return worst_units(shares, texts_of, said=said)

    def _said(self, tags: Array, truth: Array) -> str:
        """The tags other than the first, at the words that have them."""
        words = tags[truth != _NONE]
        found = [f"{word + 1}: {self._names[int(tag)]}" for word, tag in enumerate(words) if int(tag) != 0]
        return ", ".join(found) or self._names[0]

    def state(self, hidden_states: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        return hidden_states[inputs["attention_mask"].bool()]

    def shown(self, columns: Columns, row: Mapping[str, Any]) -> list[str]:
        return [" ".join(_words(row[columns.text]))]


def _words(value: Any) -> list[str]:
    words = words_of(value)
    if words is None:
        raise Unusable(f"has no list of words: {shown(value)}; give one, or a text with blanks between its words.")
    return words


def _tags(value: Any, words: Sequence[str]) -> list[Any]:
    items = items_of(value)
    tags = value.split() if items is None and isinstance(value, str) else items
    if not tags:
        raise Unusable(f"has no list of tags: {shown(value)}; give one, or a text with blanks between its tags.")
    if len(words) != len(tags):
        raise Unusable(f"has {len(words)} words, but {len(tags)} tags: give each word one tag.")
    return tags


def _same(truth: Array, answers: Array) -> Array:
    """Words tagged rightly, and words, of each sentence."""
    tagged = truth != _NONE
    return np.stack([((truth == answers) & tagged).sum(1), tagged.sum(1)], axis=1)
