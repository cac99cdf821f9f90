"""What the dense model says of training texts: computed once, and looked up from then on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..system.machine import has_fast_bf16
from ..system.processes import processes
from ..tasks import Task, ask, batches

__all__ = ["ASKING", "ROW", "LastHiddenState", "Said", "Teacher"]

ASKING = "asking the dense model"
"""The stage in which texts are noted."""
ROW = "row"
"""Column of training texts that says which of the noted ones each is."""

# Bytes that may be noted; of more, each text is asked about whenever it is met.
_MOST = 4 << 30
_TOGETHER = 32


class Said(NamedTuple):
    """What a model says of a batch.

    Args:
        logits: fp32 [batch, outputs], or [batch, tokens, outputs] where it answers for each token.
        state: fp32, what of its last hidden states the head reads: see :meth:`.Task.state`.
    """

    logits: Tensor
    state: Tensor


class LastHiddenState:
    """Remembers the last hidden states [sequences, tokens, width] of each forward pass of a model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.value = torch.empty(0)
        self.hook = model.base_model.register_forward_hook(self._remember)

    def _remember(self, module: nn.Module, args: Any, output: Any) -> None:
        self.value = output[0]


class _Noted(NamedTuple):
    """What was said of all texts, one row of ``logits`` and some of ``states`` behind the other.

    Args:
        logits: [rows, outputs]: a row for each text, or for each of its tokens.
        states: [rows, width].
        starts: where those of each text begin, in both; at last where they end.
    """

    logits: NDArray[np.float32]
    states: NDArray[np.float32]
    starts: tuple[NDArray[np.int64], NDArray[np.int64]]

    def of(self, texts: list[int], width: int | None) -> Said:
        """Of some texts, with the tokens padded to ``width`` where each is answered for."""
        logits, states = (
            [torch.from_numpy(rows[starts[text] : starts[text + 1]]) for text in texts]
            for rows, starts in zip(self[:2], self.starts, strict=True)
        )
        if width is None:
            return Said(torch.cat(logits), torch.cat(states))
        padded = [nn.functional.pad(each, (0, 0, 0, width - len(each))) for each in logits]
        return Said(torch.stack(padded), torch.cat(states))


class Teacher:
    """The dense model as a student learns from it.

    Args:
        model: the dense model; it is neither trained nor changed.
        task: what its head is asked.
    """

    def __init__(self, model: PreTrainedModel, task: Task) -> None:
        self.model, self.task = model, task
        self._noted: _Noted | None = None
        self._asked = False

    def note(self, texts: datasets.Dataset, progress: Callable[[float], None] = lambda share: None) -> datasets.Dataset:
        """Ask about all training texts at once, so that none is asked about twice.

        It is kept in a file without a name, in the folder for temporary ones. Where that would be too large, or
        several processes train, texts are asked about when they are met.

        Args:
            texts: encoded; always the same ones.
            progress: called with the share of them that is done.

        Returns:
            The texts, with a column that says which each is where they were noted.
        """
        if not self._asked and processes() == 1:
            self._noted = self._ask(texts, progress)
        self._asked = True
        if self._noted is None or ROW in texts.column_names:
            return texts
        return texts.add_column(ROW, list(range(len(texts))))

    def _ask(self, texts: datasets.Dataset, progress: Callable[[float], None]) -> _Noted | None:
        lengths = np.asarray(texts["length"])
        order = np.argsort(lengths, kind="stable")[::-1]
        device, done, noted = self.model.device, 0, None
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_fast_bf16(device)):
            for batch in batches(texts, self.task, order.tolist(), _TOGETHER):
                rows = order[done : done + _TOGETHER]
                said = self._say({name: values.to(device) for name, values in batch.items()})
                if noted is None:
                    noted = self._room(said, lengths, len(rows))
                    if noted is None:
                        return None
                if self._by_token:
                    said = said._replace(logits=said.logits[batch["attention_mask"].bool()])
                for into, found, starts in zip(noted[:2], said, noted.starts, strict=True):
                    parts = found.cpu().split((starts[rows + 1] - starts[rows]).tolist())
                    for row, part in zip(rows, parts, strict=True):
                        into[starts[row] : starts[row + 1]] = part.numpy()
                done += len(rows)
                progress(done / len(order))
        return noted

    @property
    def _by_token(self) -> bool:
        return self.task.kind in ("tokens", "spans")

    def _room(self, first: Said, lengths: NDArray[Any], batch: int) -> _Noted | None:
        """Room for all texts, given what was said of the first batch; None where it would be too large."""
        if self._by_token:
            counts = lengths, lengths
        else:
            counts = np.ones_like(lengths), np.full_like(lengths, len(first.state) // batch)
        widths = first.logits.shape[-1], first.state.shape[-1]
        sizes = [int(rows.sum()) * width for rows, width in zip(counts, widths, strict=True)]
        if 4 * sum(sizes) > _MOST:
            return None
        rooms = []
        for size, width in zip(sizes, widths, strict=True):
            with tempfile.TemporaryFile(prefix="wordelim-") as file:
                rooms.append(np.memmap(file, np.float32, "w+", shape=(size // width, width)))
        first_rows, second_rows = (np.concatenate([[0], np.cumsum(rows)]) for rows in counts)
        return _Noted(rooms[0], rooms[1], (first_rows, second_rows))

    @torch.no_grad()
    def _say(self, inputs: Mapping[str, Tensor]) -> Said:
        seen = LastHiddenState(self.model)
        try:
            logits = self.task.logits(ask(self.model, inputs, self.task.config), inputs)
        finally:
            seen.hook.remove()
        return Said(logits.float(), self.task.state(seen.value, inputs).float())

    def __call__(self, inputs: Mapping[str, Tensor]) -> Said:
        """What the dense model says of a batch, looked up where that was noted."""
        if self._noted is None or ROW not in inputs:
            return self._say({name: values for name, values in inputs.items() if name != ROW})
        ids = inputs["input_ids"]
        said = self._noted.of(inputs[ROW].tolist(), ids.shape[1] if self._by_token else None)
        return Said(*(values.to(ids.device) for values in said))
