"""A data set's labels -> the numbers that the model's loss and its metrics take.

A column is read as a whole: either all of its values are names that the model knows, or all are ids. So a
column of "1".."5" for a model whose names are "1".."5" can't be half names and half ids.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import datasets

from wordelim.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["ProblemType", "encode_labels", "names_of", "outputs_of", "problem_type"]

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]


def problem_type(config: PreTrainedConfig) -> ProblemType:
    """What the model's head predicts, in transformers' own words.

    `config.problem_type` where it is set, except that one output can't be a choice between classes; otherwise
    regression for one output and single-label classification for more.
    """
    stated = getattr(config, "problem_type", None)
    if stated == "multi_label_classification":
        return "multi_label_classification"
    if stated == "regression" or outputs_of(config) == 1:
        return "regression"
    return "single_label_classification"


def outputs_of(config: PreTrainedConfig) -> int:
    """How many logits the model gives an example."""
    return int(config.num_labels or 1)


def names_of(config: PreTrainedConfig) -> dict[str, int]:
    """Every label name that the model knows, with its id: `config.label2id`, completed by `config.id2label`."""
    names = {str(name): int(index) for name, index in (getattr(config, "label2id", None) or {}).items()}
    for index, name in (getattr(config, "id2label", None) or {}).items():
        names.setdefault(str(name), int(index))
    return names


def encode_labels(
    values: Sequence[Any], config: PreTrainedConfig, *, feature: Any = None
) -> list[int] | list[float] | list[list[float]]:
    """Maps a column of labels to what the model is trained and measured on.

    Args:
        values: one label an example. Single-label: a name (exact, or in another case where that is
            unambiguous), an id, or an id as text. Multi-label: a list of names or ids, a 0/1 vector of
            `num_labels` values, or either of them as JSON text. Regression: a number, or a number as text.
        config: the model's configuration; `problem_type` and the label names decide.
        feature: the column's `datasets` feature. A ClassLabel is mapped by its names where the model knows
            them, else by id.

    Returns:
        Class ids (single-label), floats (regression; lists of `num_labels` floats where there are several
        outputs) or 0/1 float vectors of `num_labels` values (multi-label).

    Raises:
        DataError: a missing, unknown or ambiguous label, or a score that is not a finite number; rows count
            from 1.
    """
    for row, value in enumerate(values, 1):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise DataError(f"Row {row} has no label: the value is {value!r}; give it one or leave the row out.")
    kind = problem_type(config)
    if kind == "regression":
        return _scores(values, outputs_of(config))
    if kind == "multi_label_classification":
        return _vectors(values, config, feature)
    rows = range(1, len(values) + 1)
    return _ids(values, rows, config, feature)


def _ids(labels: Sequence[Any], rows: Sequence[int], config: PreTrainedConfig, feature: Any) -> list[int]:
    """Class ids of `labels`; `rows[i]` is the row that `labels[i]` stands in."""
    lookup = _lookup(names_of(config))
    if isinstance(feature, datasets.ClassLabel):
        by_class = _ids_by_class(labels, rows, config, feature.names)
        if by_class is not None:
            return by_class
    named = [lookup(label) for label in labels]
    numbered = [_as_id(label, outputs_of(config)) for label in labels]
    by_name = [index for index in named if index is not None]
    by_number = [index for index in numbered if index is not None]
    if len(by_name) == len(labels) == len(by_number) and by_name != by_number:
        raise DataError(
            f"The labels can be read as names ({_known(config)}) and as ids of the model, with different "
            "results; write names that are no numbers into the data and into the model's label2id."
        )
    if len(by_name) == len(labels):
        return by_name
    if len(by_number) == len(labels):
        return by_number
    for row, label, name, number in zip(rows, labels, named, numbered, strict=True):
        if name is None and number is None:
            hint = "; test splits of public sets often carry -1 for all labels" if str(label) == "-1" else ""
            raise DataError(
                f"Row {row} has the label {label!r}, which the model doesn't know: its labels are "
                f"{_known(config)} (or their ids){hint}."
            )
    row, label = next((row, label) for row, label, name in zip(rows, labels, named, strict=True) if name is None)
    raise DataError(
        f"The labels mix names and ids: row {row} has {label!r}, others have names; write all of them as "
        f"names ({_known(config)})."
    )


def _lookup(names: dict[str, int]) -> Callable[[Any], int | None]:
    """A function from a label to the id of its name: the exact one, else the only one in another case."""
    folded: dict[str, set[int]] = {}
    for name, index in names.items():
        folded.setdefault(name.strip().casefold(), set()).add(index)

    def lookup(label: Any) -> int | None:
        text = str(int(label) if isinstance(label, float) and label.is_integer() else label)
        if text in names:
            return names[text]
        candidates = folded.get(text.strip().casefold(), set())
        return next(iter(candidates)) if len(candidates) == 1 else None

    return lookup


def _as_id(label: Any, num_labels: int) -> int | None:
    """The class id that a number, or a number as text, stands for; None where it stands for none."""
    if isinstance(label, str):
        text = label.strip()
        if not (text.isascii() and text.isdigit()):
            return None
        label = int(text)
    if not isinstance(label, (int, float)) or label != label or label not in range(num_labels):
        return None
    return int(label)


def _ids_by_class(
    labels: Sequence[int], rows: Sequence[int], config: PreTrainedConfig, classes: Sequence[str]
) -> list[int] | None:
    """The model's ids for a ClassLabel column by its class names; None where the model knows none of them."""
    lookup = _lookup(names_of(config))
    for row, label in zip(rows, labels, strict=True):
        if not 0 <= label < len(classes):
            raise DataError(
                f"Row {row} has the label {label}, which is no class of its column ({', '.join(classes)}); "
                "test splits of public sets often carry -1 for all labels."
            )
    ids = {label: lookup(classes[label]) for label in labels}
    unknown = [classes[label] for label, index in ids.items() if index is None]
    if len(unknown) == len(ids):
        return None
    if unknown:
        raise DataError(
            f"The label column has the class {unknown[0]!r}, which the model doesn't know, beside others "
            f"that it does: its labels are {_known(config)}; rename the classes, or cast the column to ids."
        )
    return [index for label in labels if (index := ids[label]) is not None]


