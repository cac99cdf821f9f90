"""The stored report of a check, as what a later check compares with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..system.inputs import UnreadableError, read_json
from ..tasks import Task
from .comparable import label_names

__all__ = ["CHECK_VERSION", "Baseline"]

CHECK_VERSION = 1
"""Of the reports that checks write."""


@dataclass(frozen=True)
class Baseline:
    """The report of an earlier check, whose compressed model's answers stand for a model that isn't run."""

    path: str
    report: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Baseline:
        """Read a report; DataError where it is missing, damaged, or no report of a check."""
        repair = "write it anew with wordelim check ... --output"
        try:
            report = read_json(path, finite=True)
        except UnreadableError as error:
            raise DataError(f"The baseline report {path} {error}; {repair}.") from error
        if not isinstance(report, dict) or "wordelim_check" not in report:
            raise DataError(f"{path} is no report of wordelim check: {repair}.")
        if report["wordelim_check"] != CHECK_VERSION:
            raise DataError(
                f"The baseline report {path} has version {report['wordelim_check']!r}, which is unknown to this "
                f"wordelim: {repair}."
            )
        try:
            report["answers"]["compressed"], report["data"]["inputs"], ", ".join(report["labels"])
        except (KeyError, TypeError) as error:
            raise DataError(f"The baseline report {path} is damaged (a part is missing): {repair}.") from error
        return cls(str(path), report)

    def answers(self, inputs: str, task: Task, like: NDArray[Any]) -> NDArray[Any]:
        """The answers that it keeps, in the form of the answers `like`; DataError where they are to something else."""
        labels = label_names(task.config)
        if self.report["labels"] != labels:
            raise DataError(
                f"The baseline report {self.path} answers {', '.join(self.report['labels'])}, but the model "
                f"{', '.join(labels)}: compare two models with the same labels."
            )
        if self.report["data"]["inputs"] != inputs:
            raise DataError(
                f"The baseline report {self.path} was made on other texts or labels, with another tokenizer or another "
                "greatest length: check with the same data and options, or write it anew."
            )
        if self.report["answers"]["compressed"] is None:
            raise DataError(
                f"The baseline report {self.path} is of a model that answered with NaN or infinity: give the report of "
                "one that passed."
            )
        numbers = np.issubdtype(like.dtype, np.number)
        whole = np.issubdtype(like.dtype, np.integer)  # logits, where the metric takes those
        try:
            given = np.asarray(self.report["answers"]["compressed"], dtype=None if numbers else object)
            with np.errstate(invalid="ignore"):
                stored = given.astype(like.dtype)
        except (OverflowError, TypeError, ValueError):
            given = stored = np.empty(0)
        rounded = whole and not np.issubdtype(given.dtype, np.integer)
        classes = whole and task.kind == "single_label_classification" and bool(task.names)
        if (
            stored.shape != like.shape
            or rounded
            or (not np.isfinite(stored).all() if numbers else any(not isinstance(said, str) for said in given.flat))
            or (classes and not np.isin(stored, np.arange(len(task.names))).all())
        ):
            raise DataError(
                f"The baseline report {self.path} is damaged (its answers don't fit the data): write it anew with "
                "wordelim check ... --output."
            )
        return stored
