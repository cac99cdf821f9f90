"""Labelled rows as a task's model reads them, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import datasets
import pyarrow.compute
from transformers import PreTrainedModel

from ..data.usable import Skipped
from ..errors import DataError, RowError
from ..system.printable import short

if TYPE_CHECKING:
    from ..data.columns import Columns
    from ..data.encode import Encoded
    from ..tasks import Task

__all__ = ["check_tokenizer", "check_vocabulary", "encode_usable"]


def encode_usable(
    task: Task,
    data: datasets.Dataset,
    columns: Columns,
    *,
    max_length: int | None,
    part: str | None = None,
    skipped: Skipped | None = None,
) -> tuple[datasets.Dataset, Encoded]:
    """Encode examples, without those that can't be used where these are to be left out.

    Args:
        part: ``train``, ``validation`` or ``test``, which :meth:`Task.require` is asked about; None asks nothing.
        skipped: takes the rows that are left out; None refuses them.

    Returns:
        The rows that were used, and their encoding.

    Raises:
        RowError: some rows can't be used, and ``skipped`` is None.
        DataError: no row can be used, or too few.
    """
    while True:  # each check names all its rows, so that this goes round no more often than there are checks
        try:
            encoded = task.encode(data, columns, max_length=max_length)
            if part is not None:
                task.require(encoded.dataset, part)
            return data, encoded
        except RowError as error:
            if skipped is None:
                raise
            data = skipped.leave_out(data, error.rows)


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse a tokenizer whose batches a compressed model can't take: DataError."""
    if getattr(tokenizer, "padding_side", "right") != "right":
        raise DataError(
            "The tokenizer pads on the left, but the head reads position 0: set padding_side to 'right' (in "
            "tokenizer_config.json)."
        )
    names = list(getattr(tokenizer, "model_input_names", ()) or ())
    if names[:1] != ["input_ids"] or "attention_mask" not in names:
        raise DataError(
            f"The tokenizer's model_input_names are {short(names)}, so that texts are padded without a mask: set them "
            'to ["input_ids", "attention_mask"] (in tokenizer_config.json).'
        )
    longest = getattr(tokenizer, "model_max_length", None)
    if longest is not None and not (isinstance(longest, (int, float)) and longest >= 1):
        raise DataError(
            f"The tokenizer's model_max_length is {short(longest)}: set it to a number of tokens (in "
            "tokenizer_config.json)."
        )
    if tokenizer.pad_token_id is None:
        raise DataError("The tokenizer has no padding token: give it the one that the model was trained with.")


def check_vocabulary(encoded: datasets.Dataset, model: PreTrainedModel) -> None:
    """Refuse token ids that the model doesn't know: DataError."""
    largest = pyarrow.compute.max(
        pyarrow.compute.list_flatten(encoded.data.column("input_ids"), recursive=True)
    ).as_py()
    known = model.get_input_embeddings().num_embeddings
    if largest >= known:
        raise DataError(
            f"The tokenizer gives the token id {largest}, but the model knows {known} tokens: use the tokenizer that "
            "the model was trained with."
        )
