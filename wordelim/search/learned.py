"""Learned search: retention parameters trained with the weights (PoWER-BERT's configuration search, section 3.3)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..data.encode import lengths_of
from ..elimination.soft_extract import Form, SoftRetention
from ..evaluation.inference import logits_of
from ..graph.cost import Cost, Text
from ..graph.protect import sizes_of
from ..graph.soft import soften_
from ..graph.splice import eliminate_, restore_
from ..retention import Retention
from ..system.machine import has_fast_bf16
from ..tasks import Task
from ..tasks.divergence import divergence
from ..training.distillation import DistillationTrainer
from ..training.fit import Fit, Stateful, fit
from .method import SPEEDS, Candidate

__all__ = ["Found", "Learning", "learned_search"]

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
_CONFIRMED = 256


@dataclass(frozen=True)
class Learning(Fit):
    """How to learn.

    Args:
        temperature: of the distillation.
        form: what is learned of a layer.
        retention_rate: learning rate of the retention parameters, constant; None scales it to the number of steps.
        price: lambda, the price of a word vector: the loss gets ``price`` times the sum over layers j (from 1) of j
            times the word vectors that layer j keeps of an average text. None aims at speeds instead.
    """

    epochs: float = 1.0
    learning_rate: float = 5e-5
    batch_size: int = 32
    seed: int = 0
    temperature: float = 2.0
    form: Form = "ramp"
    retention_rate: float | None = None
    price: float | None = None


@dataclass(frozen=True)
class Found:
    """What a learned search came to.

    Args:
        candidates: retentions from slow to fast, each measured under hard extraction on the dense weights.
        warnings: sentences on what makes the result doubtful.
        history: the Trainer's log.
    """

    candidates: Sequence[Candidate]
    warnings: Sequence[str]
    history: Sequence[dict[str, Any]]


def learned_search(
    model: PreTrainedModel,
    teacher: PreTrainedModel,
    task: Task,
    train: datasets.Dataset,
    sample: datasets.Dataset,
    cost: Cost,
    how: Learning,
    *,
    template: Retention | None = None,
    speeds: Sequence[float] = SPEEDS,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Found:
    """Learn how many word vectors each layer keeps, with soft extraction in place.

    The loss is the task's plus distillation plus the price of word vectors. Without a fixed ``how.price`` an augmented
    Lagrangian sets the price so that the cost goes down to that of the fastest of ``speeds``; where it passes one of
    the others, the schedule of that moment is a candidate too. What the weights learn meanwhile is thrown away.

    Args:
        model: dense, of a head that reads the first token; dense with its own weights again when this returns.
        teacher: the dense model again, to distil from.
        task: what its head is asked.
        train: encoded texts with labels.
        sample: encoded texts in random order; at most 256 of them measure candidates, under hard extraction.
        cost: what an encoder costs, in FLOPs or in time; ``speeds`` are ratios of it.
        template: a retention whose ``protect`` those found have; None protects the first token alone.
        progress: called with the stage and the share of it that is done.

    Raises:
        UnsupportedModelError: the model's head reads more than the first token.
        TrainingError: the loss or a parameter became NaN.
    """
    template = template or Retention.keep_all(model.config.num_hidden_layers)
    texts = sizes_of(train, template)
    soft = soften_(model, how.form, ranks=max(lengths_of(train)), template=template)
    try:
        objective = _Objective(soft, cost, texts, template, sorted(speeds), how)
        history = fit(
            partial(_SearchTrainer, teacher=teacher, temperature=how.temperature, objective=objective),
            model,
            task,
            train,
            how,
            callbacks=[objective],
            progress=lambda share: progress("learning", share),
        )
        found = objective.found()
    finally:
        restore_(model)
        model.load_state_dict(teacher.state_dict())
    kind, bf16 = task.kind, has_fast_bf16(model.device)
    sample = sample.select(range(min(_CONFIRMED, len(sample))))

    def run() -> Any:
        return logits_of(model, sample, task, batch_size=how.batch_size, bf16=bf16)

    candidates, dense = [], run()
    try:
        for done, retention in enumerate(found):
            eliminate_(model, retention)
            ratio = cost.flops_ratio(texts, retention)
            candidates.append(Candidate(retention, ratio, divergence(dense, run(), kind)))
            progress("confirming", (done + 1) / len(found))
    finally:
        if found:
            restore_(model)
    candidates.sort(key=lambda candidate: candidate.flops_ratio)
    return Found(tuple(candidates), objective.warnings(candidates), history)


class _SearchTrainer(DistillationTrainer):
    """Adds the price of word vectors to the loss, and moves the retention parameters at a rate of their own."""

    def __init__(self, *args: Any, objective: _Objective, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.objective: _Objective = objective

    def compute_loss(  # type: ignore[override]
        self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        loss = super().compute_loss(model, inputs, return_outputs=False, **kwargs)
        return loss + self.objective.price()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        share = self.objective.soft.share
        kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.compressed)
        weights = [weight for weight in self.compressed.parameters() if weight is not share and weight.requires_grad]
        self.optimizer = kind(
            [
                {"params": weights, "weight_decay": self.args.weight_decay},
                {"params": [share], "weight_decay": 0.0},
            ],
            **options,
        )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Warm-up and linear fall for the weights, a constant rate for the retention parameters."""
        assert self.optimizer is not None
        self.optimizer.param_groups[1]["lr"] = self.objective.rate(num_training_steps)
        warm: int = max(1, self.args.get_warmup_steps(num_training_steps))

        def weights(step: int) -> float:
            return min(step / warm, max(0.0, (num_training_steps - step) / max(1, num_training_steps - warm)))

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, [weights, lambda step: 1.0])
        self._created_lr_scheduler = True
        return self.lr_scheduler


