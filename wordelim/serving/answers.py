"""From the texts of requests to a model's answers, for engines that batch but know no model."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, TextClassificationPipeline

from ..checkpoint.directory import load
from ..checkpoint.loading import load_tokenizer
from ..checkpoint.sentence_transformers import companions, embedding_of
from ..data.encode import INPUTS, length_limit
from ..errors import AnswersError, UnsupportedModelError
from ..graph.laid import call_laid
from ..graph.support import is_marked
from ..system.machine import move, open_device
from ..system.memory import give_back_memory
from ..tasks.embedding import Embedding, embeds
from .requests import Item, RequestError

__all__ = ["Answers", "Row"]

# Batches after which memory that is freed but held is given back: each has other shapes.
_TRIMMED = 16


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

    Texts of any length share a batch: of a compressed model nothing is padded.

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
        if not name.endswith("ForSequenceClassification") and not embeds(name):
            raise UnsupportedModelError(
                f"{name} isn't served here, which serves classifiers, rerankers and embedding models: call "
                "transformers.pipeline on the directory after import wordelim."
            )
        self.model = move(model, open_device(device)).eval()
        self.tokenizer = tokenizer
        self._alone = threading.Lock()  # where to cut is noted in the tokenizer, for all threads
        self._batches = 0
        self.embedding = (embedding or Embedding()) if embeds(name) else None
        self._pipeline = None
        if self.embedding is None:
            self._pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device)
        asked = None if self.embedding is None else self.embedding.max_length
        self._limits = {
            pair: length_limit(tokenizer, model.config, None, pair=pair) if asked is None else asked
            for pair in (False, True)
        }
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
        with self._alone:
            encoded = self.tokenizer(text, pair, return_attention_mask=True, verbose=False)
            tokens = len(encoded["input_ids"])
            if limit is not None and tokens > limit:
                if not truncate:
                    raise RequestError(
                        f"A text has {tokens} tokens, but the model takes {limit}: shorten it, or have it cut with "
                        '"truncate": true.',
                        status=413,
                    )
                encoded = self.tokenizer(text, pair, truncation=True, max_length=limit, return_attention_mask=True)
        return Row({name: encoded[name] for name in self._names if name in encoded}, top_k)

    @torch.inference_mode()
    def answer(self, rows: Sequence[Row]) -> list[Any]:
        """What the model says to each text, in their order: as transformers' pipeline does, or an embedding.

        An AnswersError stands for an answer of NaN or infinity.
        """
        self._batches += 1
        if self._batches % _TRIMMED == 0:
            give_back_memory()
        said = self._said(rows).float().cpu()
        finite = said.flatten(1).isfinite().all(1).tolist()
        return [
            self._shown(one, row) if sound else AnswersError("The model", "answers with NaN or infinity to a text")
            for one, row, sound in zip(said, rows, finite, strict=True)
        ]

    def _said(self, rows: Sequence[Row]) -> Tensor:
        """Logits [rows, outputs], or embeddings [rows, size]."""
        if self.embedding is None and is_marked(self.model.config):
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
