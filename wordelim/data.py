"""Rows of labelled text -> the inputs of a model; fingerprints and splits of data sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from .cells import shown, whole
from .errors import DataError, RowError
from .labels import encode_labels
from .rows import Skipped, Unusable, each_row

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "INPUTS",
    "Columns",
    "Encoded",
    "carve",
    "column_values",
    "describe",
    "encode",
    "find_columns",
    "fingerprint",
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

_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "context"),
    ("question", "passage"),
    ("query", "document"),
    ("query", "passage"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text", "text_pair"),
)
_TEXTS = ("text", "sentence", "review", "content")
# Looked for where none of these is there.
_MORE_PAIRS = (("sent1", "sent2"), ("question", "answer"))
_MORE_TEXTS = ("comment_text",)
_LABELS = ("label", "labels", "score", "target", "class", "gold_label", "similarity_score")

# Families that number positions from pad_token_id + 1, as RoBERTa does: the table's first rows stay unused.
_OFFSET_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"}
)


# About how many bars a histogram of lengths has.
_BARS = 30


@dataclass(frozen=True)
class Columns:
    """The columns of a data set that are used: `text_pair` is None for single texts, `label` where there is none.

    `choices` holds the answers to choose from, for a head that chooses. Several columns of `label` hold 0 or 1 each, in
    the order of the model's labels; several of `choices` one answer each.
    """

    text: str
    text_pair: str | None = None
    label: str | tuple[str, ...] | None = None
    choices: str | tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a report; ``choices`` only where there are some."""
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in given.items() if name != "choices" or value is not None}

    @property
    def used(self) -> list[str]:
        """Every name, in the order text, text pair, choices, label."""
        given = (self.text, self.text_pair, self.choices, self.label)
        return [name for names in given if names is not None for name in _each(names)]


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


# --- columns ----------------------------------------------------------------------------------------------


def find_columns(
    dataset: datasets.Dataset,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    need_label: bool = True,
) -> Columns:
    """Finds the columns of text and label: those named here, else those with a standard name, in any case.

    A `text` named without `text_pair` means single texts. Several columns of `label` are a sequence, or one text with
    commas. Without `need_label`, a missing label column gives `label` None.

    Raises:
        DataError: a named column doesn't exist, no standard name is there, or several may be the text.
    """
    existing = list(dataset.column_names)
    listed = ", ".join(repr(name) for name in existing)
    labels = _label_names(label, existing)
    for option, name in (("--text", text), ("--text-pair", text_pair), *(("--label", name) for name in labels)):
        if name is not None and name not in existing:
            raise DataError(f"There is no column {name!r} for {option}; the columns are {listed}.")
    named = [name for name in (text, text_pair, *labels) if name is not None]
    if len(set(named)) < len(named):
        raise DataError(f"--text, --text-pair and --label name one column twice ({', '.join(named)}); name each once.")
    standard = {name.casefold(): name for name in reversed(existing) if name not in named}
    found = labels[0] if len(labels) == 1 else tuple(labels) or None
    if label is None:
        found = next((standard[name] for name in _LABELS if name in standard), None)
    if found is None and need_label:
        raise DataError(f"No column has a standard label name; the columns are {listed}: name one with --label.")
    if text is None:
        choices = _text_choices(standard, text_pair)
        if not choices:
            raise DataError(
                f"No column has a standard text name; the columns are {listed}: name one with --text (and the second "
                "text of a pair with --text-pair)."
            )
        if len(choices) > 1:
            several = " or ".join("/".join(filter(None, choice)) for choice in choices)
            raise DataError(
                f"The text may be {several}; the columns are {listed}: choose with --text (and --text-pair for a pair)."
            )
        text, text_pair = choices[0]
    return Columns(text=text, text_pair=text_pair, label=found)


def _label_names(label: str | Sequence[str] | None, existing: Sequence[str]) -> list[str]:
    """The columns that a label option names."""
    if label is None or isinstance(label, str):
        if label is None or label in existing or "," not in label:
            return [] if label is None else [label]
        return [name.strip() for name in label.split(",")]
    return list(label)


def _each(names: str | Sequence[str]) -> Sequence[str]:
    return (names,) if isinstance(names, str) else names


def _text_choices(standard: dict[str, str], second: str | None) -> Sequence[tuple[str, str | None]]:
    """Every (text, text pair) there may be, one where there is no doubt, from lower-case names -> columns."""
    if second is not None:
        firsts = [*(a for a, b in (*_PAIRS, *_MORE_PAIRS) if b == second.casefold()), *_TEXTS, *_MORE_TEXTS]
        return [(standard[first], second) for first in firsts if first in standard][:1]
    pairs = [(standard[a], standard[b]) for a, b in _PAIRS if a in standard and b in standard]
    taken = {name for pair in pairs for name in pair}
    singles = [standard[name] for name in _TEXTS if name in standard and standard[name] not in taken]
    if not pairs and not singles:
        pairs = [(standard[a], standard[b]) for a, b in _MORE_PAIRS if a in standard and b in standard]
        singles = [standard[name] for name in _MORE_TEXTS if name in standard]
    return [*pairs, *((name, None) for name in singles)]


