"""Word vectors one behind the other, without padding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .padded import Packaged, Padded
from .rows import Entered, Kept, on_device, text_rows

__all__ = ["PackagedRuns", "Packed", "Run", "Together"]


class Run(NamedTuple):
    """Texts of equal length that lie one behind the other in the packed layout.

    Args:
        examples: how many.
        length: real word vectors of each when it entered the encoder.
        alive: word vectors of each that are alive now, a package not counted.
        protected: word vectors of each that are never dropped, where rules name tokens.
    """

    examples: int
    length: int
    alive: int
    protected: int = 0


class PackagedRuns(NamedTuple):
    """Rows that are kept of packed texts, behind those of a text its package: each a sum of rows.

    Args:
        rows: [terms] of all rows: one that is kept, or those of which a package is made, one behind the other.
        shares: [terms] fp32, what is taken of each: all of one that is kept.
        starts: [kept], the first term of each sum.
        places: [packages], where these stand among the kept ones.
    """

    rows: Tensor
    shares: Tensor
    starts: Tensor
    places: Tensor

    @property
    def first(self) -> Tensor:
        """One row of each sum, [kept]."""
        return self.rows.index_select(0, self.starts)

    @property
    def of_text(self) -> Tensor:
        every = torch.ones_like(self.starts, dtype=torch.bool)
        return self.first[every.index_fill(0, self.places, False)]

    def of(self, values: Tensor) -> Tensor:
        """Of [1, rows, width]: [1, kept, width]."""
        shares = self.shares.to(values.dtype)
        sums = nn.functional.embedding_bag(self.rows, values[0], self.starts, mode="sum", per_sample_weights=shares)
        return sums[None]


class Together(NamedTuple):
    """Packed texts of any lengths as one batch, to choose among the rows of all at once.

    Args:
        texts: it.
        rows: [texts, tokens], which of the packed rows these are; any in the place of padding.
        real: [texts, tokens] bool, true where it isn't padding, on the host.
        examples: texts of each run.
    """

    texts: Padded
    rows: Tensor
    real: NDArray[np.bool_]
    examples: list[int]

    def keep(self, scores: Tensor, left: tuple[int, ...]) -> Tensor | PackagedRuns:
        """The packed rows with the highest scores of each text, and a package of the others by the softmax of theirs.

        Args:
            scores: [1, rows], of the packed rows.
            left: how many of each text of a run are kept.
        """
        counts = np.repeat(left, self.examples)
        found, _ = self.texts.keep(scores[0][self.rows], tuple(counts.tolist()), log=True)
        kept = self.rows.gather(1, text_rows(found))
        terms = np.arange(kept.shape[1]) < counts[:, None]
        if not isinstance(found, Packaged):
            return _only(terms, kept)
        # Behind the rows that a text keeps all that it has, with shares of 0 where they are kept.
        packaged = self.real & (counts < self.texts.lengths)[:, None]
        first = np.zeros_like(packaged)
        first[:, 0] = packaged[:, 0]
        every = np.hstack([terms, packaged])
        sums = np.hstack([terms, first])[every]
        places = np.hstack([np.zeros_like(terms), first])[every][sums]
        return PackagedRuns(
            _only(every, torch.cat([kept, self.rows], 1)),
            _only(every, torch.cat([torch.ones_like(kept, dtype=found.shares.dtype), found.shares], 1)),
            *(on_device(np.flatnonzero(each), kept.device) for each in (sums, places)),
        )


def _only(wanted: NDArray[np.bool_], values: Tensor) -> Tensor:
    """The values [texts, ...] at places that are known on the host, one behind the other."""
    flat = values.flatten()
    return flat if wanted.all() else flat.index_select(0, on_device(np.flatnonzero(wanted), values.device))


class Packed(NamedTuple):
    """[1, rows, ...], the real rows of all texts one behind the other. Counts are known on the host.

    Args:
        runs: the texts in the order in which they lie.
        places: [batch], where each text of the batch lies among the packed ones.
        protected: which rows are never dropped, [rows] bool; None where no rule names tokens.
        origin: [rows].
        package: whether the last row of each text that has dropped some is its package.
    """

    runs: tuple[Run, ...]
    places: Tensor
    entered: Entered
    protected: Tensor | None = None
    origin: Tensor | None = None
    package: bool = False

    def left(self, layer: int) -> tuple[int, ...] | None:
        """Of each text of a run."""
        kept = self.entered.kept
        left = tuple(kept.count(layer, run.length, run.alive, run.protected) for run in self.runs)
        return None if all(count == run.alive for count, run in zip(left, self.runs, strict=True)) else left

    def take(self, rows: Tensor | Kept | None, left: tuple[int, ...], alive: Tensor | None) -> Packed:
        if rows is None:
            return self
        package = rows if isinstance(rows, PackagedRuns) else None
        index = rows if package is None else package.first
        assert isinstance(index, Tensor)
        flags = (self.protected, self.origin)
        protected, origin = (None if flag is None else flag.index_select(0, index) for flag in flags)
        if package is not None:
            beyond = self.entered.batch * self.entered.width
            protected = None if protected is None else protected.index_fill(0, package.places, False)
            origin = None if origin is None else origin.index_fill(0, package.places, beyond)
        return self.with_counts(left)._replace(protected=protected, origin=origin, package=package is not None)

    def cut(self) -> Packed:
        ones = self.with_counts((1,) * len(self.runs))
        return ones._replace(protected=None, origin=None, package=False)

    def with_counts(self, alive: tuple[int, ...]) -> Packed:
        """As many rows of each text of a run; which rows these are is another matter."""
        return self._replace(runs=tuple(run._replace(alive=n) for run, n in zip(self.runs, alive, strict=True)))

    def each(self, run: Run) -> int:
        """Rows of each text of a run, with its package."""
        return run.alive + (self.package and run.alive < run.length)

    def sizes(self) -> list[int]:
        """Rows of each run."""
        return [run.examples * self.each(run) for run in self.runs]

    def split(self, vectors: Tensor) -> list[Tensor]:
        """Vectors [1, heads, rows, head size] run by run, as views [examples, heads, alive, head size]."""
        parts = zip(vectors[0].transpose(0, 1).split(self.sizes()), self.runs, strict=True)
        return [part.unflatten(0, (run.examples, self.each(run))).transpose(1, 2) for part, run in parts]

    def apart(self) -> list[Padded]:
        """Each run as a batch of its own, which has no padding."""
        flags, found, start = (self.protected, self.origin), [], 0
        for run in self.runs:
            shape = (run.examples, self.each(run))
            end = start + shape[0] * shape[1]
            protected, origin = (None if flag is None else flag[start:end].view(shape) for flag in flags)
            lengths, counts, guarded = ((number,) * run.examples for number in run[1:])
            package = self.each(run) > run.alive
            found.append(Padded(None, lengths, counts, self.entered, protected, guarded, origin, package))
            start = end
        return found

    def together(self, device: torch.device) -> Together:
        """All texts as one batch."""
        examples = [run.examples for run in self.runs]
        lengths, counts, guarded = np.repeat(np.array([run[1:] for run in self.runs]), examples, axis=0).T
        each = np.repeat([self.each(run) for run in self.runs], examples)
        columns = np.arange(counts.max())
        places, real = np.broadcast_to(columns, (len(counts), len(columns))), columns < counts[:, None]
        if self.package:
            last = counts[:, None]
            places, real = np.hstack([places, last]), np.hstack([real, last < each[:, None]])
        starts = each.cumsum() - each
        rows = on_device(starts[:, None] + np.where(real, places, 0), device)
        mask = None if real.all() else on_device(real, device)
        protected = None if self.protected is None else self.protected[rows]
        if protected is not None and mask is not None:
            protected = protected & mask
        of_length, alive, guards = (tuple(numbers.tolist()) for numbers in (lengths, counts, guarded))
        texts = Padded(mask, of_length, alive, self.entered, protected, guards, package=self.package)
        return Together(texts, rows, real, examples)

    def starts(self, device: torch.device) -> Tensor:
        starts: list[int] = []
        row = 0
        for run, size in zip(self.runs, self.sizes(), strict=True):
            starts += range(row, row + size, self.each(run))
            row += size
        return on_device(starts, device)

    def first(self, values: Tensor) -> Tensor:
        return values.index_select(1, self.starts(values.device))

    def positions(self) -> Tensor:
        assert self.origin is not None
        return self.origin % self.entered.width

    def mean(self, hidden_states: Tensor) -> Tensor:
        parts = zip(hidden_states[0].split(self.sizes()), self.runs, strict=True)
        by_run = [part.view(run.examples, self.each(run), -1).mean(1) for part, run in parts]
        return torch.cat(by_run).index_select(0, self.places)

    def leave(self, hidden_states: Tensor) -> Tensor:
        widest = max(map(self.each, self.runs))
        parts = zip(hidden_states[0].split(self.sizes()), self.runs, strict=True)
        shaped = [
            nn.functional.pad(part.view(run.examples, self.each(run), -1), (0, 0, 0, widest - self.each(run)))
            for part, run in parts
        ]
        return torch.cat(shaped).index_select(0, self.places)
