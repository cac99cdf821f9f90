"""Which words of a text survive, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .elimination.extract import Extracted
from .graph.model import eliminating_encoder
from .graph.rewrite import extraction_nodes

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True)
class Explanation:
    """How far each word vector of a text gets.

    Args:
        tokens: the text as the tokenizer cuts it.
        depth: for each token, the number of layers that its word vector leaves alive, 0..layers.
        layers: layers of the model.
        label: what the model says of the text (for a regression, its score).
    """

    tokens: Sequence[str]
    depth: Sequence[int]
    layers: int
    label: str


@torch.inference_mode()
def explain(model: PreTrainedModel, tokenizer: Any, text: str, text_pair: str | None = None) -> Explanation:
    """Run one text through a compressed model and note which word vectors leave each layer.

    Raises:
        UnsupportedModelError: the model isn't compressed.
    """
    encoder = eliminating_encoder(model)
    stages = [encoder.get_submodule(str(node.target)) for node in extraction_nodes(encoder.graph)]
    kept: dict[nn.Module, Tensor | None] = {}

    def note(module: nn.Module, args: Any, output: Extracted) -> None:
        kept[module] = output.rows

    hooks = [module.register_forward_hook(note) for module in stages]
    training = model.training
    model.eval()
    try:
        inputs = tokenizer(text, text_pair, return_tensors="pt", truncation=True).to(model.device)
        logits = model(**inputs).logits[0]
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    ids = inputs["input_ids"][0]
    alive = torch.arange(len(ids))
    depth = [0] * len(ids)
    for module in stages:
        rows = kept[module]
        alive = alive if rows is None else alive[rows.flatten().cpu()]
        for position in alive.tolist():
            depth[position] += 1
    names: Any = model.config.id2label
    label = f"{float(logits):.3f}" if logits.numel() == 1 else names[int(logits.argmax())]
    return Explanation(tokenizer.convert_ids_to_tokens(ids.tolist()), depth, len(stages), label)
