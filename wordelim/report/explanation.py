"""What became of the words of a text, as data that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Explanation", "Word"]


@dataclass(frozen=True)
class Word:
    """A word of the text as its writer wrote it, or a special token.

    Args:
        text: the word.
        part: 0 for a word of the text, 1 for one of the second text of a pair, None for a special token.
        start, end: its characters in that text; 0 and 0 for a special token.
        tokens: positions of the tokens that it is made of.
        depth: layers that at least one of its word vectors leaves alive, 0..layers.

    Example:
        >>> seen = wordelim.explain(wordelim.load("my-bert-fast"), tokenizer, train[0]["text"])
        >>> word = seen.words[1]  # behind the special token that every text begins with
        >>> word.part, word.text == seen.texts[0][word.start : word.end]
        (0, True)
    """

    text: str
    part: int | None
    start: int
    end: int
    tokens: Sequence[int]
    depth: int


@dataclass(frozen=True)
class Explanation:
    """How far each word vector of a text gets.

    Args:
        tokens: the text as the tokenizer cuts it.
        depth: for each token, the number of layers that its word vector leaves alive, 0..layers.
        layers: layers of the model.
        label: what the model says of the text (for a regression, its score).
        texts: the text as it was given, or both of a pair.
        words: its words and special tokens, in the order of the tokens.
        significance: for each layer and token, the attention that its word vector receives there over what one receives
            on average; None where it was dropped before. In a last layer that is cut to the first token: the attention
            that this one pays.
        read: characters of each text that the model reads; fewer than it has where it was cut.

    Example:
        >>> seen = wordelim.explain(wordelim.load("my-bert-fast"), tokenizer, train[0]["text"])
        >>> seen.layers, seen.depth[0], len(seen.tokens) == len(seen.depth)
        (6, 6, True)
    """

    tokens: Sequence[str]
    depth: Sequence[int]
    layers: int
    label: str
    texts: Sequence[str]
    words: Sequence[Word]
    significance: Sequence[Sequence[float | None]]
    read: Sequence[int]

    def significance_of(self, word: Word) -> list[float | None]:
        """For each layer the greatest significance among a word's vectors; None where all were dropped before."""
        alive = [[layer[token] for token in word.tokens] for layer in self.significance]
        return [max((value for value in values if value is not None), default=None) for values in alive]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)
