"""Run a model over encoded texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad
from transformers import PreTrainedModel

from ..data.encode import INPUTS
from ..errors import AnswersError
from ..tasks import Task, ask
from ..tasks import batches as task_batches

__all__ = ["batches", "has_numbers", "logits_of"]


def batches(
    encoded: datasets.Dataset, tokenizer: Any, order: Sequence[int], batch_size: int, **pad: Any
) -> Iterator[dict[str, torch.Tensor]]:
    """Padded batches of single sequences, taken in ``order``; ``pad`` goes to the tokenizer's padding."""
    inputs = encoded.select_columns([name for name in INPUTS if name in encoded.column_names])
    for start in range(0, len(order), batch_size):
        rows = inputs[list(order[start : start + batch_size])]
        yield dict(tokenizer.pad(rows, return_tensors="pt", **pad))


@torch.inference_mode()
def logits_of(
    model: PreTrainedModel,
    encoded: datasets.Dataset,
    task: Task,
    *,
    batch_size: int = 32,
    bf16: bool = False,
    progress: Callable[[int], None] = lambda done: None,
    who: str = "The model",
) -> NDArray[np.float32]:
    """Logits of every example, [examples, outputs] fp32 in the data set's order.

    Of a head that answers for each token they are [examples, tokens, outputs], with NaN behind the last token of an
    example. Texts are batched by length, so that there is little padding. The model is left in the mode that it was in.

    Args:
        task: what its head is asked.
        bf16: compute in bf16 where autocast knows how.
        progress: called with the number of examples done after each batch.
        who: what an error calls the model.

    Raises:
        AnswersError: a logit is NaN or infinite.
    """
    order = np.argsort(np.asarray(encoded["length"]), kind="stable")[::-1].tolist()
    device, training = model.device, model.training
    results: list[torch.Tensor] = []
    numbers: list[torch.Tensor] = []
    done = 0
    model.eval()
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            for batch in task_batches(encoded, task, order, batch_size):
                inputs = {name: values.to(device) for name, values in batch.items()}
                found = task.logits(ask(model, inputs, task.config), inputs).float()
                finite = found.isfinite()
                if found.dim() == 3:
                    padding = ~inputs["attention_mask"].bool()[..., None]
                    finite, found = finite | padding, found.masked_fill(padding, torch.nan)
                numbers.append(finite.flatten(1).all(1).cpu())
                results.append(found.cpu())
                done += len(results[-1])
                progress(done)
    finally:
        model.train(training)
    if results[0].dim() == 3:
        width = max(found.shape[1] for found in results)
        results = [pad(found, (0, 0, 0, width - found.shape[1]), value=torch.nan) for found in results]
    logits = torch.empty_like(stacked := torch.cat(results))
    logits[order] = stacked
    bad = np.empty(len(order), dtype=bool)
    bad[order] = ~torch.cat(numbers).numpy()
    if bad.any():
        rows = task.rows(encoded)
        wrong, examples = (len(np.unique(of)) for of in (rows[bad], rows))
        raise AnswersError.counted(who, wrong, examples, int(rows[bad].min()) + 1, logits.numpy())
    return logits.numpy()


def has_numbers(output: Any, mask: torch.Tensor) -> bool:
    """Whether what a model returned for a batch is finite at every real token.

    Args:
        output: with ``logits``, ``start_logits`` and ``end_logits``, or ``last_hidden_state``.
        mask: the attention mask, [batch, tokens].
    """
    real = mask.bool()
    for name in ("logits", "start_logits", "end_logits", "last_hidden_state"):
        values = output.get(name) if isinstance(output, Mapping) else None
        if values is None:
            continue
        of_tokens = (values.dim() == 3 or name != "logits") and values.shape[:2] == real.shape
        if not bool((values[real] if of_tokens else values).isfinite().all()):
            return False
    return True
