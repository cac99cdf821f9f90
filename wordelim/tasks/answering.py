"""Span question answering: the answer is a piece of the context (SQuAD)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from ..data.cells import items_of, mapping_of, shown, whole
from ..data.columns import Columns, find_columns
from ..data.encode import INPUTS, Encoded, column_values, length_limit, texts_in
from ..data.usable import Unusable, each_row
from ..errors import DataError
from .metrics import Metric, mean
from .task import Array, Logits, Task, TextsOf, Worst
from .worst import worst_units

__all__ = ["Answering"]

# Tokens that two windows of one context share, and that an answer may have: as in SQuAD's own baselines.
_OVERLAP, _LONGEST = 128, 30
_BEST = 20
_ANSWERS = ("answers", "answer")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


class Answering(Task):
    """A context longer than the model reads is several windows, a row each; a unit is a question."""

    title = "question answering"
    pipeline_tag = "question-answering"
    takes_metrics = False
    kind = "spans"
    names = ()
    targets = ("start_positions", "end_positions")

    def find_columns(self, data: datasets.Dataset, **names: Any) -> Columns:
        existing = {name.casefold(): name for name in reversed(data.column_names)}
        if names.get("text") is None and names.get("text_pair") is None:
            names["text"], names["text_pair"] = existing.get("question"), existing.get("context")
        if names.get("label") is None:
            names["label"] = next((existing[name] for name in _ANSWERS if name in existing), None)
        found = find_columns(data, **names)
        if isinstance(found.label, tuple):
            raise DataError(f"The columns {', '.join(found.label)} can't all hold the answers: name one with --label.")
        if found.text_pair is None:
            raise DataError("Question answering needs a question and a context: name both with --text and --text-pair.")
        return found

    def encode(self, data: datasets.Dataset, columns: Columns, *, max_length: int | None = None) -> Encoded:
        assert columns.text_pair is not None
        if not self.tokenizer.is_fast:
            raise DataError("The tokenizer doesn't say where a token stands: save a fast one beside the model.")
        questions = texts_in(data, columns.text, "--text", blank_allowed=False)
        contexts = texts_in(data, columns.text_pair, "--text-pair", blank_allowed=False)
        limit = length_limit(self.tokenizer, self.config, max_length, pair=True)
        if limit is not None:
            ids = self.tokenizer(questions, add_special_tokens=False, verbose=False)["input_ids"]
            special = self.tokenizer.num_special_tokens_to_add(pair=True)
            asked = max(each_row(partial(_asked, room=limit - special), ids))
        room = None if limit is None else max(0, min(_OVERLAP, (limit - asked) // 2))
        encoded = self.tokenizer(
            questions,
            contexts,
            truncation=False if limit is None else "only_second",
            max_length=limit,
            stride=room or 0,
            return_overflowing_tokens=limit is not None,
            return_offsets_mapping=True,
            verbose=False,
        )
        count = len(encoded["input_ids"])
        owners = encoded.get("overflow_to_sample_mapping", list(range(count)))
        rows: dict[str, list[Any]] = {name: encoded[name] for name in INPUTS if name in encoded}
        if getattr(self.config, "type_vocab_size", 0) < 2:
            rows.pop("token_type_ids", None)
        # Where a token of the context stands in it; of other tokens -1.
        spans = [
            [span if part == 1 else (-1, -1) for span, part in zip(spans, encoded.sequence_ids(row), strict=True)]
            for row, spans in enumerate(encoded["offset_mapping"])
        ]
        rows["spans"] = [[list(span) for span in row] for row in spans]
        rows["question"] = list(owners)
        rows["context"] = [contexts[owner] for owner in owners]
        if columns.label is not None:
            golds = each_row(_golds, column_values(data, columns.label), contexts)
            rows["golds"] = [[text for _, text in golds[owner]] or [""] for owner in owners]
            ends = [_positions(span, golds[owner]) for span, owner in zip(spans, owners, strict=True)]
            rows["start_positions"], rows["end_positions"] = map(list, zip(*ends, strict=True))
        rows["length"] = [len(ids) for ids in rows["input_ids"]]
        return Encoded(datasets.Dataset.from_dict(rows), count - len(questions), rows["length"])

    def require(self, encoded: datasets.Dataset, part: str) -> None:
        if part != "test" and not any(end > 0 for end in encoded["end_positions"]):
            raise DataError("No context holds an answer: give questions that are answered in their contexts.")

    def logits(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([output.start_logits, output.end_logits], -1)

    def metrics(self) -> Mapping[str, Metric]:
        columns = {"f1": 1, "exact_match": 0}
        return {
            name: Metric(name, parts=_matches, finish=partial(mean, column=column), right=_is_exact)
            for name, column in columns.items()
        }

    def units(self, encoded: datasets.Dataset) -> Array:
        return np.unique(self.rows(encoded), return_inverse=True)[1]

    def rows(self, encoded: datasets.Dataset) -> Array:
        return np.asarray(encoded["question"])

    def _first_rows(self, encoded: datasets.Dataset) -> Array:
        return np.unique(self.rows(encoded), return_index=True)[1]

    def truth(self, encoded: datasets.Dataset) -> Array:
        golds = encoded["golds"]
        found = np.empty(len(first := self._first_rows(encoded)), dtype=object)
        for unit, row in enumerate(first):
            found[unit] = tuple(golds[int(row)])
        return found

    def answers(self, metric: Metric, logits: Array, encoded: datasets.Dataset) -> Array:
        units, spans, contexts = self.units(encoded), encoded["spans"], encoded["context"]
        found = np.full(units.max() + 1, "", dtype=object)
        best, nothing = np.full(len(found), -np.inf), np.full(len(found), np.inf)
        answerless = any(gold == "" for golds in encoded["golds"] for gold in golds)
        for row, unit in enumerate(units):
            span = np.asarray(spans[row])
            score, start, end = _best_span(logits[row, : len(span)], span)
            nothing[unit] = min(nothing[unit], logits[row, 0].sum())
            if score > best[unit]:
                best[unit], found[unit] = score, contexts[row][start:end]
        if answerless:
            found[nothing > best] = ""
        return found

    def unit_lengths(self, encoded: datasets.Dataset) -> Sequence[int]:
        lengths = np.asarray(encoded["length"])
        return [int(lengths[row]) for row in self._first_rows(encoded)]

    def clusters(self, encoded: datasets.Dataset) -> Array:
        contexts = encoded["context"]
        return np.unique([contexts[int(row)] for row in self._first_rows(encoded)], return_inverse=True)[1]

    def worst(self, metric: Metric, logits: Logits, encoded: datasets.Dataset, texts_of: TextsOf) -> Worst:
        truth, rows = self.truth(encoded), np.unique(self.rows(encoded))
        answers = [self.answers(metric, each, encoded) for each in logits]
        values = [_matches(truth, each)[:, 1] for each in answers]
        said = [[golds[0] for golds in truth], *(list(each) for each in answers)]
        return worst_units(values, lambda unit: texts_of(int(rows[unit])), said=said, rows=rows)

    def state(self, hidden_states: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        return hidden_states[inputs["attention_mask"].bool()]


def _asked(ids: Sequence[int], room: int) -> int:
    """Tokens of a question, which leave room for at least one of its context."""
    if len(ids) >= room:
        raise Unusable(f"has a question of {len(ids)} tokens, which leaves no room for a context: raise --max-length.")
    return len(ids)


def _golds(value: Any, context: str) -> list[tuple[int, str]]:
    """Where each right answer starts, and its text; none where the context has no answer."""
    found = mapping_of(value)
    if found is None and items_of(value) == []:
        return []
    texts, starts = ((found or {}).get(name) for name in ("text", "answer_start"))
    if isinstance(texts, str) and items_of(starts) is None:
        texts, starts = [texts], [starts]
    texts, starts = items_of(texts), items_of(starts)
    if texts is None or starts is None or len(texts) != len(starts):
        raise Unusable(
            f'has no answers in the form of SQuAD: {shown(value)}; give {{"text": [...], "answer_start": [...]}}.'
        )
    golds = []
    for text, start in zip(texts, map(whole, starts), strict=True):
        if not isinstance(text, str) or start is None or start < 0 or context[start : start + len(text)] != text:
            raise Unusable(
                f"has the answer {shown(text)}, which doesn't stand in its context at character {start}: correct "
                "answer_start, or leave the row out (--skip-bad-rows)."
            )
        golds.append((start, text))
    return golds


def _positions(spans: Sequence[Sequence[int]], golds: Sequence[tuple[int, str]]) -> tuple[int, int]:
    """First and last token of the first answer; the first token of all where the window doesn't hold it whole."""
    if not golds:
        return 0, 0
    start, text = golds[0]
    inside = [at for at, (a, b) in enumerate(spans) if a >= 0 and b > start and a < start + len(text)]
    if not inside or spans[inside[0]][0] > start or spans[inside[-1]][1] < start + len(text):
        return 0, 0
    return inside[0], inside[-1]


