"""How rivals are trained: the project's own Trainer, its schedule, batches and teacher, with a loss of the rival's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from wordelim.errors import TrainingError
from wordelim.tasks import ask
from wordelim.training.distillation import DistillationTrainer, _quick_backward, distillation_loss
from wordelim.training.teacher import ROW, Said

__all__ = ["RivalTrainer"]


class RivalTrainer(DistillationTrainer):
    """Trains a model on the task's loss, on the dense model's logits, and on what the head reads of its last states.

    It is what elimination learns from; a rival that learns from something else says so in :meth:`learn`.
    """

    def compute_loss(  # type: ignore[override]
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        self.compressed.eval()  # no dropout, as everywhere
        known = {name: value for name, value in inputs.items() if name not in self.task.targets}
        with self.accelerator.autocast():
            taught = self.teacher(known)
        for each in (known, inputs):
            each.pop(ROW, None)
        with _quick_backward(self.args.device):
            loss, outputs = self.learn(model, inputs, known, taught)
        if not bool(loss.isfinite()):
            raise TrainingError(f"The training loss became {loss.item()}: lower --learning-rate.")
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
        return ask(model, known if self.task.own_loss else inputs, self.task.config)

    def of_logits(self, outputs: Any, inputs: dict[str, Any], known: dict[str, Tensor], taught: Tensor) -> Tensor:
        """The task's loss, and how far the logits are from the dense model's."""
        return self.task.loss(outputs, inputs) + self.apart(outputs, known, taught)

    def apart(self, outputs: Any, known: dict[str, Tensor], taught: Tensor) -> Tensor:
        """How far the logits are from others."""
        said, mask = self.task.logits(outputs, known).float(), known.get("attention_mask")
        return distillation_loss(said, taught, self.task.kind, self.temperature, mask)
