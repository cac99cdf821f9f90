"""Which words a compressed model drops early, and which late, over a whole data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedModel

from ..data.columns import Columns, find_columns
from ..data.encode import texts_in
from ..data.read import Data, read
from ..data.usable import Skipped, usable
from ..errors import DataError
from ..graph.splice import retention_of
from ..report.explanation import Explanation
from ..system.progress import expect
from .explain import explain

__all__ = ["NEGATIONS", "audit"]

_ENGLISH = "no not n't never none nobody nothing nowhere neither nor cannot without"
_GERMAN = "nicht kein keine keinen keinem keiner nie niemals nichts ohne"
_FRENCH = "ne pas jamais aucun aucune rien sans"
_OTHERS = "nunca nada nadie ningún ninguna sin non mai niente senza nem não sem niet geen nooit zonder"

NEGATIONS = frozenset(f"{_ENGLISH} {_GERMAN} {_FRENCH} {_OTHERS}".split())
"""Words that turn a statement round, in lower case."""

_SHOWN = 20


def audit(
    model: PreTrainedModel,
    tokenizer: Any,
    data: Data,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    skip_bad_rows: bool = False,
    watch: Collection[str] = NEGATIONS,
    limit: int = 500,
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> dict[str, Any]:
    """Follow the words of many texts through a compressed model.

    Args:
        data: texts, as a path, a hub name or a data set; labels aren't needed.
        text, text_pair: names of the columns, where they aren't the usual ones.
        delimiter, encoding: of a data file, where they aren't the usual ones; see :func:`wordelim.data.read.read`.
        skip_bad_rows: leave out rows that can't be used, and list them in the result, instead of refusing them.
        watch: words that are counted by themselves, in any case; English ones that end in n't count as not.
        limit: how many texts, drawn at random, are followed at most.

    Returns:
        As plain data: ``earliest`` and ``latest`` words (those seen often enough, by the mean share of layers that they
        survive), ``watched`` words beside ``words`` altogether, ``special`` tokens, and what became of ``protected``
        positions.

    Raises:
        AnswersError: the model answers a text with NaN or infinity.
        UnsupportedModelError: the model isn't compressed.
        DataError: the data set has no column of texts, no rows, or a row without text.

    Example:
        >>> found = wordelim.audit(wordelim.load("my-bert-fast"), tokenizer, "dev.csv")
        >>> found["texts"]
        24
    """
    protected_first = retention_of(model).protected_first
    skipped = Skipped() if skip_bad_rows else None
    data = read(data, delimiter=delimiter, encoding=encoding, skipped=skipped)
    columns = find_columns(data, text=text, text_pair=text_pair, need_label=False)
    if not len(data):
        raise DataError("The data set has no rows; it needs at least one.")
    if skipped is not None:
        data, _ = usable(partial(_require_texts, columns=columns), data, skipped)
    chosen = sorted(np.random.default_rng(seed).permutation(len(data))[:limit].tolist())
    seen: defaultdict[str, list[int]] = defaultdict(list)
    watched: list[tuple[str, int]] = []
    special: list[int] = []
    protected = [0, 0]
    layers = 0
    names = [name for name in (columns.text, columns.text_pair) if name is not None]
    expect(progress, {"following words": 1.0})
    for done, number in enumerate(chosen, start=1):
        row = data[number]
        texts = [_text(row[name], name, number, blank_allowed=name != columns.text) for name in names]
        found = explain(model, tokenizer, *texts)
        layers = found.layers
        for word in found.words:
            if word.part is None:
                special.append(word.depth)
                continue
            name = word.text.casefold()
            seen[name].append(word.depth)
            if name in watch or (name.endswith(("n't", "n’t")) and "not" in watch):
                watched.append((name, word.depth))
        protected[0] += min(protected_first, len(found.tokens))
        protected[1] += _dropped_too_early(found, protected_first)
        progress("following words", done / len(chosen))
    often = max(3, len(chosen) // 100)
    rows = [_row(name, depths, layers) for name, depths in seen.items() if len(depths) >= often]
    rows.sort(key=lambda row: (row["survives"], -row["seen"], row["word"]))
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for name, depth in watched:
        by_name[name].append(depth)
    everything = [depth for depths in seen.values() for depth in depths]
    return {
        "texts": len(chosen),
        **({} if skipped is None else skipped.to_dict()),
        "layers": layers,
        "seen_at_least": often,
        "earliest": rows[:_SHOWN],
        "latest": sorted(rows[_SHOWN:], key=lambda row: (-row["survives"], -row["seen"], row["word"]))[:_SHOWN],
        "words": _row("all words", everything, layers),
        "watched": _row("watched words", [depth for _, depth in watched], layers),
        "each_watched": sorted((_row(n, d, layers) for n, d in by_name.items()), key=lambda row: -row["seen"]),
        "special": _row("special tokens", special, layers),
        "protected": {"positions": protected[0], "dropped": protected[1]},
    }


def _require_texts(data: datasets.Dataset, columns: Columns) -> None:
    for name, option in ((columns.text, "--text-column"), (columns.text_pair, "--pair-column")):
        if name is not None:
            texts_in(data, name, option, blank_allowed=name != columns.text)


def _text(value: Any, column: str, number: int, *, blank_allowed: bool) -> str:
    if not isinstance(value, str) or not (blank_allowed or value.strip()):
        raise DataError(f"Row {number + 1} has no text in column {column!r}; fill it in or leave the row out.")
    return value


def _dropped_too_early(found: Explanation, protected_first: int) -> int:
    """Protected positions that went before the deepest layer that keeps more than the first token."""
    last = max(found.depth[1:], default=0)
    return sum(depth < last for depth in found.depth[:protected_first])


def _row(word: str, depths: list[int], layers: int) -> dict[str, Any]:
    """How often, and how deep on average: the share of layers survived, and of occurrences left after each layer."""
    values = np.asarray(depths)
    return {
        "word": word,
        "seen": len(depths),
        "survives": round(float(values.mean()) / layers, 3) if len(depths) else None,
        "left": [round(float((values > layer).mean()), 3) if len(depths) else None for layer in range(layers)],
    }