class _Objective(Stateful):
    """What the retention parameters are pulled to, step by step, and the schedules met on the way."""

    def __init__(
        self,
        soft: SoftRetention,
        cost: Cost,
        texts: Sequence[Text],
        template: Retention,
        speeds: Sequence[float],
        how: Learning,
    ) -> None:
        self.soft, self.cost, self.texts, self.template = soft, cost, texts, template
        self.speeds, self.how = speeds, how
        sizes = np.array([text if isinstance(text, tuple) else (text, 0) for text in texts], dtype=np.float64)
        # A few texts stand for all: their lengths, and what of them is protected on average in texts like them.
        ordered = sizes[np.argsort(sizes[:, 0], kind="stable")]
        quantiles = np.quantile(ordered[:, 0], (np.arange(_LENGTHS) + 0.5) / _LENGTHS)
        protected = [part[:, 1].mean() for part in np.array_split(ordered, min(_LENGTHS, len(ordered)))]
        protected = np.interp(np.linspace(0, 1, _LENGTHS), np.linspace(0, 1, len(protected)), protected)
        self.lengths = torch.tensor(quantiles, dtype=torch.float32, device=soft.share.device)
        least = np.minimum(quantiles, np.maximum(protected, template.protected_first))
        self.least = torch.tensor(least, dtype=torch.float32, device=soft.share.device)
        self.longest = int(sizes[:, 0].max())
        self.goal, self.steps = 1.0, 1
        self.passed: dict[float, list[float]] = {}
        self.start = self._reached()  # by the cut of the last layer alone

    def rate(self, steps: int) -> float:
        """Learning rate of the retention parameters."""
        self.steps = steps
        given = self.how.retention_rate
        return min(0.1, _REACH / max(1, steps)) if given is None else given

    def price(self) -> Tensor:
        """What is added to the loss."""
        if self.how.price is not None:
            depth = torch.arange(1, self.soft.layers + 1, device=self.lengths.device)
            return self.how.price * (depth * self._kept().mean(1)).sum()
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
        if self.how.price is not None:
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
        if self.how.price is not None:
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
        short = self.how.price is None and self.speeds and self._reached() < 0.9 * self.speeds[-1]
        if (self.how.price is not None or short) and float(moved.min()) > 0.8 * _TRAVEL * rate * self.steps:
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
        return self.cost.flops_ratio(self.texts, Retention((1.0,) * self.cost.layers))
