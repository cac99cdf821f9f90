"""A text's own words, whatever its tokenizer makes of them."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import wordelim
from wordelim import Retention
from wordelim.errors import DataError
from wordelim.report.survival import pieces
from wordelim.verbs.explain import explain
from wordelim.verbs.words import words_of


def cut(text, *tokens):
    """The words of ``text`` with the tokens given as pieces of it, found from left to right."""
    offsets, at = [], 0
    for token in tokens:
        at = text.index(token, at)
        offsets.append((at, at + len(token)))
        at += len(token)
    return [(text[slice(*span)], tokens) for span, tokens in words_of(text, offsets)]


@pytest.mark.parametrize(
    ("text", "tokens", "words"),
    [
        ("It isn't bad.", ["It", "isn", "'", "t", "bad", "."], {"It": 1, "isn't": 3, "bad": 1, ".": 1}),
        ("do n't go", ["do", "n", "'", "t", "go"], {"do": 1, "n't": 3, "go": 1}),
        ("un watch able", ["un", " watch", " able"], {"un": 1, "watch": 1, "able": 1}),  # the space before counts to it
        ("हिन्दी फिल्म", ["ह", "िन", "्दी", "फिल्म"], {"हिन्दी": 3, "फिल्म": 1}),  # vowel signs are no word ends
        (
            "这部电影不好",
            ["这", "部", "电影", "不好"],
            {"这": 1, "部": 1, "电影": 1, "不好": 1},
        ),  # no spaces between words
        ("هذا فيلم", ["ه", "ذا", "فيلم"], {"هذا": 2, "فيلم": 1}),
        ("well...no", ["well", "...", "no"], {"well": 1, "...": 1, "no": 1}),  # a token of three signs is one word
    ],
)
def test_words_of(text, tokens, words):
    assert {word: len(mine) for word, mine in cut(text, *tokens)} == words


def test_what_has_no_token_is_no_word():
    assert words_of("good film", [(0, 4), None]) == [((0, 4), (0,))]


@pytest.fixture
def letters(make_model):
    """A compressed BERT whose tokenizer makes a token of every character, as it is written, and says where it lies."""
    signs = "abcdefghijklmnopqrstuvwxyz.'这部电影不好مرحباعل،"
    vocabulary = {sign: i for i, sign in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(signs)][:64])}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")])
    built.decoder = decoders.Fuse()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=built, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=40,
    )  # fmt: skip
    return wordelim.eliminate_(make_model("bert"), Retention.fractions([0.6, 0.3, 0.0])), tokenizer


def written(explanation):
    """Each text as it is shown, without special tokens."""
    shown = [[text for text, word, _ in part if word is None or word.part is not None] for part in pieces(explanation)]
    return ["".join(part) for part in shown]


@pytest.mark.parametrize(
    "texts",
    [
        ("It isn't  Good, friend.",),
        ("  这部电影 不好。", "مرحبا عل،\n"),
        ("Good", "bad \N{CLAPPER BOARD} Film"),
        ("Ümlaut é",),
    ],
)
def test_the_users_own_text_is_shown_whole(letters, texts):
    explanation = explain(*letters, *texts)
    assert written(explanation) == list(texts)
    for word in explanation.words:
        if word.part is not None:
            assert texts[word.part][word.start : word.end] == word.text
    tokens = [token for word in explanation.words for token in word.tokens]
    assert tokens == list(range(len(explanation.tokens)))


def test_a_word_is_as_deep_as_its_deepest_token(letters):
    explanation = explain(*letters, "some words of a text")
    words = [word for word in explanation.words if word.part is not None]
    assert [word.text for word in words] == ["some", "words", "of", "a", "text"]
    for word in explanation.words:
        assert word.depth == max(explanation.depth[token] for token in word.tokens)
    assert len({word.depth for word in words}) > 1


def test_significance_decides_what_survives(letters):
    explanation = explain(*letters, "some words of a text")
    for layer in (0, 1):
        alive = [i for i, value in enumerate(explanation.significance[layer]) if value is not None]
        assert alive == [i for i, depth in enumerate(explanation.depth) if depth >= layer]
        values = [explanation.significance[layer][i] for i in alive]
        assert sum(values) / len(values) == pytest.approx(1.0, abs=1e-3)
        left = [explanation.significance[layer][i] for i in alive[1:] if explanation.depth[i] > layer]
        gone = [explanation.significance[layer][i] for i in alive[1:] if explanation.depth[i] <= layer]
        assert min(left) >= max(gone)


def test_what_is_cut_is_said(letters):
    text = "abc " * 20
    explanation = explain(*letters, text)
    assert explanation.read == [len("abc " * 12) + 2]  # 38 letters beside the two special tokens
    assert written(explanation) == [text]
    # A word that was read in part is shown as read.
    unread_from = explanation.read[0] + 1
    assert "".join(piece for piece, _, unread in pieces(explanation)[0] if unread) == text[unread_from:]
    assert explain(*letters, "abc ").read == [4]


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_blank_text_is_refused(letters, text):
    with pytest.raises(DataError, match="blank"):
        explain(*letters, text)


def test_a_text_of_special_tokens_alone(letters):
    explanation = explain(*letters, "[SEP] [CLS]")
    assert all(word.part is None or word.text in ("[SEP]", "[CLS]") for word in explanation.words)
    assert len(explanation.tokens) == 4


@pytest.mark.parametrize("texts", [("good \ud83d film",), ("good film", "\udc80")])
def test_half_a_character_is_refused(letters, texts):
    with pytest.raises(DataError, match=r"The text has half a character, '\\ud"):
        explain(*letters, *texts)
