"""Which words of a text survive, layer by layer."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from wordelim.adapters.family import chooses

from ..data.cells import require_unicode
from ..data.problem import problem_type
from ..data.usable import Unusable
from ..elimination.extract import Extracted
from ..elimination.rows import text_rows
from ..elimination.significance import by_map, received_attention
from ..errors import AnswersError, DataError, UnsupportedModelError
from ..evaluation.inference import has_numbers
from ..graph.passes import extraction_nodes
from ..graph.splice import eliminating_encoder
from ..report.explanation import Explanation, Word
from ..tasks import ask
from .words import words_of

__all__ = ["explain"]


@torch.inference_mode()
def explain(model: PreTrainedModel, tokenizer: Any, text: str, text_pair: str | None = None) -> Explanation:
    """Run one text through a compressed model and note which word vectors leave each layer.

    Raises:
        UnsupportedModelError: the model isn't compressed.
        AnswersError: the model answers with NaN or infinity.
        DataError: there is no word in the text.

    Example:
        >>> seen = wordelim.explain(wordelim.load("my-bert-fast"), tokenizer, train[0]["text"])
        >>> seen.layers, seen.depth[0]
        (6, 6)
    """
    encoder = eliminating_encoder(model)
    if chooses(model):
        raise UnsupportedModelError(f"{type(model).__name__} chooses among several texts: explain follows one text.")
    texts = (text,) if text_pair is None else (text, text_pair)
    if not text.strip():
        raise DataError("The text is blank: give one with at least one word.")
    for given in texts:
        try:
            require_unicode(given)
        except Unusable as error:
            raise DataError(f"The text {error}") from None
    stages = [encoder.get_submodule(str(node.target)) for node in extraction_nodes(encoder.graph)]
    kept: dict[nn.Module, Tensor | None] = {}
    received: dict[nn.Module, Tensor] = {}

    def note(module: Any, args: Any, output: Extracted) -> None:
        kept[module] = None if output.rows is None else text_rows(output.rows)
        query, key, value, tokens = args[:4]
        numbers = None if output.rows is None or module is stages[-1] else tokens.entered.map_of(module.layer)
        if numbers is None:
            found = received_attention(query, key, None, module.attention.scaling)
        else:
            found = by_map(value, numbers, None).softmax(1)
        received[module] = found[0].float().cpu()

    hooks = [module.register_forward_hook(note) for module in stages]
    training = model.training
    model.eval()
    try:
        inputs = tokenizer(*texts, return_tensors="pt", truncation=True).to(model.device)
        output = ask(model, inputs, model.config)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if not has_numbers(output, inputs["attention_mask"]):
        raise AnswersError("The model", f"answers {reprlib.repr(text)} with NaN or infinity")
    length = inputs["input_ids"].shape[1]
    alive = torch.arange(length)
    depth = [0] * length
    significance: list[list[float | None]] = []
    for module in stages:
        rows, values = kept[module], received[module][: len(alive)]  # behind them a package
        row: list[float | None] = [None] * length
        for position, value in zip(alive.tolist(), (values / values.mean()).tolist(), strict=True):
            row[position] = round(value, 3)
        significance.append(row)
        alive = alive if rows is None else alive[rows.flatten().cpu()]
        for position in alive.tolist():
            depth[position] += 1
    tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    words, read = _words(inputs, texts, tokens, depth)
    return Explanation(tokens, depth, len(stages), _said(model, output), texts, words, significance, read)


def _words(
    inputs: Any, texts: Sequence[str], tokens: Sequence[str], depth: Sequence[int]
) -> tuple[list[Word], list[int]]:
    """Words and special tokens in the order of the tokens, and how many characters of each text have a token."""
    if not inputs.is_fast:  # it doesn't say which characters a token stands for
        return [Word(token, 0, 0, 0, (i,), depth[i]) for i, token in enumerate(tokens)], [len(text) for text in texts]
    encoding = inputs.encodings[0]
    parts = [
        None if special else part
        for part, special in zip(encoding.sequence_ids, encoding.special_tokens_mask, strict=True)
    ]
    found, read = [], []
    for part, text in enumerate(texts):
        offsets = [span if owner == part else None for owner, span in zip(parts, encoding.offsets, strict=True)]
        read.append(max((span[1] for span in offsets if span), default=0) if encoding.overflowing else len(text))
        for (start, end), mine in words_of(text, offsets):
            found.append(Word(text[start:end], part, start, end, mine, max(depth[token] for token in mine)))
    for position, owner in enumerate(parts):
        if owner is None:
            found.append(Word(tokens[position], None, 0, 0, (position,), depth[position]))
    return sorted(found, key=lambda word: word.tokens[0]), read


def _said(model: PreTrainedModel, output: Any) -> str:
    logits = output.get("logits")
    if logits is None or logits.dim() != 2:  # an answer for each token, or a span
        return ""
    names = {index: str(name) for index, name in (model.config.id2label or {}).items()}
    kind, values = problem_type(model.config), logits[0]
    if kind == "regression":
        return ", ".join(f"{value:.3f}" for value in values.tolist())
    if kind == "multi_label_classification":
        said = [names.get(i, str(i)) for i, value in enumerate(values.tolist()) if value > 0]
        return ", ".join(said) or "none of its labels"
    return names.get(best := int(values.argmax()), str(best))
