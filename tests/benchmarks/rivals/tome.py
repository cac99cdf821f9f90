"""ToMe: token merging (Bolya et al., 2023), on texts.

Between attention and feed-forward of each layer but the last, rows in even places are matched with those in odd places
by the cosine of their keys (the mean over heads), and the most alike are merged into these: a mean weighted by how many
word vectors each stands for, by whose logarithm it is attended to more (proportional attention). The first token is
never merged. How many: a share of the text's tokens in every layer, the same for all. Strength: the FLOPs ratio.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from wordelim.training.distillation import DistillationTrainer

from .layers import Attention
from .packed import PackedEncoder, Rows
from .rival import Given, Rival, Shape, bisect, counted_flops, dense_flops

__all__ = ["Merging", "Tome", "merge"]

_TEXTS = 128  # that FLOPs are counted on


class Merging(PackedEncoder):
    """An encoder that merges.

    Args:
        share: of a text's tokens that are merged into others in each layer.
    """

    def __init__(self, model: PreTrainedModel, share: float) -> None:
        super().__init__(model)
        self.share = share

    def begin(self, real: Tensor) -> Any:
        return real.float(), (self.share * real.sum(1)).floor().long()

    def prior(self, state: Any) -> Tensor | None:
        return state[0].clamp(min=1.0).log()

    def lessen(
        self,
        index: int,
        attention: Attention,
        x: Tensor,
        rows: Rows,
        p: Tensor,
        key: Tensor,
        value: Tensor,
        state: Any,
    ) -> tuple[Tensor, Rows, Any]:
        sizes, counts = state
        x = attention.project(rows.pack(self.context(p, value)), x)
        if rows.real.shape[1] < 3 or not bool(counts.any()):
            return x, rows, state
        merged, sizes, stays = merge(rows.pad(x), key.mean(1), sizes, rows.real, counts)
        left, order = rows.choose(stays)
        chosen = merged.gather(1, order[..., None].expand(-1, -1, merged.shape[2]))
        return left.pack(chosen), left, (sizes.gather(1, order), counts)


def merge(x: Tensor, keys: Tensor, sizes: Tensor, real: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Merge rows in even places into the most alike in odd places.

    Args:
        x: [batch, rows, width].
        keys: [batch, rows, size], by which they are alike.
        sizes: [batch, rows], for how many word vectors each stands.
        real: [batch, rows] bool.
        counts: [batch], how many to merge; as many as there are where these are fewer.

    Returns:
        Rows and sizes as they are then, and which of the rows stay.
    """
    keys = functional.normalize(keys.detach().float(), dim=-1)
    alike = keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)
    alike = alike.masked_fill(~(real[:, ::2, None] & real[:, None, 1::2]), float("-inf"))
    alike[:, 0] = float("-inf")
    best, into = alike.max(-1)
    rank = best.argsort(dim=1, descending=True, stable=True).argsort(1)
    gone = (rank < counts[:, None]) & best.isfinite()
    given = sizes[:, ::2] * gone
    total = sizes[:, 1::2].scatter_add(1, into, given)
    odd = (x[:, 1::2].float() * sizes[:, 1::2, None]).scatter_add(
        1, into[..., None].expand(-1, -1, x.shape[2]), x[:, ::2].float() * given[..., None]
    ) / total.clamp(min=1.0)[..., None]
    x, sizes, stays = x.clone(), sizes.clone(), real.clone()
    x[:, 1::2], sizes[:, 1::2] = odd.to(x.dtype), total
    stays[:, ::2] &= ~gone
    return x, sizes, stays


class Tome(Rival):
    """Rows that are alike become one."""

    def train(self, given: Given, strength: float) -> tuple[PreTrainedModel, Shape]:
        texts = given.sample("train", _TEXTS)
        model = self.build(given.dense, {"share": 0.0}).requires_grad_(True)
        encoder = model.base_model.encoder
        whole = dense_flops(given.dense).spent(texts["length"])

        def ratio(share: float) -> float:
            encoder.share = share
            return whole / counted_flops(model, texts, given.task)

        encoder.share = bisect(ratio, strength, 0.0, 0.5)
        given.fit(DistillationTrainer, model)
        return model, {"share": encoder.share}

    def build(self, dense: PreTrainedModel, shape: Shape) -> PreTrainedModel:
        model = copy.deepcopy(dense)
        model.base_model.encoder = Merging(model, shape["share"])
        return model
