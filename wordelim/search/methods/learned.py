"""Learned search: retention parameters trained with the weights (PoWER-BERT's configuration search, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ...data.encode import lengths_of
from ...elimination.soft_extract import Form
from ...graph.soft import soften_
from ...graph.splice import restore_
from ...training.distillation import DistillationTrainer
from ...training.fit import Fit, fit
from ...training.teacher import ASKING
from ..confirm import confirm
from ..method import Context, Found, Search, register
from ..objective import Objective

__all__ = ["Learned"]

# In tokens through the dense encoder: one that is trained on with soft extraction.
_TRAINED = 5.5


@dataclass(frozen=True)
class Learned(Search):
    """Learn how many word vectors each layer keeps, with soft extraction in place.

    The loss is the task's plus distillation plus the price of word vectors. Without a fixed price an augmented
    Lagrangian sets it so that the cost goes down to that of the fastest of the speeds; where it passes one of the
    others, the schedule of that moment is a candidate too. What the weights learn meanwhile is thrown away.

    Args:
        search_epochs: passes over the training texts; may be a fraction.
        retention_lr: learning rate of the retention parameters, constant; None scales it to the number of steps.
        price: lambda, the price of a word vector: the loss gets ``price`` times the sum over layers j (from 1) of j
            times the word vectors that layer j keeps of an average text. None aims at speeds instead.
        form: what is learned of a layer.
        learning_rate, temperature, seed, report_to: of the training; see :class:`wordelim.training.fit.Fit`.

    Raises:
        UnsupportedModelError: the model's head reads more than the first token.
        TrainingError: the loss or a parameter became NaN.
    """

    counted = "train"
    search_epochs: float = 1.0
    retention_lr: float | None = None
    price: float | None = None
    form: Form = "ramp"
    learning_rate: float = 5e-5
    temperature: float = 2.0
    seed: int = 0
    report_to: Sequence[str] = ()

    def stages(self, lengths: Sequence[int], layers: int, speeds: int) -> Mapping[str, float]:
        learning = self.search_epochs * sum(lengths) * _TRAINED
        return {ASKING: float(sum(lengths)), "learning": learning, **super().stages(lengths, layers, speeds)}

    def find(self, context: Context) -> Found:
        model, teacher = context.model, context.teacher
        train = teacher.note(context.train, lambda share: context.progress(ASKING, share))
        soft = soften_(model, self.form, ranks=max(lengths_of(train)), template=context.template)
        how = Fit(
            epochs=self.search_epochs,
            learning_rate=self.learning_rate,
            batch_size=context.batch_size,
            temperature=self.temperature,
            seed=self.seed,
            report_to=self.report_to,
            name="wordelim search",
            place=context.place(),
        )
        try:
            objective = Objective(soft, context, self.price, self.retention_lr)
            history = fit(
                partial(_SearchTrainer, teacher=teacher, temperature=how.temperature, objective=objective),
                model,
                context.task,
                train,
                how,
                callbacks=[objective],
                progress=lambda share: context.progress("learning", share),
            )
            found = objective.found()
        finally:
            restore_(model)
            model.load_state_dict(teacher.model.state_dict())
        candidates = sorted(confirm(context, found), key=lambda candidate: candidate.flops_ratio)
        return Found(candidates, objective.warnings(candidates), history)


class _SearchTrainer(DistillationTrainer):
    """Adds the price of word vectors to the loss, and moves the retention parameters at a rate of their own."""

    def __init__(self, *args: Any, objective: Objective, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.objective: Objective = objective

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


register("learned", Learned)
