"""Compare an exported program with the model that it was made from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..elimination.enter import Enter
from ..elimination.extract import Extracted, HardExtract
from ..elimination.rows import text_rows
from ..errors import AnswersError, ExportError
from ..evaluation.inference import has_numbers
from ..graph.splice import eliminating_encoder
from ..graph.support import is_marked
from ..tasks import ask
from .formats import FORMATS
from .program import KEPT
from .runtime import ExportedModel, feed_of, open_program

__all__ = ["Parity", "compare", "require_numbers"]

Batch = Mapping[str, Tensor]

# In fp32: largest difference of a logit (times the largest logit where that is above 1), and share of word vectors kept
# otherwise, for what two runtimes round differently may tip the balance between two word vectors that are as good.
_LARGEST, _OTHERWISE = 1e-4, 0.01
# In int8: root mean square of the differences over that of the logits around their mean, and share of word vectors.
_RELATIVE_INT8, _OTHERWISE_INT8 = 0.3, 0.3


@dataclass(frozen=True)
class Parity:
    """How far an exported program is from its model on the same texts.

    Args:
        examples: texts that went through both.
        largest_difference: of any logit.
        relative_difference: root mean square of the differences, over that of the logits around their mean.
        largest_logit: the largest absolute logit.
        kept: word vectors that the model keeps, over all texts and layers; 0 for a dense model.
        kept_otherwise: those of them that the program doesn't keep.
    """

    examples: int
    largest_difference: float
    relative_difference: float
    largest_logit: float
    kept: int
    kept_otherwise: int

    def require(self, *, int8: bool) -> None:
        """Raise ExportError where the program is further from its model than rounding (or int8) explains."""
        otherwise = self.kept_otherwise / max(1, self.kept)
        if int8:
            measure, value, bound = "relative difference of the logits", self.relative_difference, _RELATIVE_INT8
            repair = "export it without int8"
        else:
            measure, value = "largest difference of a logit", self.largest_difference
            bound = _LARGEST * max(1.0, self.largest_logit)
            repair = "please report it, with the versions of the runtime"
        if not math.isfinite(value):
            raise ExportError(f"The program answers with NaN or infinity where the model doesn't: {repair}.")
        if value > bound:
            raise ExportError(f"The {measure} to the model is {value:.2g}, above {bound:.2g}: {repair}.")
        share = _OTHERWISE_INT8 if int8 else _OTHERWISE
        if otherwise > share:
            raise ExportError(
                f"The program keeps {otherwise:.1%} of the word vectors otherwise than the model, above {share:.0%}: "
                f"{repair}."
            )


@torch.inference_mode()
def require_numbers(model: PreTrainedModel, batches: Iterable[Batch]) -> None:
    """Refuse a model that answers padded batches with NaN or infinity: AnswersError."""
    for batch in batches:
        if not has_numbers(model(**batch), batch["attention_mask"]):
            raise AnswersError(type(model).__name__, "answers with NaN or infinity to the texts that it is compared on")


@torch.inference_mode()
def compare(model: PreTrainedModel, directory: Path, texts: Sequence[Batch], batches: Sequence[Batch]) -> Parity:
    """Run the same texts through a model and through the directory that it was exported to.

    Args:
        texts: each text alone, without padding: which word vectors are kept is compared here, and the logits.
        batches: the same texts in padded batches: the logits are compared here.

    Raises:
        ExportError: the program can't be run.
    """
    training = model.training
    model.eval()
    try:
        exported = ExportedModel(directory)
        given, made = [], []
        for batch in (*batches, *texts):  # of more shapes than the one that was traced
            expected, found = ask(model, batch, model.config), exported(**batch)
            real = batch["attention_mask"].bool()
            for name in exported.output_names:
                given.append(_real(expected[name], real))
                made.append(_real(found[name], real))
        kept, otherwise = _compare_kept(model, directory, texts) if is_marked(model.config) else (0, 0)
    finally:
        model.train(training)
    logits, others = np.concatenate(given), np.concatenate(made)
    difference = logits - others
    spread = float(np.sqrt(np.mean((logits - logits.mean()) ** 2)))
    return Parity(
        examples=len(texts),
        # What isn't finite stays so here, and is refused.
        largest_difference=float(np.abs(difference).max()),
        relative_difference=float(np.sqrt(np.mean(difference**2))) / max(spread, 1e-6),
        largest_logit=float(np.abs(logits).max()),
        kept=kept,
        kept_otherwise=otherwise,
    )


def _real(logits: Tensor, real: Tensor) -> NDArray[np.float32]:
    """Logits as one row of numbers; those of padding left out where each token has its own."""
    of_tokens = logits.dim() >= 2 and logits.shape[:2] == real.shape
    values: NDArray[np.float32] = (logits[real] if of_tokens else logits).float().flatten().numpy()
    return values


def _compare_kept(model: PreTrainedModel, directory: Path, texts: Sequence[Batch]) -> tuple[int, int]:
    """Word vectors that the model keeps in all layers, and how many of them the program doesn't."""
    encoder = eliminating_encoder(model)
    rules = cast(Enter, encoder.get_submodule("enter")).rules
    modules = [module for module in encoder.children() if isinstance(module, HardExtract)]
    dropping = [module for module in modules if (rule := rules[module.layer]) is None or rule.drops]
    if not dropping:
        return 0, 0
    program = next(form.program for form in FORMATS.values() if (directory / form.program).is_file())
    inside = [KEPT.format(layer=module.layer) for module in dropping]
    names, outputs, run, _ = open_program(directory / program, outputs=inside)
    kept = otherwise = 0
    for text in texts:
        length = text["input_ids"].shape[1]
        results = dict(zip(outputs, run(feed_of(text, names)), strict=True))
        found = _positions(length, [results[name].flatten() for name in inside])
        expected = _positions(length, _rows(model, dropping, text))
        for mine, theirs in zip(expected, found, strict=True):
            kept += len(mine)
            otherwise += len(mine - theirs)
    return kept, otherwise


def _rows(model: PreTrainedModel, modules: Sequence[HardExtract], text: Batch) -> list[NDArray[np.int64] | None]:
    seen: dict[nn.Module, NDArray[np.int64] | None] = {}

    def note(module: nn.Module, args: Any, output: Extracted) -> None:
        seen[module] = None if output.rows is None else text_rows(output.rows).flatten().numpy()

    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        model(**text)
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[module] for module in modules]


def _positions(length: int, rows: Sequence[NDArray[np.int64] | None]) -> list[set[int]]:
    """Positions in the text that leave each layer, from the rows that each layer takes of those before."""
    alive, left = np.arange(length), []
    for taken in rows:
        alive = alive if taken is None else alive[taken]
        left.append(set(alive.tolist()))
    return left
