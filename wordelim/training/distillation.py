"""A Trainer whose loss is the task's own plus what the dense model says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel, Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..errors import TrainingError
from ..graph.splice import eliminate_
from ..retention import Retention
from ..tasks import Task, ask
from .teacher import ROW, LastHiddenState, Said, Teacher

__all__ = ["TRAINED", "ByLength", "DistillationTrainer", "distillation_loss"]

TRAINED = 2.0
"""What a token that is trained on takes, in tokens through the dense encoder."""

_NOWHERE = -1e4  # the logit of a position that isn't there


def distillation_loss(
    student: Tensor, teacher: Tensor, kind: str, temperature: float, mask: Tensor | None = None
) -> Tensor:
    """How far the student's logits are from the teacher's, both [batch, outputs]; 0 when they agree.

    Kullback-Leibler divergence at ``temperature``, scaled by its square (Hinton et al., 2015); for independent labels
    the binary one; for a regression the squared difference. Of heads that answer for each token, [batch, tokens,
    outputs]: averaged over real tokens (``"tokens"``), or of where an answer starts and ends (``"spans"``).

    Args:
        kind: of the task.
        mask: [batch, tokens], non-zero on real tokens, for these heads.
    """
    if kind in ("tokens", "spans"):
        assert mask is not None
        real = mask.bool()
        if kind == "tokens":
            student, teacher = student[real], teacher[real]
        else:
            nowhere = ~real[..., None]
            student, teacher = (
                logits.masked_fill(nowhere, _NOWHERE).transpose(1, 2).flatten(0, 1) for logits in (student, teacher)
            )
    if kind == "regression":
        return functional.mse_loss(student, teacher)
    student, teacher = student / temperature, teacher / temperature
    if kind == "multi_label_classification":
        target = teacher.sigmoid()
        cross = functional.binary_cross_entropy_with_logits(student, target, reduction="none")
        own = functional.binary_cross_entropy_with_logits(teacher, target, reduction="none")
        return (cross - own).sum(-1).mean() * temperature**2
    divergence = functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    return divergence * temperature**2


def _quick_backward(device: torch.device) -> AbstractContextManager[Any]:
    """On a CPU attention that keeps its probabilities: back, PyTorch's other one takes many times as long as forth."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _input_embeddings(model: PreTrainedModel) -> list[nn.Parameter]:
    """What the word embeddings of a model are made of; nothing where it doesn't say which they are."""
    try:
        return list(model.get_input_embeddings().parameters())
    except NotImplementedError:
        return []


class ByLength(LengthGroupedSampler):
    """Batches of like length in random order, which depends on the seed and the epoch alone: the same when resumed.

    The first is the longest, so that too little memory shows at once. transformers leaves hundreds of texts sorted by
    length one behind the other, which pulls the weights to what texts of one length are like.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int, epoch: Callable[[], int]) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed, self.epoch = seed, epoch

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.seed} {self.epoch()}")
        self.generator = torch.Generator().manual_seed(chance.getrandbits(63))
        indices = list(super().__iter__())  # type: ignore[no-untyped-call]
        batches = [indices[start : start + self.batch_size] for start in range(0, len(indices), self.batch_size)]
        longest, between, last = batches[:1], batches[1:-1], batches[1:][-1:]  # the last may hold fewer
        chance.shuffle(between)
        return chain.from_iterable([*longest, *between, *last])


class DistillationTrainer(Trainer):
    """Trains a compressed model with extraction in place.

    loss = task + distillation of the dense model's logits + squared distance, relative to its size, from what the head
    reads of the dense model's last hidden states.

    There is no dropout, and the input embeddings stay as they are: with the dense model's answer to every text the
    student loses no more so, and a step takes less time.

    Args:
        task: what the model's head is asked.
        teacher: the dense model.
        retentions: several to train at, of which each step takes one at random, so that one set of weights serves all
            of them; with one or none the model stays as it is.
        temperature: of the distillation.
        dropout: have dropout all the same.
        embeddings: train the input embeddings all the same.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *args: Any,
        task: Task,
        teacher: Teacher,
        retentions: Sequence[Retention] = (),
        temperature: float = 2.0,
        dropout: bool = False,
        embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, *args, **kwargs)
        self.compressed = model
        self.teacher = teacher
        self.retentions = list(retentions)
        self.temperature = temperature
        self.dropout, self.embeddings = dropout, embeddings
        self.task = task
        self.seen = LastHiddenState(model)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        still = [] if self.embeddings else _input_embeddings(self.compressed)
        before = [weight.requires_grad for weight in still]
        try:
            for weight in still:
                weight.requires_grad_(False)
            return super().train(*args, **kwargs)
        finally:
            for weight, trained in zip(still, before, strict=True):
                weight.requires_grad_(trained)
            self.seen.hook.remove()

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        lengths = list(self.train_dataset["length"])  # type: ignore[index]
        texts = self.args.train_batch_size * self.args.world_size
        steps = -(-len(lengths) // texts)
        return ByLength(texts, lengths, self.args.seed, lambda: self.state.global_step // steps)

    def compute_loss(  # type: ignore[override]
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        step = self.state.global_step
        if not self.dropout:
            self.compressed.eval()  # the Trainer has just called train()
        if len(self.retentions) > 1:
            eliminate_(self.compressed, random.Random(f"{self.args.seed} {step}").choice(self.retentions))
        known = {name: value for name, value in inputs.items() if name not in self.task.targets}
        with self.accelerator.autocast():
            taught = self.teacher(known)
        for each in (known, inputs):
            each.pop(ROW, None)
        with _quick_backward(self.args.device):
            loss, outputs = self.learn(model, inputs, known, taught)
        if not bool(loss.isfinite()):
            raise TrainingError(
                f"The training loss became {loss.item()} at step {step}: lower --learning-rate, or look for broken "
                "rows in the training data."
            )
        return (loss, outputs) if return_outputs else loss

    def learn(
        self, model: nn.Module, inputs: dict[str, Any], known: dict[str, Tensor], taught: Said
    ) -> tuple[Tensor, Any]:
        """The loss on a batch, and what the model answered.

        Args:
            inputs: of the model, with the labels.
            known: without them.
            taught: by the dense model.
        """
        outputs = self.answer(model, inputs, known)
        state = self.task.state(self.seen.value, known).float()
        near = functional.mse_loss(state, taught.state) / taught.state.pow(2).mean()
        return self.of_logits(outputs, inputs, known, taught.logits) + near, outputs

    def answer(self, model: nn.Module, inputs: dict[str, Any], known: dict[str, Tensor]) -> Any:
        """What the model returns, given labels where it makes the loss itself."""
        return ask(model, known if self.task.own_loss else inputs, self.task.config)

    def of_logits(self, outputs: Any, inputs: dict[str, Any], known: dict[str, Tensor], taught: Tensor) -> Tensor:
        """The task's loss, and how far the logits are from the dense model's."""
        return self.task.loss(outputs, inputs) + self.apart(outputs, known, taught)

    def apart(self, outputs: Any, known: dict[str, Tensor], taught: Tensor) -> Tensor:
        """How far the logits are from others."""
        said, mask = self.task.logits(outputs, known).float(), known.get("attention_mask")
        return distillation_loss(said, taught, self.task.kind, self.temperature, mask)
