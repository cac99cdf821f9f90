"""From the texts of requests to a model's answers, for engines that batch but know no model."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, TextClassificationPipeline

from ..checkpoint.directory import load, require_compressed
from ..checkpoint.loading import class_of, load_tokenizer
from ..checkpoint.sentence_transformers import companions, embedding_of
from ..data.encode import INPUTS, length_limit
from ..errors import AnswersError, DataError, UnsupportedModelError
from ..graph.laid import call_laid
from ..graph.speeds import parse, retention_at
from ..graph.splice import retention_of
from ..graph.support import is_marked
from ..system.machine import move, open_device
from ..system.memory import give_back_memory
from ..tasks.embedding import Embedding, embeds
from .requests import Item, RequestError

__all__ = ["Answers", "Row", "require_served", "together"]

_TRIMMED = 16
"""Batches after which memory that is freed but held is given back: each has other shapes."""
_PADDED = 8192
"""Positions that are computed together where texts are padded, padding included."""
_CHARACTERS = 500_000
"""The longest text that is read at all: far more than any model has positions for."""
_NO_NUMBER = ("The model", "answers with NaN or infinity to a text")


class Row(NamedTuple):
    """A text, or a pair of them, as the model takes it.

    Args:
        inputs: lists of numbers by name, of one length.
        top_k: how many labels the answer has: ``...`` for the best one alone, outside a list; None for all.
    """

    inputs: Mapping[str, list[int]]
    top_k: Any

    @property
    def tokens(self) -> int:
        """How many, special ones included."""
        return len(self.inputs["input_ids"])


class Answers:
    """A classifier, reranker or embedding model, called with texts.

    Texts of any length share a batch. In a compressed classifier or reranker nothing is padded; where something is, as
    in embedding models, texts of like length are computed together.

    Args:
        model: compressed, or dense for comparison.
        embedding: how an embedding is made, of a model without a head.
        device: None for the accelerator that is there, else the processor.

    Raises:
        UnsupportedModelError: the head is another.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, embedding: Embedding | None = None, *, device: str | None = None
    ) -> None:
        name = type(model).__name__
        _require_head(name)
        self.model = move(model, open_device(device)).eval()
        self.tokenizer = tokenizer
        self._alone = threading.Lock()  # where to cut is noted in the tokenizer, for all threads
        self._batches = 0
        self.embedding = (embedding or Embedding()) if embeds(name) else None
        self._laid = is_marked(model.config) and self.embedding is None and not retention_of(model).restore
        self._pipeline = None
        if self.embedding is None:
            self._pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device)
        asked = None if self.embedding is None else self.embedding.max_length
        kinds = (False, True) if self.embedding is None else (False,)
        try:
            self._limits = {pair: length_limit(tokenizer, model.config, asked, pair=pair) for pair in kinds}
        except DataError as error:
            if asked is None:
                raise
            reason = str(error).partition(";")[0]
            raise DataError(f"{reason}: correct max_seq_length in sentence_bert_config.json.") from error
        types = getattr(model.config, "type_vocab_size", 0) > 1
        self._names = [name for name in INPUTS if types or name != "token_type_ids"]

    @classmethod
    def of(cls, directory: str | os.PathLike[str], *, speed: float | None = None, device: str | None = None) -> Answers:
        """Those of a compressed directory; WordelimError where it can't be loaded or isn't compressed."""
        model = load(directory, speed=speed)
        embedding = embedding_of(companions(directory), type(model).__name__)
        return cls(model, load_tokenizer(directory), embedding, device=device)

    @property
    def longest(self) -> int | None:
        """Tokens that a text may have; None where there is no limit."""
        return self._limits[False]

    def encode(self, item: Item, *, truncate: bool = False, top_k: Any = ...) -> Row:
        """A text as the model takes it; RequestError where it is too long, unless it may be cut."""
        text, pair = item
        if self.embedding is not None:
            if pair is not None:
                raise RequestError("An embedding is of one text: leave text_pair out.")
            text = self.embedding.prompt + text
            text = text.lower() if self.embedding.lower_case else text
        limit = self._limits[pair is not None]
        if truncate:
            text, pair = text[:_CHARACTERS], None if pair is None else pair[:_CHARACTERS]
        characters = max(len(part) for part in (text, pair or ""))
        if characters > _CHARACTERS:
            raise RequestError(
                f"A text has {characters:,} characters, and {_CHARACTERS:,} are read at most: shorten it, or have it "
                'cut with "truncate": true.',
                status=413,
            )
        cut = {"truncation": True, "max_length": limit} if truncate and limit is not None else {}
        with self._alone:
            encoded = self.tokenizer(text, pair, return_attention_mask=True, verbose=False, **cut)
        tokens = len(encoded["input_ids"])
        if limit is not None and tokens > limit:
            raise RequestError(
                f"A text has {tokens} tokens, but the model takes {limit}: shorten it, or have it cut with "
                '"truncate": true.',
                status=413,
            )
        return Row({name: encoded[name] for name in self._names if name in encoded}, top_k)

    @torch.inference_mode()
    def answer(self, rows: Sequence[Row]) -> list[Any]:
        """What the model says to each text, in their order: as transformers' pipeline does, or an embedding.

        An AnswersError stands for an answer of NaN or infinity.
        """
        self._batches += 1
        if self._batches % _TRIMMED == 0:
            give_back_memory()
        everything = [list(range(len(rows)))] if rows else []
        answers: dict[int, Any] = {}
        for places in everything if self._laid else together([row.tokens for row in rows], _PADDED):
            chosen = [rows[place] for place in places]
            said = self._said(chosen).float().cpu()
            finite = said.flatten(1).isfinite().all(1).tolist()
            for place, row, one, sound in zip(places, chosen, said, finite, strict=True):
                answers[place] = self._shown(one, row) if sound else AnswersError(*_NO_NUMBER)
        return [answers[place] for place in range(len(rows))]

    def _said(self, rows: Sequence[Row]) -> Tensor:
        """Logits [rows, outputs], or embeddings [rows, size]."""
        if self._laid:
            flat = {
                name: torch.tensor([number for row in rows for number in row.inputs[name]], device=self.model.device)
                for name in rows[0].inputs
            }
            lengths = [row.tokens for row in rows]
            logits: Tensor = call_laid(self.model, flat["input_ids"], lengths, flat.get("token_type_ids")).logits
            return logits
        padded = self.tokenizer.pad([dict(row.inputs) for row in rows], return_tensors="pt").to(self.model.device)
        output = self.model(**padded)
        if self.embedding is None:
            return output.logits  # type: ignore[no-any-return]
        return self.embedding.of(output.last_hidden_state, padded["attention_mask"])

    def _shown(self, said: Tensor, row: Row) -> Any:
        if self._pipeline is None:
            return said.tolist()
        asked = {} if row.top_k is ... else {"top_k": row.top_k, "_legacy": False}
        return self._pipeline.postprocess({"logits": said[None]}, **asked)


