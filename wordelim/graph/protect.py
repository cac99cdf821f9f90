"""Rules that say which word vectors are never dropped, made ready for a retention."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..data.encode import lengths_of, sequences_of
from ..elimination.protect import protected_rows
from ..errors import RetentionError
from ..retention import Retention
from ..system.inputs import UnreadableError, read_text
from ..system.printable import bare_name
from .cost import Text

__all__ = ["bare_rules", "protect_rules", "sizes_in", "sizes_of"]

_BATCH = 512


def protect_rules(rules: Iterable[str], tokenizer: Any) -> tuple[str, ...]:
    """Turn rules that name words into such that name token ids, which a model directory can hold.

    Args:
        rules: any of ``"first"``, ``"first:N"``, ``"separators"`` (the separators of the tokenizer), ``"query"`` (the
            first text of a pair, with the separator behind it) and ``"words:FILE"`` (a list of words or phrases, one a
            line, that are never dropped where they stand).
        tokenizer: the model's own.

    Returns:
        Rules for :class:`wordelim.Retention`, ``"first"`` among them.

    Raises:
        RetentionError: a rule is unknown, the tokenizer has no separator, or the file can't be read or holds nothing.

    Example:
        >>> wordelim.protect_rules(["separators"], tokenizer)
        ('first', 'separators:3')
    """
    ready = ["first"]
    for rule in rules:
        name, colon, value = rule.partition(":")
        if name in ("separators", "query") and not colon:
            separator = tokenizer.sep_token_id
            if separator is None:
                raise RetentionError(f"protect rule {rule!r} needs a separator, but the tokenizer has no sep_token.")
            ready.append(f"{name}:{separator}")
        elif name == "words" and value:
            ready.append(f"tokens:{','.join(_sequences(Path(value).expanduser(), tokenizer))}")
        elif name == "first" and value:
            ready[0] = rule
        elif rule != "first":
            raise RetentionError(
                f"protect rule {rule!r} is unknown: use first, first:N, separators, query or words:FILE."
            )
    return tuple(ready)


def bare_rules(rules: Iterable[str]) -> list[str]:
    """Rules for a report: without where a file of words stands."""
    parts = [rule.partition(":") for rule in rules]
    return [f"{name}:{bare_name(value)}" if name == "words" else name + colon + value for name, colon, value in parts]


def sizes_of(encoded: datasets.Dataset, retention: Retention) -> list[Text]:
    """Tokens of each sequence of encoded examples, and where rules name tokens how many of them are never dropped."""
    lengths = lengths_of(encoded)
    if not retention.protects_by_token:
        return list(lengths)
    sizes: list[Text] = []
    ids = sequences_of(encoded)["input_ids"][:]
    for start in range(0, len(ids), _BATCH):
        batch = pad_sequence([torch.tensor(row) for row in ids[start : start + _BATCH]], batch_first=True)
        real = torch.arange(batch.shape[1]) < torch.tensor(lengths[start : start + _BATCH])[:, None]
        sizes += sizes_in(batch, real, retention)
    return sizes


def sizes_in(input_ids: Tensor, attention_mask: Tensor, retention: Retention) -> list[Text]:
    """The same of a batch, [batch, tokens] both."""
    lengths: list[int] = attention_mask.bool().sum(1).tolist()
    if not retention.protects_by_token:
        return list(lengths)
    protected: list[int] = protected_rows(retention.protect, input_ids, attention_mask).sum(1).tolist()
    return list(zip(lengths, protected, strict=True))


def _sequences(path: Path, tokenizer: Any) -> list[str]:
    """The token ids of each line, alone and behind a space, which are two things to some tokenizers."""
    try:
        lines = read_text(path).splitlines()
    except UnreadableError as error:
        raise RetentionError(
            f"The words of protect rule 'words:{path}' can't be read: the file {error}; name "
            "one with a word or phrase a line."
        ) from error
    found: dict[str, None] = {}
    for line in filter(None, map(str.strip, lines)):
        for text in (line, f" {line}"):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if not ids or tokenizer.unk_token_id in ids:
                raise RetentionError(f"The tokenizer doesn't know {reprlib.repr(line)} of {path}: leave it out.")
            found["-".join(map(str, ids))] = None
    if not found:
        raise RetentionError(f"{path} holds no words: give one a line.")
    return list(found)
