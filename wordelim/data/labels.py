"""A data set's labels -> the numbers that the model's loss and its metrics take.

A column is read as a whole: either all of its values are names that the model knows, or all are ids. So a
column of "1".."5" for a model whose names are "1".."5" can't be half names and half ids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import datasets

from ..errors import DataError, RowError
from .cells import is_truth, items_of, number, plain, shown, whole
from .label_names import folded, names_of, require_names
from .problem import outputs_of, problem_type
from .usable import Unusable, each_row

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["encode_labels", "encode_names", "read_score"]


def encode_labels(
    values: Sequence[Any], config: PreTrainedConfig, *, feature: Any = None
) -> list[int] | list[float] | list[list[float]]:
    """Maps a column of labels to what the model is trained and measured on.

    Args:
        values: one label an example; see :mod:`wordelim.data.cells` for the forms of lists and numbers. Single-label: a
            name (exact, or in another case where that is unambiguous), or an id. Multi-label: a list of names or ids,
            or a 0/1 vector of `num_labels` values. Regression: a number, or a list of them where there are several
            outputs.
        config: the model's configuration; `problem_type` and the label names decide.
        feature: the column's `datasets` feature. A ClassLabel is mapped by its names where the model knows
            them, else by id.

    Returns:
        Class ids (single-label), floats (regression; lists of `num_labels` floats where there are several
        outputs) or 0/1 float vectors of `num_labels` values (multi-label).

    Raises:
        RowError: missing, unknown or ambiguous labels, or scores that are no finite numbers.
        DataError: names and ids can't be told apart.
        UnsupportedModelError: the model's names contradict each other; see :func:`require_names`.
    """
    given = each_row(_there, values)
    kind, outputs = problem_type(config), outputs_of(config)
    if kind == "regression":
        return each_row(read_score, given) if outputs == 1 else each_row(partial(_scores, outputs=outputs), given)
    if kind == "multi_label_classification":
        return _vectors(given, config, feature)
    return [index for (index,) in encode_names([[value] for value in given], config, feature=feature)]


def _there(value: Any) -> Any:
    value = plain(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise Unusable(f"has no label: the value is {value!r}; give it one or leave the row out (--skip-bad-rows).")
    return value


def read_score(value: Any, repair: str = "set problem_type in the model's config.json") -> float:
    """The finite number that a label is, alone in its cell or in a list of one; Unusable where it is none."""
    items = items_of(value)
    found = number(items[0] if items is not None and len(items) == 1 else value)
    if found is None:
        raise Unusable(
            f"has the label {shown(value)}, which is no finite number, but the model predicts a score: correct it, "
            f"choose the column with --label, or {repair}."
        )
    return found


def encode_names(rows: Sequence[Sequence[Any]], config: PreTrainedConfig, *, feature: Any = None) -> list[list[int]]:
    """Class ids of the labels of each row, which may be several or none.

    Args:
        rows: names (exact, or in another case where that is unambiguous) or ids, all of one kind.
        feature: of one label; see :func:`encode_labels`.

    Raises:
        RowError: unknown labels, or ids among names.
        DataError: names and ids can't be told apart.
        UnsupportedModelError: the model's names contradict each other; see :func:`require_names`.
    """
    require_names(config)
    if isinstance(feature, datasets.ClassLabel):
        by_class = _ids_by_class(rows, config, feature.names)
        if by_class is not None:
            return by_class
    read = _reader(config)
    both = [[read(label) for label in row] for row in rows]
    named, numbered = ([[pair[way] for pair in row] for row in both] for way in (0, 1))
    if _is_whole(named) and _is_whole(numbered) and named != numbered:
        raise DataError(
            f"The labels can be read as names ({_known(config)}) and as ids of the model, with different "
            "results; write names that are no numbers into the data and into the model's label2id."
        )
    for found in (named, numbered):
        if _is_whole(found):
            return found  # type: ignore[return-value]
    bad = {}
    for number_, (row, pairs) in enumerate(zip(rows, both, strict=True), 1):
        unknown = [label for label, pair in zip(row, pairs, strict=True) if pair == (None, None)]
        if unknown:
            hint = "; test splits of public sets often carry -1 for all labels" if str(unknown[0]) == "-1" else ""
            bad[number_] = (
                f"has the label {shown(unknown[0])}, which the model doesn't know: its labels are {_known(config)} "
                f"(or their ids){hint}."
            )
    if bad:
        raise RowError(bad)
    flat = [pair for pairs in both for pair in pairs]
    ids = sum(pair[0] is None for pair in flat)
    way, other = ("an id", "names") if 2 * ids <= len(flat) else ("a name", "ids")
    for number_, (row, pairs) in enumerate(zip(rows, both, strict=True), 1):
        odd = [label for label, pair in zip(row, pairs, strict=True) if pair[other == "ids"] is None]
        if odd:
            bad[number_] = (
                f"has {way} as its label, {shown(odd[0])}, where others have {other}: write all of them as names "
                f"({_known(config)})."
            )
    raise RowError(bad)


def _is_whole(found: Sequence[Sequence[int | None]]) -> bool:
    return all(index is not None for row in found for index in row)


def _reader(config: PreTrainedConfig) -> Callable[[Any], tuple[int | None, int | None]]:
    """A function from a label to the id of its name, and to the id that it is itself; None where it is neither."""
    lookup, outputs = _lookup(names_of(config)), outputs_of(config)
    known: dict[Any, tuple[int | None, int | None]] = {}

    def read(label: Any) -> tuple[int | None, int | None]:
        key = (type(label), label if isinstance(label, Hashable) else shown(label))
        if key not in known:
            name, index = lookup(label), None if isinstance(label, (list, tuple)) else whole(label)
            if index not in range(outputs) or (is_truth(label) and name is not None):  # names ("true", "false")
                index = None
            known[key] = (name, index)
        return known[key]

    return read


def _lookup(names: dict[str, int]) -> Callable[[Any], int | None]:
    """A function from a label to the id of its name: the exact one, else the only one in another case, else the only
    one that is the same number."""
    of_folded: dict[str, set[int]] = {}
    numbers: dict[float, set[int]] = {}
    for name, index in names.items():
        of_folded.setdefault(folded(name), set()).add(index)
        if not is_truth(name) and (value := number(name)) is not None:
            numbers.setdefault(value, set()).add(index)

    def lookup(label: Any) -> int | None:
        text = str(label)
        if text in names:
            return names[text]
        candidates = of_folded.get(folded(text), set())
        if not candidates and not is_truth(label) and (value := number(label)) is not None:
            candidates = numbers.get(value, set())
        return next(iter(candidates)) if len(candidates) == 1 else None

    return lookup


def _ids_by_class(
    rows: Sequence[Sequence[Any]], config: PreTrainedConfig, classes: Sequence[str]
) -> list[list[int]] | None:
    """The model's ids for labels that are ids of classes, by their names; None where the model knows none of them."""
    each_row(partial(_require_classes, classes=classes), rows)
    lookup = _lookup(names_of(config))
    ids = {label: lookup(classes[label]) for row in rows for label in row}
    unknown = {label for label, index in ids.items() if index is None}
    if len(unknown) == len(ids):
        return None

    def known(row: Sequence[int]) -> list[int]:
        for label in row:
            if label in unknown:
                raise Unusable(
                    f"has the class {classes[label]!r}, which the model doesn't know, beside others that it does: its "
                    f"labels are {_known(config)}; rename the classes, or cast the column to ids."
                )
        return [index for label in row if (index := ids[label]) is not None]

    return each_row(known, rows)


