"""Fingerprints and splits of whole data sets."""

from __future__ import annotations

import hashlib
import json

import datasets
import numpy as np

from ..errors import DataError
from .columns import LABELS, Columns
from .encode import column_values

__all__ = ["carve", "fingerprint"]


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
        label = next((name for name in LABELS if name in dataset.column_names), None)
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
