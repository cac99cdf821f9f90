"""Which columns hold the labels, where a text may have several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from ..data.cells import whole
from ..data.columns import Columns, find_columns
from ..data.encode import column_values
from ..data.label_names import folded
from ..errors import DataError

__all__ = ["find_label_columns"]

# Columns of these names hold all labels of a text, whatever other columns there are.
_ALL = ("label", "labels")


def find_label_columns(data: datasets.Dataset, config: Any, kind: str, names: Mapping[str, Any]) -> Columns:
    """The columns of texts and labels, where a text may have several labels or can't.

    Args:
        config: of the model, whose label names decide.
        kind: the problem type.
        names: as in :func:`wordelim.data.columns.find_columns`.

    Raises:
        DataError: there are several label columns where a text has one label, they don't stand for the labels of the
            model, or a column of 0 and 1 stands alone.
    """
    labels = [str(name) for _, name in sorted((config.id2label or {}).items())]
    several = kind == "multi_label_classification" and len(labels) > 1
    if several and names.get("label") is None:
        names = {**names, "label": _by_themselves(data, labels)}
    found = find_columns(data, **names)
    if isinstance(found.label, tuple):
        if not several:
            raise DataError(
                f"The columns {', '.join(found.label)} can't all be the label, for a text has no more than one here: "
                "name one column with --label."
            )
        return Columns(found.text, found.text_pair, _in_order(found.label, labels), found.choices)
    if several and found.label and all(whole(value) in (0, 1) for value in column_values(data, found.label)):
        raise DataError(
            f"The column {found.label!r} holds 0 and 1 alone, which says of one label at most whether a text has it, "
            f"but the model has {len(labels)}: name a column for each of them, as in --label "
            f"{','.join(labels[:3])}{',...' if len(labels) > 3 else ''}, or give lists of names or ids."
        )
    return found


def _by_themselves(data: datasets.Dataset, labels: Sequence[str]) -> tuple[str, ...] | None:
    existing = {folded(name): name for name in reversed(data.column_names)}
    if any(name in existing for name in _ALL) or not all(folded(label) in existing for label in labels):
        return None
    return tuple(existing[folded(label)] for label in labels)


def _in_order(columns: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """Label columns in the order of the model's labels: by their names, else as they are given."""
    by_name = {folded(name): name for name in columns}
    known = [by_name.get(folded(label)) for label in labels]
    if len(columns) == len(labels) and not any(known):
        return tuple(columns)
    missing = next((label for label, column in zip(labels, known, strict=True) if column is None), None)
    if missing is not None:
        raise DataError(
            f"None of the label columns {', '.join(columns)} is of the model's label {missing!r}: name a column for "
            f"each of its {len(labels)} labels with --label."
        )
    other = next((name for name in columns if folded(name) not in map(folded, labels)), None)
    if other is not None:
        raise DataError(
            f"The label column {other!r} is none of the model's labels ({', '.join(labels)}): leave it out."
        )
    return tuple(name for name in known if name is not None)
