"""The examples on which a compressed model fell behind most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from ..data.problem import problem_type

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["worst_flips", "worst_units"]

Array = npt.NDArray[Any]

_SHOWN = 20
_LONGEST = 600


def worst_flips(
    config: PreTrainedConfig,
    dense: Array,
    compressed: Array,
    labels: Array,
    texts_of: Callable[[int], Sequence[str]],
) -> list[dict[str, Any]]:
    """Examples that were right and are wrong, the ones that lost most first; of scores, those that moved away most.

    Args:
        config: of either model, for the kind of problem and the names of its labels.
        dense, compressed: logits, [n, num_labels] or [n].
        labels: [n], or [n, num_labels].
        texts_of: from an example's index to its text, or both of a pair.

    Returns:
        For each its ``row``, counted from 1, ``texts`` (long ones cut), ``label``, what ``dense`` and ``compressed``
        said, and ``before`` and ``after``: the probability of the label (of several independent ones the product), or
        the distance of the score from it.
    """
    kind = problem_type(config)
    logits = [np.asarray(each, dtype=np.float64) for each in (dense, compressed)]
    if kind == "regression":
        shaped = [each.reshape(labels.shape) for each in logits]
        distance = [np.abs(each - labels).reshape(len(labels), -1).mean(1) for each in shaped]
        chosen = _most(distance[1] - distance[0], distance[1] > distance[0])
        said, measure = [[_score(row) for row in each] for each in (labels, *shaped)], distance
    elif kind == "multi_label_classification":
        chances = [np.where(labels == 1, expit(each), expit(-each)).prod(1) for each in logits]
        decided = [(each > 0).astype(int) for each in logits]
        right = [(each == labels).all(1) for each in decided]
        chosen = _most(chances[0] - chances[1], right[0] & ~right[1])
        said, measure = [[_names(config, row) for row in each] for each in (labels, *decided)], chances
    else:
        chances = [softmax(each, axis=1)[np.arange(len(labels)), labels] for each in logits]
        decided = [each.argmax(1) for each in logits]
        chosen = _most(chances[0] - chances[1], (decided[0] == labels) & (decided[1] != labels))
        said, measure = [[_name(config, int(i)) for i in each] for each in (labels, *decided)], chances
    return _shown(chosen, range(len(labels)), texts_of, said, measure)


def worst_units(
    quality: Sequence[Array],
    texts_of: Callable[[int], Sequence[str]],
    *,
    said: Sequence[Sequence[str]],
    among: Array | None = None,
    rows: Sequence[int] | Array | None = None,
) -> list[dict[str, Any]]:
    """The same of units whose answers are good or bad to a degree: those that lost most of it first.

    Args:
        quality: how good each unit's answer is, [units], above is better: the dense model's, the compressed one's.
        texts_of: from a unit to its texts.
        said: what is right, what the dense model said and what the compressed one said, of each unit.
        among: the units to look at, [units] bool; None for all.
        rows: the row of the data that each unit is shown with; None where units are rows.
    """
    lost = quality[0] - quality[1]
    chosen = _most(lost, (lost > 0) & (True if among is None else among))
    return _shown(chosen, range(len(lost)) if rows is None else rows, texts_of, said, quality)


def _shown(
    chosen: Sequence[int],
    rows: Sequence[int] | Array,
    texts_of: Callable[[int], Sequence[str]],
    said: Sequence[Sequence[str]],
    measure: Sequence[Array],
) -> list[dict[str, Any]]:
    return [
        {
            "row": int(rows[i]) + 1,
            "texts": [text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …" for text in texts_of(i)],
            **{name: answers[i] for name, answers in zip(("label", "dense", "compressed"), said, strict=True)},
            "before": round(float(measure[0][i]), 3),
            "after": round(float(measure[1][i]), 3),
        }
        for i in chosen
    ]


def _most(lost: Array, among: Array) -> list[int]:
    """Those ``among`` all, [n] bool, that lost most, first the one that lost most of all."""
    rows = np.flatnonzero(among)
    return [int(i) for i in rows[np.argsort(-lost[rows], kind="stable")][:_SHOWN]]


def _name(config: PreTrainedConfig, index: int) -> str:
    names: Any = config.id2label or {}
    return str(names.get(index, index))


def _names(config: PreTrainedConfig, row: Array) -> str:
    return ", ".join(_name(config, int(i)) for i in np.flatnonzero(row)) or "none"


def _score(value: Any) -> str:
    return ", ".join(f"{number:.3g}" for number in np.atleast_1d(value))
