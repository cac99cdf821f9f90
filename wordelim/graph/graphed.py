"""Whole models by CUDA graphs: embeddings, encoder and head in one replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput

from wordelim.adapters import family_of

from ..elimination.card.engine import LONGEST, Buffers, planned
from ..elimination.card.graphs import GRAPHS, Capture, Graphs, capture
from ..elimination.card.plan import Bucket
from ..elimination.card.watched import Watched
from ..elimination.mask import lengths_of
from .card import OnACard
from .encoder import EliminatingEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Graphed"]


class Graphed:
    """A model that is called as it is itself, and takes no time of the host's for its launches.

    On a card calls in inference are replayed, one graph for inputs of a size: of a dense model those of one shape, of a
    compressed one texts that share a :class:`.plan.Bucket`. What can't be replayed (a model in training, gradients, a
    compressed model that the engine doesn't serve, on a CPU anything) is called as ever.

    A compressed model reads the lengths of its texts from the mask: where that is still on the CPU, nothing waits.

    Args:
        model: dense or compressed.
        capture: how graphs are made.
        most: how many are kept.
    """

    def __init__(self, model: PreTrainedModel, capture: Capture = capture, most: int = GRAPHS) -> None:
        self.model = model
        self._graphs: Graphs[Any] = Graphs(capture, most)
        self._watched: Watched | None = None
        self._stamp: Any = None

    def __call__(self, **inputs: Any) -> Any:
        """What the model returns for inputs [batch, tokens]; they may be on the CPU."""
        encoder = self._encoder()
        if not self._can_replay(inputs) or (encoder is not None and not self._serves(encoder, inputs)):
            device = self.model.device
            return self.model(
                **{n: each.to(device) if isinstance(each, Tensor) else each for n, each in inputs.items()}
            )
        return self._dense(inputs) if encoder is None else self._compressed(encoder, inputs)

    def _encoder(self) -> EliminatingEncoder | None:
        base: Any = getattr(self.model, "base_model", None)
        found = getattr(base, family_of(self.model).encoder, None) if hasattr(self.model, "config") else None
        return found if isinstance(found, EliminatingEncoder) else None

    def _can_replay(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether these are a batch's tokens, and the model is where and what it was, in inference on a card."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled(self.model.device.type):
            return False
        if (
            not OnACard.is_card(self.model.device)
            or any(values.dim() != 2 for values in inputs.values())
            or "labels" in inputs
        ):
            return False
        if self._watched is None or not self._watched.in_place():
            own = [name for name, each in self.model.named_modules() if each._parameters or each._buffers]
            self._watched = Watched(self.model, own, [name for name, _ in self.model.named_modules() if name])
        return self._watched.plain()

    def _serves(self, encoder: EliminatingEncoder, inputs: Mapping[str, Tensor]) -> bool:
        """Whether all that an encoder is asked can be planned from the lengths of the texts."""
        known = {"input_ids", "attention_mask", "token_type_ids", "position_ids"}
        plain = "input_ids" in inputs and inputs["input_ids"].shape[1] <= LONGEST and inputs.keys() <= known
        if not plain or encoder.retention.protects_by_token:
            return False
        longest = inputs["input_ids"].shape[1]
        return encoder.on_a_card.engine(encoder, self.model.dtype, self.model.device, longest) is not None

    def _dense(self, inputs: Mapping[str, Tensor]) -> Any:
        key = tuple((name, values.shape, values.dtype) for name, values in sorted(inputs.items()))

        def make() -> tuple[dict[str, Tensor], Callable[[], Any]]:
            static = {name: torch.zeros_like(values, device=self.model.device) for name, values in inputs.items()}
            return static, lambda: self.model(**static)

        with self._replayable(key, make) as (static, work):
            for name, values in inputs.items():
                static[name].copy_(values, non_blocking=True)
            return _copied(work())

    def _compressed(self, encoder: EliminatingEncoder, inputs: Mapping[str, Tensor]) -> Any:
        ids, config, retention = inputs["input_ids"], self.model.config, encoder.retention
        mask = inputs.get("attention_mask")
        lengths = (ids.shape[1],) * len(ids) if mask is None else lengths_of(mask.bool())
        bucket = Bucket.of(lengths)
        after = int(config.pad_token_id) + 1 if family_of(self.model).positions_after_padding else 0
        width = min(bucket.longest, getattr(config, "max_position_embeddings", LONGEST) - after)
        key = (retention, bucket, *sorted((name, values.dtype) for name, values in inputs.items()))

        def make() -> tuple[tuple[dict[str, Tensor], Buffers], Callable[[], Any]]:
            device, entering = self.model.device, getattr(config, family_of(self.model).width)
            buffers = Buffers(retention, bucket, entering, self.model.dtype, device, False)
            static = {
                name: torch.zeros(bucket.texts, width, dtype=values.dtype, device=device)
                for name, values in inputs.items()
            }

            def work() -> Any:
                with planned(buffers):
                    return self.model(**static)

            return (static, buffers), work

        with self._replayable(key, make) as ((static, buffers), work):
            buffers.plan(lengths, None, width)
            longest, batch = max(lengths), len(lengths)
            for name, values in inputs.items():
                static[name][:batch, :longest].copy_(values[:, :longest], non_blocking=True)
            return _copied(work(), bucket.texts, batch)

    def _replayable(self, key: Any, make: Callable[[], tuple[Any, Callable[[], Any]]]) -> Any:
        assert self._watched is not None
        if self._watched.stamp() != self._stamp:
            self._graphs.clear()
            self._stamp = self._watched.stamp()
        return self._graphs.of(key, self.model.device, make)


def _copied(output: ModelOutput, texts: int = 0, batch: int = 0) -> Any:
    """An output of its own, without the texts that only the buffers have room for."""
    found = {}
    for name, values in output.items():
        if isinstance(values, Tensor):
            values = (values[:batch] if texts and values.shape[0] == texts else values).clone()
        found[name] = values
    return type(output)(**found)
