"""The classes that vLLM runs compressed models by: texts come and go one behind the other, without padding."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from vllm.model_executor.layers.pooler import DispatchPooler
from vllm.model_executor.layers.pooler.seqwise import pooler_for_classify
from vllm.model_executor.models.interfaces import IsAttentionFree, SupportsCrossEncoding
from vllm.model_executor.models.interfaces_base import attn_type, default_pooling_type
from vllm.utils.gpu_sync_debug import gpu_sync_allowed

from ..checkpoint.directory import load
from ..graph.laid import call_laid
from ..system.machine import move

__all__ = ["WordelimForSequenceClassification", "WordelimModel"]


class _Compressed(nn.Module, IsAttentionFree):  # so that vLLM keeps no keys and values
    is_pooling_model = True

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config
        if not os.path.isdir(directory := config.model):
            directory = snapshot_download(directory, revision=config.revision)
        self.model = move(load(directory, dtype=config.dtype), vllm_config.device_config.device).eval()
        self.pooler = self._pooler(config.pooler_config)

    def _pooler(self, config: Any) -> DispatchPooler:
        raise NotImplementedError

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        """[tokens] to the word embeddings [tokens, width], which vLLM asks no text of."""
        return self.model.get_input_embeddings()(input_ids)  # type: ignore[no-any-return]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """All weights are there: wordelim.load has vetted them."""
        return {name for name, _ in self.named_parameters()}

    def _output(self, input_ids: Tensor, positions: Tensor, token_type_ids: Tensor | None) -> tuple[Any, list[int]]:
        """What the model returns, and where each text begins: a text does where a position is 0."""
        with gpu_sync_allowed():
            starts = (positions == 0).nonzero()[:, 0].tolist()
        lengths = [end - start for start, end in pairwise([*starts, len(positions)])]
        return call_laid(self.model, input_ids, lengths, token_type_ids), starts


@attn_type("encoder_only")
@default_pooling_type(seq_pooling_type="CLS")
class WordelimForSequenceClassification(_Compressed, SupportsCrossEncoding):
    """A classifier or reranker."""

    def _pooler(self, config: Any) -> DispatchPooler:
        return DispatchPooler({"classify": pooler_for_classify(config, classifier=nn.Identity())})

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits [tokens, outputs]; each text's stand in its first row, which is what is pooled."""
        output, starts = self._output(input_ids, positions, token_type_ids)
        logits: Tensor = output.logits
        rows = logits.new_zeros(len(positions), logits.shape[1])
        rows[torch.tensor(starts, device=rows.device)] = logits
        return rows


@attn_type("encoder_only")
@default_pooling_type(seq_pooling_type="MEAN")
class WordelimModel(_Compressed):
    """A model without a head, for embeddings."""

    def _pooler(self, config: Any) -> DispatchPooler:
        return DispatchPooler.for_embedding(config)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [tokens, width], with those that were dropped back in their places."""
        output, starts = self._output(input_ids, positions, None)
        states: Tensor = output.last_hidden_state
        text = torch.zeros_like(positions)
        text[torch.tensor(starts[1:], dtype=torch.long, device=text.device)] = 1
        return states[text.cumsum(0), positions]
