"""Rows of labelled text -> the inputs of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from ..errors import DataError, RowError
from .cells import shown, whole
from .columns import Columns, _each
from .labels import encode_labels
from .usable import Unusable, each_row

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "INPUTS",
    "Encoded",
    "column_values",
    "encode",
    "labels_of",
    "length_limit",
    "lengths_of",
    "sequences_of",
    "texts_in",
    "tokenize",
    "usable_positions",
]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Columns of an encoded data set that are a model's inputs."""
# About how many bars a histogram of lengths has.
_BARS = 30


@dataclass(frozen=True)
class Encoded:
    """Model inputs, unpadded.

    Attributes:
        dataset: `input_ids`, `attention_mask`, `token_type_ids` where tokenizer and model have them, `labels` where a
            label column was given, and `length`; rows in the order of the source. Where an example is several sequences
            (a choice, or two texts to compare), its inputs are lists of them, `lengths` their lengths and `length` the
            sum.
        truncated: how many sequences were cut.
        lengths: tokens of each sequence after the cut, special tokens included.
    """

    dataset: datasets.Dataset
    truncated: int
    lengths: list[int]

    @property
    def spread(self) -> dict[str, Any]:
        """Mean, median, 95th percentile and maximum of the lengths, and their histogram."""
        lengths = np.asarray(self.lengths)
        width = max(1, -(-int(lengths.max()) // _BARS))
        edges = list(range(0, int(lengths.max()) + width + 1, width))
        return {
            "mean": round(float(lengths.mean()), 1),
            "median": int(np.median(lengths)),
            "p95": int(np.quantile(lengths, 0.95)),
            "max": int(lengths.max()),
            "histogram": {"edges": edges, "counts": np.histogram(lengths, edges)[0].tolist()},
        }


def lengths_of(encoded: datasets.Dataset) -> list[int]:
    """Tokens of each sequence of encoded examples, in their order."""
    if "lengths" in encoded.column_names:
        return [length for row in encoded["lengths"] for length in row]
    return list(encoded["length"])


def sequences_of(encoded: datasets.Dataset) -> datasets.Dataset:
    """Encoded examples as single sequences, a row each, which is what is timed; the same data set where they are."""
    if "lengths" not in encoded.column_names:
        return encoded
    names = [name for name in encoded.column_names if name in INPUTS]
    flat = {name: [values for row in encoded[name] for values in row] for name in names}
    return datasets.Dataset.from_dict({**flat, "length": lengths_of(encoded)})


# --- encoding ---------------------------------------------------------------------------------------------


def usable_positions(config: PreTrainedConfig) -> int | None:
    """How many tokens the model has positions for, special tokens included; None where it sets no limit.

    RoBERTa and its kin number positions from `pad_token_id + 1`, so a table of 514 rows serves 512 tokens.
    """
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    from wordelim.adapters import find_family

    family = find_family(config.model_type)
    if family is not None and family.positions_after_padding:
        return positions - int(config.pad_token_id) - 1
    return positions


def encode(
    dataset: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    columns: Columns,
    config: PreTrainedConfig,
    *,
    max_length: int | None = None,
) -> Encoded:
    """Tokenizes texts and maps labels (see `wordelim.data.labels.encode_labels`), without padding.

    Args:
        max_length: tokens that an example may have, special tokens included; longer ones are cut, pairs by the
            tokenizer's own strategy (the longer text first). None: as many as tokenizer and model allow.

    Raises:
        RowError: texts that are missing, blank, no strings or special tokens alone (the second text of a pair may be
            blank), or labels that don't fit the model.
        DataError: a `max_length` that can't be served.
    """
    texts = texts_in(dataset, columns.text, "--text", blank_allowed=False)
    pairs = texts_in(dataset, columns.text_pair, "--text-pair", blank_allowed=True) if columns.text_pair else None
    labels = None
    if columns.label is not None:
        feature = None if isinstance(columns.label, tuple) else dataset.features[columns.label]
        labels = list(encode_labels(labels_of(dataset, columns.label), config, feature=feature))
    return tokenize(texts, pairs, tokenizer, config, max_length=max_length, labels=labels)


def tokenize(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    config: PreTrainedConfig,
    *,
    max_length: int | None = None,
    labels: Sequence[Any] | None = None,
) -> Encoded:
    """Texts, or pairs of them, as the model takes them, beside labels that are encoded already; see `encode`.

    Raises:
        RowError: texts of special tokens alone.
        DataError: a `max_length` that can't be served.
    """
    limit = length_limit(tokenizer, config, max_length, pair=pairs is not None)
    names = ["input_ids", "attention_mask"]
    if getattr(config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    structural = _structural_ids(tokenizer)
    inputs: dict[str, list[Any]] = {}
    bad: dict[int, str] = {}
    truncated = 0
    options: dict[str, Any] = {"return_attention_mask": True, "verbose": False}
    for start in range(0, len(texts), 1000):
        batch = (texts[start : start + 1000], pairs[start : start + 1000] if pairs is not None else None)
        encoded = tokenizer(*batch, **options)
        longer = sum(len(ids) > limit for ids in encoded["input_ids"]) if limit is not None else 0
        if longer:
            truncated += longer
            encoded = tokenizer(*batch, truncation=True, max_length=limit, **options)
        for row, ids in enumerate(encoded["input_ids"], start + 1):
            if all(token in structural for token in ids):
                bad[row] = (
                    f"has a text of special tokens alone: {shown(texts[row - 1])}; put words in or leave the row out "
                    "(--skip-bad-rows)."
                )
        for name in names:
            if name in encoded:
                inputs.setdefault(name, []).extend(encoded[name])
    if bad:
        raise RowError(bad)
    lengths = [len(ids) for ids in inputs["input_ids"]]
    ordered = {name: inputs[name] for name in names if name in inputs}
    if labels is not None:
        ordered["labels"] = list(labels)
    return Encoded(datasets.Dataset.from_dict({**ordered, "length": lengths}), truncated, lengths)


def _structural_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that stand for no text. An unknown word is a word, and so is what a user made a special token."""
    names = ("pad", "cls", "sep", "bos", "eos", "mask")
    return {getattr(tokenizer, f"{name}_token_id") for name in names} - {tokenizer.unk_token_id, None}


def column_values(dataset: datasets.Dataset, column: str | Sequence[str]) -> list[Any]:
    """A column as plain Python values, whatever format the data set is set to; of several columns a list a row."""
    values: Mapping[str, list[Any]] = dataset.with_format(None).select_columns(list(_each(column)))[:]
    if isinstance(column, str):
        return values[column]
    return [list(row) for row in zip(*(values[name] for name in column), strict=True)]


def labels_of(dataset: datasets.Dataset, column: str | Sequence[str]) -> list[Any]:
    """The values of a label column; of several columns, which hold 0 or 1, a list of these a row.

    Raises:
        RowError: one of several columns holds something else.
    """
    values = column_values(dataset, column)
    if isinstance(column, str):
        return values

    def bits(cells: Sequence[Any]) -> list[int]:
        for name, cell in zip(column, cells, strict=True):
            if whole(cell) not in (0, 1):
                raise Unusable(
                    f"has {shown(cell)} in column {name!r}, but of several label columns each holds 0 or 1: correct it "
                    "or leave the row out (--skip-bad-rows)."
                )
        return [whole(cell) or 0 for cell in cells]

    return each_row(bits, values)


def texts_in(dataset: datasets.Dataset, column: str, option: str, *, blank_allowed: bool) -> list[str]:
    """A column of texts.

    Raises:
        RowError: rows that have none, or a blank one unless that is allowed.
        DataError: there are no rows.
    """
    if not len(dataset):
        raise DataError("The data set has no rows; it needs at least one.")

    def text_in(value: Any) -> str:
        if value is None:
            raise Unusable(f"has no text in column {column!r}; fill it in or leave the row out (--skip-bad-rows).")
        if not isinstance(value, str):
            raise Unusable(
                f"has no text but a {type(value).__name__} in column {column!r}: {shown(value)}; choose a column of "
                f"texts with {option}."
            )
        if not blank_allowed and not value.strip():
            raise Unusable(f"has a blank text in column {column!r}; fill it in or leave the row out (--skip-bad-rows).")
        return value

    return each_row(text_in, column_values(dataset, column))


def length_limit(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, max_length: int | None, *, pair: bool
) -> int | None:
    """`max_length` once it is checked, else the most that tokenizer and model allow; None is no limit."""
    positions = usable_positions(config)
    least = tokenizer.num_special_tokens_to_add(pair=pair) + (2 if pair else 1)
    if max_length is None:
        if tokenizer.model_max_length < least:
            raise DataError(
                f"The tokenizer's model_max_length is {tokenizer.model_max_length}, which leaves no room for text "
                "beside the special tokens: correct it in tokenizer_config.json, or give a --max-length."
            )
        known = [limit for limit in (tokenizer.model_max_length, positions) if limit is not None and limit < 10**9]
        return int(min(known)) if known else None
    if positions is not None and max_length > positions:
        raise DataError(
            f"A maximum length of {max_length} tokens is more than the {positions} that the model has positions for; "
            f"use --max-length {positions} or less."
        )
    if max_length < least:
        raise DataError(
            f"A maximum length of {max_length} tokens leaves no room for text beside the special tokens; "
            f"use --max-length {least} or more."
        )
    return max_length
