"""One run of transformers' Trainer on a model that drops word vectors: quiet, resumable, nothing left on the model."""

from __future__ import annotations

import gc
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from safetensors import SafetensorError
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from ..data.encode import INPUTS
from ..errors import TrainingError, WordelimError
from ..system.disk import refused_by_disk, unwritable
from ..system.machine import has_fast_bf16
from ..system.memory import give_back_memory
from ..system.processes import as_one, from_main
from ..tasks import Task
from .checkpoints import Complete, Stateful, all_numbers, begin_at, last_checkpoint
from .teacher import ROW

__all__ = ["Fit", "LittleMemory", "fit", "unwrap_"]

_SAVES_PER_EPOCH = 4


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How to train, whatever for.

    Args:
        epochs: passes over the training texts; may be a fraction.
        learning_rate: the highest; it falls linearly to 0 after a short warm-up.
        batch_size: texts a step of each process.
        seed: of the order of texts.
        temperature: of the distillation.
        report_to: trackers that transformers knows, such as tensorboard, wandb or mlflow.
        name: of the run, for trackers.
        place: where checkpoints go and are looked for, so that a run that was killed goes on; None keeps none.
    """

    epochs: float = 1.0
    learning_rate: float = 5e-5
    batch_size: int = 32
    seed: int = 0
    temperature: float = 2.0
    report_to: Sequence[str] = ()
    name: str = "wordelim"
    place: Path | None = None


class _Report(TrainerCallback):
    def __init__(self, progress: Callable[[float], None]) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step / max(1, state.max_steps))


class LittleMemory(TrainerCallback):
    """Holds no more memory on a CPU than steps need, whose tensors are of other shapes each time."""

    _STEPS = 4

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.device.type == "cpu" and state.global_step % self._STEPS == 0:
            give_back_memory()


class _Interrupted(TrainerCallback):
    """Stops a run that was interrupted where that got lost, as in the finaliser of some library's object."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of interruptions, besides what is done about them already."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return
        handle = before

        def note(number: int, frame: Any) -> Any:
            self.asked = True
            return handle(number, frame)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt


def unwrap_(model: PreTrainedModel) -> None:
    """Take off what training in bf16 leaves on a model, which would go on computing in bf16 without a word."""
    vars(model).pop("_is_accelerate_prepared", None)
    if "_original_forward" in vars(model):
        for name in ("forward", "_original_forward"):
            vars(model).pop(name, None)


def fit(
    trainer_class: Callable[..., Trainer],
    model: PreTrainedModel,
    task: Task,
    train: datasets.Dataset,
    how: Fit,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    progress: Callable[[float], None] = lambda share: None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Train a model in place; see :class:`Fit`.

    Args:
        task: what the model's head is asked.
        options: more of the trainer's arguments.

    Returns:
        The Trainer's log, one dictionary an entry.

    Raises:
        CheckpointError: the disk refuses a checkpoint.
        TrainingError: the loss, the output or a weight is not a number; the weights are then of no use, but the
            checkpoints in ``how.place`` are.
    """
    unwrap_(model)

    verbosity = logging.get_verbosity()
    # The Trainer, and the first loss, write into the config what would end up on the disk.
    config = {name: value for name, value in vars(model.config).items() if name in ("problem_type", "use_cache")}
    with ExitStack() as stack:
        stack.enter_context(as_one())
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="wordelim-"))  # the Trainer wants one
        arguments = _arguments(how, scratch, model, len(train))
        place = how.place
        known = None if place is None else from_main(lambda: begin_at(place))
        interrupted = _Interrupted()
        stack.enter_context(interrupted.listening())
        kept = [callback for callback in callbacks if isinstance(callback, Stateful)]
        try:
            trainer = trainer_class(
                model,
                arguments,
                task=task,
                train_dataset=_inputs(train, task),
                data_collator=lambda rows: _collated(rows, task),
                callbacks=[_Report(progress), LittleMemory(), interrupted, *callbacks, Complete(model, kept)],
                **options,
            )
            trainer.remove_callback(PrinterCallback)
            if known:
                for callback in kept:
                    callback.restore(known)
            trainer.train(resume_from_checkpoint=str(known) if known else None)
            if not all_numbers(model):
                raise _diverged(trainer.state.global_step)
        except TrainingError as error:
            good = how.place and last_checkpoint(how.place)
            if not good:
                raise
            raise TrainingError(f"{str(error).rstrip('.')}; the last good checkpoint is {good}.") from error
        except WordelimError:
            raise
        except (OSError, SafetensorError) as error:
            raise unwritable(how.place or scratch, error) from error
        except RuntimeError as error:
            if refused_by_disk(error):
                raise unwritable(how.place or scratch, error) from error
            raise
        finally:
            logging.set_verbosity(verbosity)
            vars(model.config).update(config)
            unwrap_(model)
            model.zero_grad(set_to_none=True)
            model.eval()
    told = _told(trainer.state.log_history)
    del trainer  # it refers to itself, and holds what the optimizer does
    gc.collect()
    give_back_memory()
    return told


def _told(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Trainer's log, with a mean loss that counts the steps before a kill too, which the Trainer's own doesn't."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    whole = {"train_loss": float(np.mean(losses))} if losses else {}
    return [{**entry, **whole} if "train_loss" in entry else dict(entry) for entry in history]


def _arguments(how: Fit, scratch: str, model: PreTrainedModel, examples: int) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(how.place or scratch),
        num_train_epochs=how.epochs,
        learning_rate=how.learning_rate,
        warmup_steps=0.06,
        weight_decay=0.01,
        per_device_train_batch_size=how.batch_size,
        bf16=has_fast_bf16(model.device),
        remove_unused_columns=False,
        use_cpu=model.device.type == "cpu",
        seed=how.seed,
        save_strategy="steps" if how.place else "no",
        save_total_limit=2,
        report_to=list(how.report_to) or "none",
        run_name=how.name,
        disable_tqdm=True,
        log_level="error",
    )
    steps = max(1, -(-examples // (how.batch_size * arguments.world_size)))
    every = max(1, int(steps * min(1.0, how.epochs)) // _SAVES_PER_EPOCH)
    arguments.save_steps = every
    arguments.logging_steps = max(1, every // 4)
    arguments._n_gpu = min(1, arguments.n_gpu)  # the Trainer would spread the model over all that it sees
    return arguments


def _diverged(step: int) -> TrainingError:
    return TrainingError(
        f"After step {step} of training the model's weights held NaN or infinity: lower --learning-rate."
    )


def _inputs(encoded: datasets.Dataset, task: Task) -> datasets.Dataset:
    wanted = (*INPUTS, *task.targets, "length", ROW)
    return encoded.select_columns([name for name in wanted if name in encoded.column_names])


def _collated(rows: Sequence[Mapping[str, Any]], task: Task) -> dict[str, torch.Tensor]:
    batch = task.collate(rows)
    return batch | {ROW: torch.tensor([row[ROW] for row in rows])} if ROW in rows[0] else batch
