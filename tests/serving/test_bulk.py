"""Columns of texts are answered as wordelim.load answers each text alone."""

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
import torch

from wordelim.errors import AnswersError, DataError, WordelimError
from wordelim.serving.bulk import Scorer

NAMES = ("bad", "good", "neither")


@pytest.fixture(scope="module")
def scorer(served):
    return Scorer(served / "classifier", device="cpu", max_tokens=100)


def test_texts_and_pairs_in_batches_of_like_length(served, texts, expected, scorer):
    scores, _ = expected
    paired = Scorer(served / "classifier", "a", "b", device="cpu")
    for found, wanted in (
        (scorer({"text": np.array(texts, dtype=object), "id": np.arange(len(texts))}), scores[: len(texts)]),
        (paired({"a": texts, "b": texts[::-1]}), scores[len(texts) :]),
    ):
        assert found["label"].tolist() == [NAMES[place] for place in wanted.argmax(1)]
        torch.testing.assert_close(torch.tensor(found["score"]), wanted.max(1).values, atol=1e-5, rtol=0)
    assert len(set(found["label"])) > 1 or found["score"].std() > 1e-3


def test_batches_hold_no_more_tokens_than_they_may(texts, scorer, monkeypatch):
    seen, answer = [], scorer._answers.answer
    monkeypatch.setattr(scorer._answers, "answer", lambda rows: seen.append(rows) or answer(rows))
    scorer({"text": texts * 3})
    assert 1 < len(seen) < len(texts) * 3
    assert all(sum(row.tokens for row in rows) <= 100 or len(rows) == 1 for rows in seen)


def test_embeddings_and_rows_without_a_text(served, texts, expected):
    embed = Scorer(served / "embedder", device="cpu")
    found = embed({"text": [texts[0], None, " \n", *texts[1:]]})["embedding"]
    assert found.dtype == np.float32
    assert np.isnan(found[1:3]).all()
    torch.testing.assert_close(torch.tensor(np.delete(found, [1, 2], 0)), expected[1], atol=1e-5, rtol=0)
    assert np.isnan(embed({"text": [None]})["embedding"]).all()
    assert embed({"text": []})["embedding"].shape == (0, found.shape[1])


def test_labels_where_there_is_no_text_or_too_much_of_it(scorer):
    found = scorer({"text": [None, "good " * 10_000, ""]})
    cut = scorer({"text": ["good " * 62]})
    assert found["label"].tolist() == ["", cut["label"][0], ""]
    assert found["score"].tolist() == pytest.approx([float("nan"), cut["score"][0], float("nan")], nan_ok=True)


@pytest.mark.parametrize(
    ("batch", "match"),
    [
        ({"review": ["good"], 1: [1]}, "no column 'text'; the columns are review, 1"),
        ({"text": ["good"], "label": [0]}, "a column 'label' already: give a prefix"),
        ({"text": ["good", 7]}, "Row 2 has 7 in column 'text', a int: give texts"),
        ({"text": [b"good"]}, "Row 1 has b'good' in column 'text', a bytes"),
        ({"text": [np.array([1, 2])]}, "Row 1 has .* a ndarray"),
        ({"text": ["good \ud800"]}, "Row 1 has half a character"),
        ({"text": "good"}, "column 'text' is 'good': give one list"),
        ({"text": None}, "column 'text' is None: give one list"),
        ({"text": {"good": 1}}, "column 'text' is {'good': 1}: give one list"),
        ({"text": np.array("good")}, "column 'text' is array"),
        (pyarrow.table({"text": ["good"]}), "The batch is a Table: give columns by name"),
    ],
)
def test_batches_that_are_refused(scorer, batch, match):
    with pytest.raises(DataError, match=match):
        scorer(batch)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"prefix": None}, "prefix is None"),
        ({"text": ""}, "name is ''"),
        ({"text": None, "text_pair": "a"}, "name is None"),
        ({"directory": "embedder", "text_pair": "b"}, "takes single texts"),
        ({"directory": "dense"}, "holds no compressed model"),
        ({"directory": "newer"}, "version 99"),
        ({"speed": 9}, "has no speed 9"),
    ],
)
def test_arguments_that_are_refused(served, given, match):
    options = {"directory": "classifier", **given}
    with pytest.raises(WordelimError, match=match):
        Scorer(served / options.pop("directory"), device="cpu", **options)


@pytest.mark.parametrize(
    "column", [list, np.array, pyarrow.array, pandas.Series, lambda of: pyarrow.chunked_array([of])]
)
def test_columns_of_every_library(scorer, column):
    found = scorer({"text": column(["good film", "a bad film"])})
    assert found["label"].tolist() == scorer({"text": ["good film", "a bad film"]})["label"].tolist()
    gaps = scorer({"text": pandas.Series(["good film", pandas.NA, pandas.NaT, np.float32("nan")], dtype=object)})
    assert gaps["label"].tolist() == [found["label"][0], "", "", ""]


def test_as_many_columns_as_it_takes(served, scorer):
    paired = Scorer(served / "classifier", "a", "b", device="cpu")
    for given, columns, match in (
        (scorer, (["good"], ["bad"]), "2 columns of texts are given: give 1"),
        (paired, (["good"],), "1 columns of texts are given: give 2"),
        (paired, (["good", "bad"], ["bad"]), "have 2 and 1 rows"),
    ):
        with pytest.raises(DataError, match=match):
            given.score(*columns)


def test_an_answer_that_is_no_number_ends_it(scorer, monkeypatch):
    monkeypatch.setattr(scorer._answers, "answer", lambda rows: [AnswersError("The model", "answers with NaN")])
    with pytest.raises(AnswersError, match="NaN"):
        scorer({"text": ["good"]})


def test_new_columns_stand_beside_gold_labels(scorer, monkeypatch):
    monkeypatch.setattr(scorer, "_prefix", "said_")
    assert list(scorer({"text": ["good film"], "label": [1]})) == ["text", "label", "said_label", "said_score"]


def test_datasets_map_it(texts, expected, scorer):
    rows = datasets.Dataset.from_dict({"text": ["", None, *texts]})
    scored = rows.map(scorer, batched=True, batch_size=2)  # of which the first has no text at all
    assert scored["label"] == ["", "", *(NAMES[place] for place in expected[0][: len(texts)].argmax(1))]
