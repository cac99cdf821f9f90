"""Prove on a few rows that a head reads what it is taken to read.

What a head reads is known by the ending of its class's name. A class of somebody's own may bear the name and read
something else, and a module may have been put in the place of transformers' own. With every word vector kept, a spliced
model must answer as the dense one does.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wordelim.adapters.family import Reads, chooses

from ..errors import UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Proof", "is_known"]

_LENGTHS = (23, 4, 12, 7)
# Positions that some families leave unused at the beginning.
_RESERVED = 2
# Where most vocabularies have their special tokens, beside those that the config names.
_MARKS = (1, 2, 3, 4, 101, 102, 103)
# Largest difference that is rounding alone, relative to the largest output. In half precision that is much, but what is
# somebody's own is proven in fp32. On a card products of fp32 may be made of TF32, which is as coarse as fp16.
_ROUNDING = {torch.bfloat16: 0.3, torch.float16: 0.05}
_ROUNDING_IN_FP32 = {"cpu": 1e-3}


def is_known(model: PreTrainedModel, encoder: nn.Module) -> bool:
    """Whether a model's class and every module outside its encoder are transformers' or torch's own, as they are."""
    return type(model).__module__.startswith("transformers.") and _stranger(model, encoder) is None


def _stranger(model: PreTrainedModel, encoder: nn.Module) -> str | None:
    """The first module outside the encoder that is somebody's own."""
    inside = set(encoder.modules())
    for name, module in model.named_modules():
        theirs = type(module).__module__.startswith(("transformers.", "torch.nn."))
        if module not in inside and (not theirs or "forward" in vars(module)):
            return f"{name} ({type(module).__name__})" if name else type(module).__name__
    return None