# --- encoding ---------------------------------------------------------------------------------------------


def usable_positions(config: PreTrainedConfig) -> int | None:
    """How many tokens the model has positions for, special tokens included; None where it sets no limit.

    RoBERTa and its kin number positions from `pad_token_id + 1`, so a table of 514 rows serves 512 tokens.
    """
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    if config.model_type in _OFFSET_POSITIONS:
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
    """Tokenizes texts and maps labels (see `wordelim.labels.encode_labels`), without padding.

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
    if max_length is None:
        known = [limit for limit in (tokenizer.model_max_length, positions) if limit is not None and limit < 10**9]
        return int(min(known)) if known else None
    if positions is not None and max_length > positions:
        raise DataError(
            f"A maximum length of {max_length} tokens is more than the {positions} that the model has positions for; "
            f"use --max-length {positions} or less."
        )
    least = tokenizer.num_special_tokens_to_add(pair=pair) + (2 if pair else 1)
    if max_length < least:
        raise DataError(
            f"A maximum length of {max_length} tokens leaves no room for text beside the special tokens; "
            f"use --max-length {least} or more."
        )
    return max_length


# --- whole data sets --------------------------------------------------------------------------------------


def fingerprint(dataset: datasets.Dataset, columns: Columns | None = None) -> str:
    """SHA-256 (hex) of the rows' content, in order: the same on every machine and in every run.

    Column names count, their order doesn't; nor does the form that the rows came in, as long as the values are the
    same. `columns` restricts it to the columns that are used.
    """
    names = sorted(columns.used if columns is not None else dataset.column_names)
    plain = dataset.with_format(None).select_columns(names)
    digest = hashlib.sha256(json.dumps(names).encode())
    for start in range(0, len(plain), 1000):
        batch = plain[start : start + 1000]
        for row in zip(*(batch[name] for name in names), strict=True):
            digest.update(b"\n" + json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def describe(
    dataset: datasets.Dataset, columns: Columns, encoded: Encoded, skipped: Skipped | None = None
) -> dict[str, Any]:
    """What a report says of the data that something was measured on, as plain data; ``skipped`` where rows were."""
    return {
        "columns": columns.to_dict(),
        "examples": len(dataset),
        "truncated": encoded.truncated,
        "fingerprint": fingerprint(dataset, columns),
        **(skipped.to_dict() if skipped is not None else {}),
    }


def carve(
    dataset: datasets.Dataset, amount: int | float, seed: int, *, label: str | None = None
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Sets a random part aside: `(rest, carved)`.

    Each label keeps its share in both parts, to within one example. `rest` stays in the order of the data set;
    `carved` is shuffled, so that its first rows are a random sample too. The same arguments give the same parts.

    Args:
        amount: how many examples to carve (an int), or their fraction (a float between 0 and 1).
        label: the column to stratify by; None means "labels" or another standard name, where there is one.

    Raises:
        DataError: either part would be empty, or there is no column `label`.
    """
    total = len(dataset)
    wanted = amount if isinstance(amount, int) else round(amount * total)
    if not 0 < wanted < total:
        raise DataError(
            f"{amount} of {total} examples can't be set aside; use a number from 1 to {total - 1}, or a fraction "
            "between 0 and 1."
        )
    if label is not None and label not in dataset.column_names:
        listed = ", ".join(dataset.column_names)
        raise DataError(f"There is no column {label!r} to stratify by; the columns are {listed}.")
    if label is None:
        label = next((name for name in _LABELS if name in dataset.column_names), None)
    keys = (
        [""] * total if label is None else [json.dumps(value, default=str) for value in column_values(dataset, label)]
    )
    _, classes, counts = np.unique(np.array(keys), return_inverse=True, return_counts=True)
    random = np.random.default_rng(seed)
    quotas = counts * wanted / total
    shares = np.floor(quotas).astype(int)
    by_remainder = np.lexsort((random.random(len(counts)), shares - quotas))  # ties fall at random
    shares[by_remainder[: wanted - shares.sum()]] += 1
    order = random.permutation(total)
    grouped = order[np.argsort(classes[order], kind="stable")]  # class by class, at random within each
    starts = np.cumsum(counts) - counts
    carved = np.concatenate([grouped[a : a + n] for a, n in zip(starts, shares, strict=True)])
    random.shuffle(carved)
    rest = np.setdiff1d(np.arange(total), carved)
    return dataset.select(rest.tolist()), dataset.select(carved.tolist())
