"""The words of a text, and the tokens that each is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import regex

__all__ = ["words_of"]

# Letters with their marks and digits, an apostrophe inside them (n't, l'eau); or one sign.
_WORD = regex.compile(r"['’]?[\p{L}\p{M}\p{N}_]+(?:['’][\p{L}\p{M}\p{N}_]+)*|[^\s\p{L}\p{M}\p{N}_]")
_NO_SPACES = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"  # scripts that put none between words
)

Span = tuple[int, int]


def words_of(text: str, offsets: Sequence[Span | None]) -> list[tuple[Span, tuple[int, ...]]]:
    """Cut a text into words and say which tokens each is made of.

    A word is a run of letters and digits, or a sign alone. In scripts that put no spaces between words it is as much as
    the tokenizer makes one token. Where a token covers several words, they are one.

    Args:
        offsets: for each token the characters of ``text`` that it stands for, from, to; None for one that stands for
            none of this text.

    Returns:
        The characters and the tokens of each word, in the order of the text; what has no token is left out.
    """
    tokens = [(index, _without_spaces(text, span)) for index, span in enumerate(offsets) if span is not None]
    starts = {start for _, (start, _) in tokens}
    found: list[tuple[Span, tuple[int, ...]]] = []
    waiting = sorted(tokens, key=lambda token: (token[1], token[0]))
    for start, end in _spans(text, starts):
        mine = []
        if found and found[-1][0][1] > start:  # a token of the word before goes on into this one
            (first, last), mine_before = found.pop()
            start, end, mine = first, max(last, end), list(mine_before)
        while waiting and waiting[0][1][0] < end:
            index, (_, last) = waiting.pop(0)
            mine.append(index)
            end = max(end, last)
        if mine:
            found.append(((start, end), tuple(sorted(mine))))
    return found


def _without_spaces(text: str, span: Span) -> Span:
    """Some tokenizers count the space before a word to it."""
    start, end = span
    while start < end - 1 and text[start].isspace():
        start += 1
    return start, end


def _spans(text: str, starts: set[int]) -> Iterator[Span]:
    for match in _WORD.finditer(text):
        start, end = match.span()
        if _NO_SPACES.search(match.group()):
            for cut in sorted(starts & set(range(start + 1, end))):
                yield start, cut
                start = cut
        yield start, end