def together(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of texts to compute together, the longest first: padded to the longest, no more tokens than the budget.

    A text that is longer than the budget stands alone.

    Args:
        lengths: tokens of each text.
        budget: tokens, padding included.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def require_served(directory: str | os.PathLike[str], *, pairs: bool = False, speed: float | None = None) -> bool:
    """Whether a compressed directory holds an embedding model; refuse, without its weights, what can't be served.

    Args:
        directory: where it is, or its hub name.
        pairs: whether it is to be asked about pairs of texts.
        speed: the one that is to be served; None for the one that its config names.

    Raises:
        CheckpointError, RetentionError: it can't be loaded, isn't compressed, or has no such speed.
        UnsupportedModelError: its head isn't served.
    """
    config = require_compressed(directory)
    name = class_of(str(directory), config).__name__
    _require_head(name)
    if pairs and embeds(name):
        raise UnsupportedModelError(f"{directory} holds an embedding model, which takes single texts: leave pairs out.")
    if speed is not None:
        entry = config["quantization_config"]
        retention_at(speed, parse(entry.get("speeds", {}), entry), str(directory))
    return embeds(name)


def _require_head(name: str) -> None:
    if not name.endswith("ForSequenceClassification") and not embeds(name):
        raise UnsupportedModelError(
            f"{name} isn't served here, which serves classifiers, rerankers and embedding models: call "
            "transformers.pipeline on the directory after import wordelim."
        )