class Proof:
    """What a dense model answers to a few rows of random tokens, and that a spliced one must answer the same.

    The model computes in eval mode and without gradients; modes and random numbers are left as they were. Hooks take
    part, for they may be part of what the model computes. ``width`` is that of what entered the encoder meanwhile, None
    where nothing ran.

    Args:
        model: the dense model.
        encoder: its encoder.
        reads: what its head is taken to read.

    Raises:
        UnsupportedModelError: the model doesn't run, or nothing can be proven and the class or a module is somebody's
            own.
    """

    def __init__(self, model: PreTrainedModel, encoder: nn.Module, reads: Reads) -> None:
        self.name = type(model).__name__
        self.known = is_known(model, encoder)
        self.stranger = _stranger(model, encoder)
        self.reads = reads
        self.inputs: dict[str, Tensor] = {}
        self.dense: list[Tensor] | None = None
        self.width: int | None = None
        reason = f"its parameters are on the device {model.device}, where nothing runs"
        if model.device.type != "meta":
            self.inputs = _rows(model)
            # Where the layers stand in the base model itself, it calls the first of them.
            first = next(iter(encoder), encoder) if isinstance(encoder, nn.ModuleList) else encoder
            entry = first.register_forward_pre_hook(self._note_width, with_kwargs=True)
            try:
                found = self._ask_dense(model)
            finally:
                entry.remove()
            if not all(bool(values.isfinite().all()) for values in found):
                reason = "it answers NaN or infinity to random tokens"
            elif not self.known and not any(map(_spread, found)):
                reason = "it answers the same to everything"
            else:
                self.dense = found
        if self.dense is None and not self.known:
            raise UnsupportedModelError(
                f"{self.name} can't be served, for {self.stranger or 'it'} isn't transformers' own, and that its head "
                f"reads what its name says can't be proven: {reason}."
            )

    def _note_width(self, encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entered = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        self.width = next((value.shape[-1] for value in entered if value.is_floating_point()), None)

    def _ask_dense(self, model: PreTrainedModel) -> list[Tensor]:
        try:
            return self._ask(model)
        except Exception as error:  # a class of somebody's own may raise anything
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = f"doesn't run when given input_ids and attention_mask ({lines[0].rstrip('.')})"
            if not model.config.return_dict:  # which some of transformers' own heads can't do
                reason = f"doesn't run with return_dict false in its config ({lines[0].rstrip('.')}): set it to true"
            raise UnsupportedModelError(f"{self.name} can't be served, for it {reason}.") from error

    def require(self, spliced: PreTrainedModel) -> None:
        """Refuse a spliced model that keeps everything and answers otherwise: UnsupportedModelError."""
        if self.dense is None:
            return
        try:
            found = self._ask(spliced)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(
                f"{self.name} can't be served, for it asks its encoder for what a compressed one can't give: {error}"
            ) from error
        except Exception:  # a head that is given fewer rows than it reads
            difference = float("inf")
        else:
            difference = self._difference(found)
        largest = max((float(values.abs().max()) for values in self.dense if values.numel()), default=0.0)
        dtype, device = spliced.dtype, spliced.device.type
        rounding = _ROUNDING.get(dtype, _ROUNDING_IN_FP32.get(device, 0.02))
        # What is somebody's own may answer nearly the same to everything, so that its errors are small too.
        scale = largest if self.known else max((_spread(values) for values in self.dense), default=0.0)
        if difference <= rounding * scale + 1e-5 * largest:
            return
        how = f"by up to {difference:.2g}, of {largest:.2g}," if difference < float("inf") else "in another shape"
        if self.reads == "first":
            why = (
                f"{self._whose()} reads more than the first token, which is all that a head of this name is taken to "
                "read: register a wordelim.adapters.Family whose heads say that it reads 'all'"
            )
        else:
            why = f"{self._whose()} reads what stands where there is padding: give it the mask"
        raise UnsupportedModelError(
            f"{self.name} answers {how} otherwise than the dense model when every word vector is kept, so {why}."
        )

    def _whose(self) -> str:
        return "its head" if self.stranger in (None, self.name) else str(self.stranger)

    def _ask(self, model: PreTrainedModel) -> list[Tensor]:
        device = model.device
        cards = [device] if device.type == "cuda" else []
        with (
            _evaluating(model),
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            torch.random.fork_rng(cards),
        ):
            return [values.detach().clone() for values in _floats(model(**self.inputs))]

    def _difference(self, found: list[Tensor]) -> float:
        assert self.dense is not None
        if [values.shape for values in found] != [values.shape for values in self.dense]:
            return float("inf")
        real, largest = self.inputs["attention_mask"].bool(), 0.0
        for before, after in zip(self.dense, found, strict=True):
            apart = (after - before).abs()
            if self.reads == "all" and apart.shape[:2] == real.shape:
                apart = apart[real]
            if apart.numel():
                worst = float(apart.max())
                largest = worst if worst != worst else max(largest, worst)
        return largest


def _rows(model: PreTrainedModel) -> dict[str, Tensor]:
    """Random tokens of a few lengths, padded; for a head that chooses, they are one example's choices.

    The tokens that mark something in most vocabularies stand in the longest row, and where the model tells segments
    apart the latter half of each row is a second one: a head may look for these.
    """
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or max(_LENGTHS)
    lengths = [max(1, min(n, positions - _RESERVED)) for n in _LENGTHS]
    padding = getattr(config, "pad_token_id", None) or 0
    special = {value for name, value in vars(config).items() if name.endswith("token_id") and isinstance(value, int)}
    marks = sorted({token for token in (*special, *_MARKS) if 0 <= token < config.vocab_size} - {padding})
    words = [token for token in range(min(config.vocab_size, 512)) if token not in {*marks, padding}] or marks or [0]
    draw = random.Random(0)
    ids = [draw.choices(words, k=n) for n in lengths]
    places = draw.sample(range(1, len(ids[0])), min(len(marks), len(ids[0]) - 1))
    for place, mark in zip(places, marks, strict=False):
        ids[0][place] = mark
    rows = {
        "input_ids": [[*row, *(padding for _ in range(max(lengths) - len(row)))] for row in ids],
        "attention_mask": [[int(place < n) for place in range(max(lengths))] for n in lengths],
    }
    takes = inspect.signature(model.forward).parameters
    if "token_type_ids" in takes and getattr(config, "type_vocab_size", 0) > 1:
        rows["token_type_ids"] = [[int(n // 2 <= place < n) for place in range(max(lengths))] for n in lengths]
    inputs = {name: torch.tensor(values, device=model.device) for name, values in rows.items()}
    return {name: values[None] for name, values in inputs.items()} if chooses(model) else inputs


def _floats(output: Any) -> Iterator[Tensor]:
    """Every tensor of numbers in a model's output."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, (Mapping, tuple, list)):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _floats(part)


def _spread(values: Tensor) -> float:
    """How far answers are apart."""
    return float(values.max() - values.min()) if values.numel() else 0.0


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode, without a call of ``train``, which classes may have made their own."""
    before = {module: module.training for module in model.modules()}
    for module in before:
        module.training = False
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training
