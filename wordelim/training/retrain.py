"""Adapt a model's weights to the word vectors that it keeps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from torch import Tensor
from transformers import DataCollatorWithPadding, PreTrainedModel, PrinterCallback, TrainerCallback, TrainingArguments
from transformers.utils import logging

from ..errors import TrainingError
from ..evaluation.inference import INPUTS, has_fast_bf16
from ..evaluation.metrics import Metric
from ..graph.model import eliminate_
from ..retention import Retention
from .distillation import DistillationTrainer

__all__ = ["Retraining", "retrain_", "unwrap_"]

_EVALUATIONS_PER_EPOCH = 4
_PATIENCE = 4


@dataclass(frozen=True)
class Retraining:
    """How to retrain.

    Args:
        epochs: passes over the training texts; may be a fraction.
        learning_rate: the highest; it falls linearly to 0 after a short warm-up.
        batch_size: texts a step.
        temperature: of the distillation.
        seed: of the order of texts, dropout and the choice among several retentions.
    """

    epochs: float = 1.0
    learning_rate: float = 5e-5
    batch_size: int = 32
    temperature: float = 2.0
    seed: int = 0


class _Report(TrainerCallback):
    def __init__(self, progress: Callable[[float], None]) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step / max(1, state.max_steps))


class _KeepBest(TrainerCallback):
    """Keeps the best weights in memory, looks at the last ones too, and stops when they grow no better."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.points = float("-inf")
        self.weights: dict[str, Tensor] = {}
        self.worse = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        points = kwargs["metrics"]["eval_points"]
        if points > self.points:
            self.points, self.worse = points, 0
            self.weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        else:
            self.worse += 1
            control.should_training_stop |= self.worse >= _PATIENCE


def unwrap_(model: PreTrainedModel) -> None:
    """Take off what training in bf16 leaves on a model, which would go on computing in bf16 without a word."""
    if "_original_forward" in vars(model):
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            vars(model).pop(name, None)


def retrain_(
    model: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: Any,
    train: datasets.Dataset,
    retentions: Sequence[Retention],
    settings: Retraining,
    *,
    validation: datasets.Dataset | None = None,
    metric: Metric | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> list[dict[str, Any]]:
    """Retrain a compressed model in place under hard extraction (PoWER-BERT, section 3.4), distilling from the dense.

    Args:
        model: compressed already; its weights are changed.
        teacher: the dense model.
        train: encoded texts with labels.
        retentions: one, or several that share the weights (each step takes one at random).
        validation: with ``metric``, the best weights on it are kept and training stops early when they grow no better.
        progress: called with the share of steps that is done.

    Returns:
        The Trainer's log, one dictionary an entry.

    Raises:
        TrainingError: the loss, the output or a weight is not a number; the weights are then of no use.
    """
    watched = validation is not None and metric is not None
    steps = max(1, -(-len(train) // settings.batch_size))
    every = max(1, int(steps * min(1.0, settings.epochs)) // _EVALUATIONS_PER_EPOCH)
    eliminate_(model, retentions[0])
    unwrap_(model)
    best = _KeepBest(model)

    def points(evaluated: Any) -> dict[str, float]:
        if not np.isfinite(evaluated.predictions).all():
            raise _diverged("output", trainer.state.global_step)
        assert metric is not None
        return {"points": metric(evaluated.predictions, evaluated.label_ids)}

    verbosity = logging.get_verbosity()
    # The Trainer, and the first loss, write into the config what would end up on the disk.
    config = {name: value for name, value in vars(model.config).items() if name in ("problem_type", "use_cache")}
    with tempfile.TemporaryDirectory(prefix="wordelim-") as scratch:  # nothing is saved there, but it must exist
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            warmup_steps=0.06,
            weight_decay=0.01,
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=2 * settings.batch_size,
            train_sampling_strategy="group_by_length",
            bf16=has_fast_bf16(model.device),
            bf16_full_eval=False,
            use_cpu=model.device.type == "cpu",
            seed=settings.seed,
            eval_strategy="steps" if watched else "no",
            eval_steps=every,
            save_strategy="no",
            logging_steps=max(1, every // 4),
            report_to="none",
            disable_tqdm=True,
            log_level="error",
        )
        arguments._n_gpu = min(1, arguments.n_gpu)  # the Trainer would spread the model over all that it sees
        try:
            trainer = DistillationTrainer(
                model,
                arguments,
                teacher=teacher,
                retentions=retentions,
                temperature=settings.temperature,
                train_dataset=_inputs(train),
                eval_dataset=_inputs(validation) if watched else None,
                data_collator=DataCollatorWithPadding(tokenizer),
                compute_metrics=points if watched else None,
                callbacks=[_Report(progress), *([best] if watched else [])],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
                raise _diverged("weights", trainer.state.global_step)
        finally:
            logging.set_verbosity(verbosity)
            vars(model.config).update(config)
            unwrap_(model)
            model.zero_grad(set_to_none=True)
            model.eval()
    if best.weights:
        model.load_state_dict(best.weights)
    return list(trainer.state.log_history)


def _diverged(what: str, step: int) -> TrainingError:
    return TrainingError(
        f"After step {step} of the retraining the model's {what} held NaN or infinity: lower --learning-rate."
    )


def _inputs(encoded: datasets.Dataset) -> datasets.Dataset:
    return encoded.select_columns([name for name in (*INPUTS, "labels", "length") if name in encoded.column_names])
