"""What of a batch the host knows before a card begins: where each text's rows lie in front of every layer.

How many word vectors stay is decided by lengths alone, so nothing has to come back from the card. Batches of like size
share a bucket, whose sizes are those of the buffers; what a batch doesn't fill of them is masked by its counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...retention import Retention

__all__ = ["BLOCK", "Bucket", "Stage", "numbers", "parts", "size_of", "stages"]

BLOCK = 64
"""Rows of a text that one program attends from; the longest text of a bucket is a multiple of them."""

Numbers: TypeAlias = NDArray[np.int32]
Array = TypeVar("Array", NDArray[np.int32], Tensor)


class Bucket(NamedTuple):
    """Sizes that batches are rounded up to; at most 8 in each octave, so that less than an eighth is waste.

    Args:
        texts: how many.
        tokens: rows of all texts together.
        longest: rows of the longest text.
        guarded: word vectors of all texts together that rules which name tokens protect.
    """

    texts: int
    tokens: int
    longest: int
    guarded: int = 0

    @classmethod
    def of(cls, lengths: Sequence[int], guarded: Sequence[int] | None = None) -> Bucket:
        """The smallest that holds texts of these lengths, with so many protected word vectors each."""
        longest = -(-max(lengths) // BLOCK) * BLOCK
        return cls(_up(len(lengths)), _up(sum(lengths)), longest, _up(sum(guarded or ())))


class Stage(NamedTuple):
    """What the buffers in front of a layer can hold.

    Args:
        rows: of all texts together.
        longest: of one text.
        dropped: whether the layer before may have dropped some.
    """

    rows: int
    longest: int
    dropped: bool


@lru_cache(maxsize=256)
def stages(retention: Retention, bucket: Bucket) -> tuple[Stage, ...]:
    """Sizes in front of each layer; behind the last is one row a text."""
    texts, tokens, longest, guarded = bucket
    table, least = _table(retention, longest), max(retention.min_tokens, retention.protected_first)
    found = [Stage(tokens, longest, False)]
    for layer in range(len(retention.keep) - 1):
        before, after = table[layer], table[layer + 1]
        most = int((after + (retention.package & (after < table[0]))).max())
        most = max(most, min(longest, guarded + retention.package)) if guarded else most
        keep = retention.keep[layer]
        # max(ceil(keep * n), least) <= keep * n + least, for least is at least 1.
        rows = int(keep * tokens) + texts * least if retention.kind == "fraction" else texts * max(int(keep), least)
        rows = min(tokens, texts * most, rows + guarded + texts * retention.package)
        dropped = bool((after < before).any())
        found.append(Stage(rows, most, True) if dropped else found[-1]._replace(dropped=False))
    return tuple(found)


def numbers(
    retention: Retention, bucket: Bucket, lengths: Sequence[int], guarded: Sequence[int] | None, width: int | None
) -> Numbers:
    """All that the card must know of a batch, as one array, in the order of :func:`parts`.

    Args:
        lengths: tokens of each text.
        guarded: how many of each are protected by rules that name tokens; None where no rule does.
        width: tokens of each padded text that enters, or None where texts lie one behind the other already.
    """
    own, layers = np.asarray(lengths, np.int64), len(retention.keep)
    table = _table(retention, bucket.longest)[:-1, own]
    if guarded is not None:
        table = np.minimum(own, np.maximum(table, np.asarray(guarded, np.int64)))
        table[0] = own
    result = np.zeros(size_of(bucket, layers), np.int32)
    found = parts(result, bucket, layers)
    for kept, ends, counts in zip(table, found.ends, found.kept, strict=False):
        counts[: len(own)] = kept
        np.cumsum(kept + (retention.package & (kept < own)), out=ends[1 : len(own) + 1])
        ends[len(own) + 1 :] = ends[len(own)]
    found.ends[-1][:] = np.minimum(np.arange(bucket.texts + 1), len(own))
    found.kept[-1][: len(own)] = 1
    total, starts = int(own.sum()), found.ends[0][: len(own)]
    ahead = 0 if width is None else np.repeat(np.arange(len(own)) * width - starts, own)
    found.source[:total] = np.arange(total) + ahead
    return result


class Parts(NamedTuple, Generic[Array]):
    """An array of :func:`numbers`, or a tensor of it, cut up.

    Args:
        ends: in front of each layer and behind the last, where each text begins and the last one ends, [texts + 1];
            texts that a batch doesn't have are empty.
        kept: there, how many of each text's rows are word vectors of its own, [texts]; a row more is its package.
        source: which row of the batch each row is that enters, [tokens].
    """

    ends: list[Array]
    kept: list[Array]
    source: Array


def parts(array: Array, bucket: Bucket, layers: int) -> Parts[Array]:
    """Views into an array of :func:`numbers`."""
    cuts = list(accumulate(_sizes(bucket, layers), initial=0))
    pieces = [array[start:end] for start, end in pairwise(cuts)]
    return Parts(pieces[:-1:2], pieces[1::2], pieces[-1])


def size_of(bucket: Bucket, layers: int) -> int:
    """How many numbers there are."""
    return sum(_sizes(bucket, layers))


def _sizes(bucket: Bucket, layers: int) -> list[int]:
    return [bucket.texts + 1, bucket.texts] * (layers + 1) + [bucket.tokens]


@lru_cache(maxsize=64)
def _table(retention: Retention, longest: int) -> NDArray[np.int64]:
    """Word vectors in front of each layer and behind the last, of a text of every length: [layers + 1, lengths]."""
    lengths = np.arange(longest + 1)
    least, rows = max(retention.min_tokens, retention.protected_first), [lengths]
    for keep in retention.keep:  # the rule of Retention.count, which never grows with depth
        wanted = np.ceil(keep * lengths - 1e-9) if retention.kind == "fraction" else np.full_like(lengths, keep)
        rows.append(np.minimum(lengths, np.maximum(wanted.astype(np.int64), least)))
    return np.stack(rows)


def _up(number: int) -> int:
    """The next of at most 8 numbers in each octave."""
    step = 1 << max(0, (number - 1).bit_length() - 4) if number else 1
    return -(-number // step) * step