def _require_classes(row: Sequence[Any], classes: Sequence[str]) -> None:
    for label in row:
        if not isinstance(label, int) or not 0 <= label < len(classes):
            raise Unusable(
                f"has the label {shown(label)}, which is no class of its column ({', '.join(classes)}); test splits of "
                "public sets often carry -1 for all labels."
            )


def _scores(value: Any, outputs: int) -> list[float]:
    items = items_of(value)
    if items is None or len(items) != outputs:
        raise Unusable(f"has the label {shown(value)}, but the model predicts {outputs} numbers an example.")
    return [read_score(item) for item in items]


def _vectors(values: Sequence[Any], config: PreTrainedConfig, feature: Any) -> list[list[float]]:
    """0/1 vectors of `num_labels` floats from lists of names or ids, or from such vectors."""
    count = outputs_of(config)
    lists = each_row(_labels_in, values)
    if count == 1 and all(len(items) == 1 and whole(items[0]) in (0, 1) for items in lists):
        return [[float(whole(items[0]) or 0)] for items in lists]
    if all(len(items) == count and all(whole(item) in (0, 1) for item in items) for items in lists) and not (
        {"0", "1"} & {*names_of(config)}
    ):
        require_names(config)
        return [[float(whole(item) or 0) for item in items] for items in lists]
    chosen = encode_names(lists, config, feature=getattr(feature, "feature", None))
    return [[float(index in ids) for index in range(count)] for ids in chosen]


def _labels_in(value: Any) -> list[Any]:
    items = items_of(value)
    if items is None and isinstance(value, str) and not value.strip():
        raise Unusable("has no label: write [] where a text has none.")
    return [value] if items is None else items


def _known(config: PreTrainedConfig) -> str:
    """The model's label names in the order of their ids, shortened where there are many."""
    names = names_of(config)
    ordered = sorted(names, key=lambda name: (names[name], name))
    shown = ", ".join(ordered[:12])
    return shown if len(ordered) <= 12 else f"{shown} and {len(ordered) - 12} more"
