"""Columns of texts are answered as wordelim.load answers each text alone."""

import datasets
import numpy as np
import pytest
import torch

from wordelim.errors import AnswersError, DataError
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
    assert found["label"].tolist() == [None, cut["label"][0], None]
    assert found["score"].tolist() == pytest.approx([float("nan"), cut["score"][0], float("nan")], nan_ok=True)


def test_what_is_refused(scorer, monkeypatch):
    with pytest.raises(DataError, match="no column 'text'; the columns are review, id"):
        scorer({"review": ["good"], "id": [1]})
    monkeypatch.setattr(scorer._answers, "answer", lambda rows: [AnswersError("The model", "answers with NaN")])
    with pytest.raises(AnswersError, match="NaN"):
        scorer({"text": ["good"]})


def test_datasets_map_it(texts, expected, scorer):
    scored = datasets.Dataset.from_dict({"text": [*texts, ""]}).map(scorer, batched=True, batch_size=5)
    assert scored["label"] == [*(NAMES[place] for place in expected[0][: len(texts)].argmax(1)), None]
