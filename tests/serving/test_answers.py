"""Texts that many ask at once are each taken as they were asked."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import save
from wordelim.errors import DataError, WordelimError
from wordelim.serving.answers import Answers, require_served, together
from wordelim.serving.requests import RequestError

SOME = Retention.fractions([0.7, 0.4, 0.2])


@given(lengths=st.lists(st.integers(1, 60)), budget=st.integers(1, 200))
def test_texts_of_like_length_go_together(lengths, budget):
    batches = list(together(lengths, budget))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[place] for place in batch) <= budget or len(batch) == 1
    if budget >= sum(lengths) and len(set(lengths)) == 1:
        assert len(batches) == 1


def test_what_is_padded_is_bounded(served, monkeypatch):
    """A long text and many short ones, which padded to it would take the memory of as many long ones."""
    embedder, seen = Answers.of(served / "embedder", device="cpu"), []
    rows = [embedder.encode((text, None)) for text in ("good " * 40, *["bad film"] * 30)]
    alone = [embedder.answer([row])[0] for row in rows]
    monkeypatch.setattr("wordelim.serving.answers._PADDED", 100)
    said = embedder._said
    monkeypatch.setattr(embedder, "_said", lambda rows: seen.append(rows) or said(rows))
    assert embedder.answer([]) == []
    for found, expected in zip(embedder.answer(rows), alone, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    assert len(seen) > 1
    assert all(len(rows) * max(row.tokens for row in rows) <= 100 for rows in seen)


def test_texts_of_millions_of_characters_are_not_read(answers):
    endless = "good " * 200_000
    with pytest.raises(RequestError, match="1,000,000 characters, and 500,000 are read at most"):
        answers.encode((endless, None))
    assert answers.encode((endless, None), truncate=True).tokens == answers.longest


@pytest.mark.parametrize(
    ("directory", "options", "match"),
    [
        ("dense", {}, "holds no compressed model"),
        ("newer", {}, "version 99"),
        ("nowhere/at/all", {}, "doesn't exist"),
        ("classifier", {"speed": 2}, "has no speed 2: it was compressed for one alone"),
        ("classifier", {"speed": "fast"}, "'fast' is no number"),
        ("embedder", {"pairs": True}, "takes single texts"),
        ("tagger", {}, "BertForTokenClassification isn't served here"),
        ("nameless", {}, "names no class"),
    ],
)
def test_what_cannot_be_served_shows_without_its_weights(served, make_model, make_tokenizer, directory, options, match):
    if directory in ("tagger", "nameless"):
        head = {"head": "token"} if directory == "tagger" else {}
        save(wordelim.eliminate_(make_model("bert", **head), SOME), make_tokenizer("bert"), served / directory)
        if not head:
            config = json.loads((served / directory / "config.json").read_text())
            (served / directory / "config.json").write_text(json.dumps(config | {"architectures": None}))
    with pytest.raises(WordelimError, match=match):
        require_served(served / directory, **options)
    assert [require_served(served / name) for name in ("classifier", "embedder")] == [False, True]


@pytest.fixture(scope="module")
def answers(served):
    return Answers.of(served / "classifier", device="cpu")


def test_threads_that_cut_and_threads_that_do_not_leave_each_other_alone(answers):
    limit, long = answers.longest, "good bad " * 200
    short = "good bad " * (limit // 4)

    def encoded(number):
        if number % 3 == 2:
            with pytest.raises(RequestError, match="402 tokens"):
                answers.encode((long, None))
            return limit
        return answers.encode((long if number % 3 else short, None), truncate=bool(number % 3)).tokens

    alone = [encoded(number) for number in range(3)]
    assert alone[0] < alone[1] == limit
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(encoded, range(450))] == alone * 150


def test_an_embedding_of_more_tokens_than_the_model_has_positions_for_is_refused(served, tmp_path):
    directory = shutil.copytree(served / "embedder", tmp_path / "embedder")
    parts = [("", "sentence_transformers.models.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")]
    modules = [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (path, kind) in enumerate(parts)]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    for tokens, match in ((500, "than the 64 that the model has.*: correct max_seq"), (2, "no room for text")):
        (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": tokens}))
        with pytest.raises(DataError, match=match):
            Answers.of(directory, device="cpu")
