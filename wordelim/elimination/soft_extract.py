"""Elimination by degrees, for a search that learns how many word vectors each layer keeps."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .attention import Attention, merge_heads
from .extract import Extracted
from .keep import never_dropped, ranking
from .kernels.positional import turned
from .padded import Padded
from .significance import by_map

__all__ = ["Form", "SoftExtract", "SoftRetention"]

Form = Literal["ramp", "table", "count"]
"""What is learned of a layer.

``ramp``: one number, the share that stays of the word vectors that entered it; those above it stay whole, those below
fade out over a narrow range of ranks. ``table``: a factor at each of some relative ranks, with straight lines between.
``count``: a factor for each rank, as in the paper.
"""

_KNOTS = 65
# What a factor of 0 leaves of a word vector's weight in attention: its logarithm must be finite, to have a gradient.
_FAINT = 1e-5


class SoftRetention(nn.Module):
    """The retention parameters of all layers (PoWER-BERT, section 3.3), in [0, 1] and 1 at first.

    The parameter ``share`` is [layers] for a ramp, else [layers, ranks]. With a ramp layer j keeps the product of the
    shares up to it of each text, so that every share is felt in the layers above it, however little they keep.

    Args:
        layers: how many layers eliminate.
        form: what is learned of a layer.
        ranks: with ``count``, how many ranks have a factor: the length of the longest text. Ignored otherwise.
        protected_first: how many of the first real tokens are never dropped.
    """

    knots: Tensor
    width: Tensor
    price: Tensor

    def __init__(self, layers: int, form: Form = "ramp", *, ranks: int = _KNOTS, protected_first: int = 1) -> None:
        super().__init__()
        self.form = form
        self.protected_first = protected_first
        ranks = ranks if form == "count" else _KNOTS
        self.share = nn.Parameter(torch.ones((layers,) if form == "ramp" else (layers, ranks)))
        self.register_buffer("knots", torch.linspace(0, 1, ranks))
        # Both are a search's own; they are here to be stored with the parameters.
        self.register_buffer("width", torch.tensor(0.5))
        self.register_buffer("price", torch.tensor(0.0))

    @property
    def layers(self) -> int:
        return int(self.share.shape[0])

    def fractions(self) -> Tensor:
        """Kept fraction of each layer [layers], never growing with depth; for ``count`` of the ranks that there are.

        A table's mass is taken relative to its largest factor, for attention undoes a factor that all have in common.
        """
        if self.form == "ramp":
            return self.share.cumprod(0)
        mass = self.share.mean(1) / self.share.amax(1).clamp_min(_FAINT)
        return mass.cummin(0).values

    def tables(self) -> Tensor:
        """Factors [layers, ranks] at evenly spaced relative ranks from 0 to 1, or with ``count`` at each rank."""
        if self.form != "ramp":
            return self.share
        kept = self.fractions()[:, None]
        # Where a share is 1 no rank is below 1, where it is 0 none is above 0.
        return ((kept - self.knots) / self.width + kept).clamp(0, 1)

    def factor(self, layer: int, rank: Tensor, lengths: Tensor, protected: Tensor | None = None) -> Tensor:
        """Factors of word vectors.

        Args:
            rank: [batch, tokens] their ranks by significance, from 0, among the real ones of their text.
            lengths: [batch] real tokens of each text when it entered the encoder.
            protected: [batch] how many word vectors are never dropped; None for ``protected_first``.

        Returns:
            [batch, tokens], 1 for the protected ones, which have the first ranks.
        """
        table = self.tables()[layer]
        if self.form == "count":
            factor = table[rank.clamp_max(len(table) - 1)]
        else:
            place = (rank / lengths[:, None]).clamp_max(1) * (len(table) - 1)
            below = place.floor().clamp_max(len(table) - 2)
            part, below = (place - below).to(table.dtype), below.long()
            factor = torch.lerp(table[below], table[below + 1], part)
        return factor.masked_fill(rank < (self.protected_first if protected is None else protected[:, None]), 1.0)

    @torch.no_grad()
    def clip_(self) -> None:
        """Put the parameters back into [0, 1] after an optimiser's step."""
        self.share.clamp_(0, 1)


class SoftExtract(nn.Module):
    """Attention behind which each word vector counts as much as its layer's retention parameter for its rank says.

    The factor multiplies the weight that the word vector has, as key and as voter on significance, in the attention of
    every later layer. Attention is the only place where word vectors meet: with factors of 1 this is the dense model,
    with 0 the word vector is gone as under hard extraction. A factor on the vector itself would be undone by the next
    normalisation, and then the sum of factors says nothing about how many word vectors are needed.

    Args:
        retention: the parameters of all layers; registered once elsewhere, not here.
        layer: the layer that this is.
        attention: how it attends.
    """

    def __init__(self, retention: SoftRetention, layer: int, attention: Attention) -> None:
        super().__init__()
        self._retention = (retention,)  # in a tuple, so that it isn't registered
        self.layer = layer
        self.attention = attention

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Padded, *extras: Tensor) -> Extracted:
        """All three: [batch, heads, tokens, head size]. The padded layout alone is served.

        ``extras`` go to the attention's ``position``.

        The mask of ``tokens`` is bool behind the encoder's entry; behind the first of these it is what is added to the
        scores: the logarithm of each word vector's weight, [batch, tokens] fp32.
        """
        retention = self._retention[0]
        logarithms = self._logarithms(tokens, query)
        query, key, bias = turned(query, key, tokens, self.attention, extras)
        scores = query @ key.transpose(-1, -2) * self.attention.scaling
        scores = scores if bias is None else scores + bias
        probabilities = (scores + logarithms[:, None, None, :]).softmax(-1)  # the logarithms make them fp32
        with torch.no_grad():
            numbers = tokens.entered.map_of(self.layer)
            if numbers is None:
                significance = (logarithms.exp()[:, None, :, None] * probabilities).sum((1, 2))
            else:
                significance = by_map(value, numbers, logarithms != float("-inf"))
            rank, protected = self._rank(significance, logarithms, tokens.protected)
        dropped = nn.functional.dropout(probabilities.to(value.dtype), self.attention.dropout, self.training)
        lengths = torch.tensor(tokens.lengths, device=query.device)
        factor = retention.factor(self.layer, rank, lengths, protected)
        weaker = (factor + (1 - factor) * _FAINT).log()
        return Extracted(merge_heads(dropped @ value), None, tokens._replace(mask=logarithms + weaker))

    def _logarithms(self, tokens: Padded, query: Tensor) -> Tensor:
        if tokens.mask is not None and tokens.mask.dtype != torch.bool:
            return tokens.mask
        dtype = torch.promote_types(query.dtype, torch.float32)
        logarithms = torch.zeros(query.shape[0], query.shape[2], dtype=dtype, device=query.device)
        return logarithms if tokens.mask is None else logarithms.masked_fill(~tokens.mask, float("-inf"))

    def _rank(self, significance: Tensor, logarithms: Tensor, protected: Tensor | None) -> tuple[Tensor, Tensor]:
        """Ranks [batch, tokens], from 0: the protected ones first, padding last; ties go to the earlier.

        And how many of each text are protected, [batch].
        """
        real = logarithms != float("-inf")
        first = real & never_dropped(significance, self._retention[0].protected_first, real, protected)
        ranked = ranking(significance, first, real, real.shape[1])
        places = torch.arange(ranked.shape[1], device=ranked.device).expand_as(ranked)
        return torch.empty_like(ranked).scatter_(1, ranked, places), first.sum(1)
