"""What retention parameters are pulled to while they are learned, and the schedules that they pass on the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..elimination.soft_extract import SoftRetention
from ..retention import Retention
from ..training.checkpoints import Stateful
from .method import Candidate, Context

__all__ = ["Objective"]

# The goal falls over this part of the steps; in the rest the layers settle at it.
_WALK = 0.75
# The ramp of factors narrows from wide to narrow over the first half of the steps.
_WIDTHS = (0.5, 0.05)
# A parameter goes at most about this share of rate times steps, whatever the loss says.
_TRAVEL = 0.45
# Rate of the parameters times steps, unless a rate is given: enough to cross 0..1 several times.
_REACH = 4.0
_STIFFNESS = 2.0
_LENGTHS = 32


class Objective(Stateful):
    """What the retention parameters are pulled to, step by step, and the schedules met on the way.

    Args:
        soft: the retention parameters.
        context: of the search.
        fixed: a fixed price of a word vector; None aims at the speeds.
        given: learning rate of the parameters; None scales it to the number of steps.
    """

    def __init__(self, soft: SoftRetention, context: Context, fixed: float | None, given: float | None) -> None:
        self.soft, self.cost, self.flops, self.texts = soft, context.cost, context.flops, context.texts
        self.template, self.speeds, self.fixed, self.given = context.template, sorted(context.speeds), fixed, given
        sizes = np.array([text if isinstance(text, tuple) else (text, 0) for text in self.texts], dtype=np.float64)
        # A few texts stand for all: their lengths, and what of them is protected on average in texts like them.
        ordered = sizes[np.argsort(sizes[:, 0], kind="stable")]
        quantiles = np.quantile(ordered[:, 0], (np.arange(_LENGTHS) + 0.5) / _LENGTHS)
        protected = [part[:, 1].mean() for part in np.array_split(ordered, min(_LENGTHS, len(ordered)))]
        protected = np.interp(np.linspace(0, 1, _LENGTHS), np.linspace(0, 1, len(protected)), protected)
        self.lengths = torch.tensor(quantiles, dtype=torch.float32, device=soft.share.device)
        least = np.minimum(quantiles, np.maximum(protected, self.template.protected_first))
        self.least = torch.tensor(least, dtype=torch.float32, device=soft.share.device)
        self.longest = int(sizes[:, 0].max())
        self.goal, self.steps = 1.0, 1
        self.passed: dict[float, list[float]] = {}
        self.start = self._reached()  # by the cut of the last layer alone

    def rate(self, steps: int) -> float:
        """Learning rate of the retention parameters."""
        self.steps = steps
        return min(0.1, _REACH / max(1, steps)) if self.given is None else self.given

    def price(self) -> Tensor:
        """What is added to the loss."""
        if self.fixed is not None:
            depth = torch.arange(1, self.soft.layers + 1, device=self.lengths.device)
            return self.fixed * (depth * self._kept().mean(1)).sum()
        behind = self._behind()
        return self.soft.price * behind + _STIFFNESS / 2 * behind.clamp_min(0) ** 2

    def _behind(self) -> Tensor:
        """By how much the logarithm of the speed is less than that of the goal."""
        return float(np.log(self.goal)) - self._speed().log()

    def _kept(self) -> Tensor:
        """Word vectors left by each layer [layers, lengths]."""
        kept = self.soft.fractions()[:, None]
        if self.soft.form == "count":
            return torch.minimum(kept * self.longest, self.lengths)
        return kept * self.lengths

    def _speed(self) -> Tensor:
        one = torch.ones_like(self.lengths)
        dense = self.cost.total(self.lengths, [self.lengths] * self.cost.layers)
        kept = [torch.maximum(row, self.least) for row in self._kept()]
        return dense.sum() / self.cost.total(self.lengths, [*kept, one]).sum()

    @torch.no_grad()
    def _reached(self) -> float:
        return float(self._speed())

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        share = state.global_step / max(1, state.max_steps)
        wide, narrow = _WIDTHS
        self.soft.width.fill_(wide * (narrow / wide) ** min(1.0, 2 * share))
        if self.speeds:
            walked = min(1.0, (share + 1 / max(1, state.max_steps)) / _WALK)
            self.goal = self.start * (self.speeds[-1] / self.start) ** walked

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.soft.clip_()
        if self.fixed is not None:
            return
        self.soft.price.add_(_STIFFNESS * self._behind()).clamp_(min=0)
        speed = self._reached()
        for aimed in self.speeds[:-1]:
            if aimed not in self.passed and speed >= aimed:
                self.passed[aimed] = self.soft.fractions().tolist()

    def store(self, folder: Path) -> None:
        (folder / "passed.json").write_text(json.dumps(list(self.passed.items())))

    def restore(self, folder: Path) -> None:
        self.passed = dict(json.loads((folder / "passed.json").read_text()))

    def found(self) -> list[Retention]:
        """The retentions to measure: each pulled to its speed, or the last one as it is at a fixed price."""
        last = self.soft.fractions().detach().tolist()
        if self.fixed is not None:
            return [self._retention(last)]
        pulled = [self._pulled(self.passed.get(speed, last), speed) for speed in self.speeds]
        return list(dict.fromkeys(retention for retention in pulled if retention is not None))

    def _retention(self, fractions: Sequence[float]) -> Retention:
        if self.soft.form == "count":
            counts = [int(np.ceil(round(fraction * self.longest, 3))) for fraction in fractions]
            return replace(self.template, keep=(*counts, 0), kind="count")
        return replace(self.template, keep=(*(round(fraction, 3) for fraction in fractions), 0.0))

    def _pulled(self, fractions: Sequence[float], speed: float) -> Retention | None:
        """The schedule with each fraction raised to the one power at which it has this speed; None if none has."""
        # One that has hardly moved has a direction all the same.
        fractions = [min(fraction, (1 - 1e-6) ** (layer + 1)) for layer, fraction in enumerate(fractions)]

        def raised(power: float) -> Retention:
            return self._retention([fraction**power for fraction in fractions])

        low, high = 0.0, 1.0
        while self.cost.ratio(self.texts, raised(high)) < speed:
            low, high = high, 2 * high
            if high > 2**24:
                return None
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (low, middle) if self.cost.ratio(self.texts, raised(middle)) >= speed else (middle, high)
        return raised(high)

    def warnings(self, candidates: Sequence[Candidate]) -> tuple[str, ...]:
        """What makes the result doubtful."""
        said = []
        share = self.soft.share.detach()
        rate = self.rate(self.steps)
        moved = 1 - (share if self.soft.form == "ramp" else share.mean(1))
        short = self.fixed is None and self.speeds and self._reached() < 0.9 * self.speeds[-1]
        if (self.fixed is not None or short) and float(moved.min()) > 0.8 * _TRAVEL * rate * self.steps:
            said.append(
                f"The retention parameters of every layer went as far as their rate of {rate:g} allows in {self.steps} "
                "steps, whatever the loss said: raise --retention-lr or --search-epochs."
            )
        elif short:
            said.append(
                f"The search came to a ratio of {self._reached():.2f} on its way to {self.speeds[-1]:g}: what it "
                "found was pulled there; raise --search-epochs or --retention-lr."
            )
        if candidates and max(candidate.flops_ratio for candidate in candidates) < 1.02 * self._cut_alone():
            said.append(
                "The search dropped next to nothing of the texts: raise --lambda, --retention-lr or --search-epochs."
            )
        return tuple(said)

    def _cut_alone(self) -> float:
        """The ratio of FLOPs with nothing dropped but by the last layer's cut."""
        return self.flops.ratio(self.texts, Retention((1.0,) * self.cost.layers))