def _scores(values: Sequence[Any], outputs: int) -> list[float] | list[list[float]]:
    """Floats of a regression head; vectors of `outputs` floats where it has several."""
    if outputs == 1:
        return [_score(value, row) for row, value in enumerate(values, 1)]
    vectors = []
    for row, value in enumerate(values, 1):
        value = _from_json(value)
        if not isinstance(value, (list, tuple)) or len(value) != outputs:
            raise DataError(f"Row {row} has the label {value!r}, but the model predicts {outputs} numbers an example.")
        vectors.append([_score(item, row) for item in value])
    return vectors


def _score(value: Any, row: int) -> float:
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    try:
        score = float(value)
    except (TypeError, ValueError):
        raise DataError(
            f"Row {row} has the label {value!r}, which is no number, but the model predicts a score; choose "
            "the column with --label, or set problem_type in the model's config.json."
        ) from None
    if not math.isfinite(score):
        raise DataError(f"Row {row} has the label {value!r}, which is not a finite number; correct or drop the row.")
    return score


def _vectors(values: Sequence[Any], config: PreTrainedConfig, feature: Any) -> list[list[float]]:
    """0/1 vectors of `num_labels` floats from lists of names or ids, or from such vectors."""
    count = outputs_of(config)
    lists: list[list[Any]] = []
    for value in values:
        value = _from_json(value)
        if isinstance(value, str):
            value = [value] if value.strip() else []
        lists.append(list(value) if isinstance(value, (list, tuple)) else [value])
    if all(len(items) == count and all(_is_bit(item) for item in items) for items in lists):
        return [[float(item) for item in items] for items in lists]
    rows = [row for row, items in enumerate(lists, 1) for _ in items]
    flat = [item for items in lists for item in items]
    ids = iter(_ids(flat, rows, config, getattr(feature, "feature", None)))
    vectors = []
    for items in lists:
        chosen = {next(ids) for _ in items}
        vectors.append([float(index in chosen) for index in range(count)])
    return vectors


def _is_bit(item: Any) -> bool:
    return isinstance(item, (int, float)) and item in (0, 1)


def _from_json(value: Any) -> Any:
    """A list that stands in a text cell as JSON, such as '["joy", "anger"]'; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _known(config: PreTrainedConfig) -> str:
    """The model's label names in the order of their ids, shortened where there are many."""
    names = names_of(config)
    ordered = sorted(names, key=lambda name: (names[name], name))
    shown = ", ".join(ordered[:12])
    return shown if len(ordered) <= 12 else f"{shown} and {len(ordered) - 12} more"
