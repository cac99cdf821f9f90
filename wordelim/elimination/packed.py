"""Word vectors one behind the other, without padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .rows import Entered, Padded, on_device

__all__ = ["Packed", "Run"]


class Run(NamedTuple):
    """Texts of equal length that lie one behind the other in the packed layout.

    Args:
        examples: how many.
        length: real word vectors of each when it entered the encoder.
        alive: word vectors of each that are alive now.
        protected: word vectors of each that are never dropped, where rules name tokens.
    """

    examples: int
    length: int
    alive: int
    protected: int = 0


class Packed(NamedTuple):
    """[1, rows, ...], the real rows of all texts one behind the other. Counts are known on the host.

    Args:
        runs: the texts in the order in which they lie.
        places: [batch], where each text of the batch lies among the packed ones.
        protected: which rows are never dropped, [rows] bool; None where no rule names tokens.
        origin: [rows].
    """

    runs: tuple[Run, ...]
    places: Tensor
    entered: Entered
    protected: Tensor | None = None
    origin: Tensor | None = None

    def left(self, layer: int) -> tuple[int, ...] | None:
        """Of each text of a run."""
        kept = self.entered.kept
        left = tuple(kept.count(layer, run.length, run.alive, run.protected) for run in self.runs)
        return None if all(count == run.alive for count, run in zip(left, self.runs, strict=True)) else left

    def take(self, rows: Tensor | None, left: tuple[int, ...], alive: Tensor | None) -> Packed:
        if rows is None:
            return self
        flags = (self.protected, self.origin)
        protected, origin = (None if flag is None else flag.index_select(0, rows) for flag in flags)
        return self.with_counts(left)._replace(protected=protected, origin=origin)

    def cut(self) -> Packed:
        ones = self.with_counts((1,) * len(self.runs))
        return ones._replace(protected=None, origin=None)

    def with_counts(self, alive: tuple[int, ...]) -> Packed:
        """As many rows of each text of a run; which rows these are is another matter."""
        return self._replace(runs=tuple(run._replace(alive=n) for run, n in zip(self.runs, alive, strict=True)))

    def sizes(self) -> list[int]:
        """Rows of each run."""
        return [run.examples * run.alive for run in self.runs]

    def split(self, vectors: Tensor) -> list[Tensor]:
        """Vectors [1, heads, rows, head size] run by run, as views [examples, heads, alive, head size]."""
        parts = zip(vectors[0].transpose(0, 1).split(self.sizes()), self.runs, strict=True)
        return [part.unflatten(0, (run.examples, run.alive)).transpose(1, 2) for part, run in parts]

    def apart(self) -> list[Padded]:
        """Each run as a batch of its own, which has no padding."""
        flags, found, start = (self.protected, self.origin), [], 0
        for run in self.runs:
            end, shape = start + run.examples * run.alive, (run.examples, run.alive)
            protected, origin = (None if flag is None else flag[start:end].view(shape) for flag in flags)
            lengths, counts, guarded = ((number,) * run.examples for number in run[1:])
            found.append(Padded(None, lengths, counts, self.entered, protected, guarded, origin))
            start = end
        return found

    def starts(self, device: torch.device) -> Tensor:
        starts: list[int] = []
        row = 0
        for run, size in zip(self.runs, self.sizes(), strict=True):
            starts += range(row, row + size, run.alive)
            row += size
        return on_device(starts, device)

    def first(self, values: Tensor) -> Tensor:
        return values.index_select(1, self.starts(values.device))

    def positions(self) -> Tensor:
        assert self.origin is not None
        return self.origin % self.entered.width

    def mean(self, hidden_states: Tensor) -> Tensor:
        parts = zip(hidden_states[0].split(self.sizes()), self.runs, strict=True)
        by_run = [part.view(run.examples, run.alive, -1).mean(1) for part, run in parts]
        return torch.cat(by_run).index_select(0, self.places)

    def leave(self, hidden_states: Tensor) -> Tensor:
        widest = max(run.alive for run in self.runs)
        parts = zip(hidden_states[0].split(self.sizes()), self.runs, strict=True)
        shaped = [
            nn.functional.pad(part.view(run.examples, run.alive, -1), (0, 0, 0, widest - run.alive))
            for part, run in parts
        ]
        return torch.cat(shaped).index_select(0, self.places)