def _best_span(logits: Array, spans: Array) -> tuple[float, int, int]:
    """The best score of a span in the context, and its characters."""
    inside = np.flatnonzero(spans[:, 0] >= 0)
    if not len(inside):
        return -np.inf, 0, 0
    starts, ends = (inside[np.argsort(-logits[inside, side], kind="stable")[:_BEST]] for side in (0, 1))
    scores = logits[starts, 0][:, None] + logits[ends, 1][None]
    fits = (ends[None] >= starts[:, None]) & (ends[None] < starts[:, None] + _LONGEST)
    if not fits.any():
        at = starts[0]
        return float(logits[at].sum()), int(spans[at, 0]), int(spans[at, 1])
    scores = np.where(fits, scores, -np.inf)
    first, last = np.unravel_index(int(scores.argmax()), scores.shape)
    return float(scores.max()), int(spans[starts[first], 0]), int(spans[ends[last], 1])


def _matches(truth: Array, answers: Array) -> Array:
    """Exact match, F1 of words, and 1, of each question: the best over its right answers (Rajpurkar et al., 2016)."""
    parts = np.ones((len(truth), 3))
    for row, (golds, answer) in enumerate(zip(truth, answers, strict=True)):
        pairs = [_match(gold, answer) for gold in golds]
        parts[row, :2] = max(exact for exact, _ in pairs), max(f1 for _, f1 in pairs)
    return parts


def _is_exact(truth: Array, answers: Array) -> Array:
    return np.asarray(_matches(truth, answers)[:, 0] == 1)


@lru_cache(maxsize=1 << 16)
def _match(gold: str, answer: str) -> tuple[float, float]:
    right, said = _words(gold), _words(answer)
    if not right or not said:
        return float(right == said), float(right == said)
    common = sum((Counter(right) & Counter(said)).values())
    return float(right == said), 2 * common / (len(right) + len(said))


def _words(text: str) -> list[str]:
    """SQuAD's normal form: lower case, without punctuation and articles."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split()
