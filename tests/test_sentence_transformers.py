"""A compressed directory in sentence-transformers: the same numbers as the model called directly."""

import pytest
import torch

import wordelim
from wordelim import Retention
from wordelim.checkpoint import save

sentence_transformers = pytest.importorskip("sentence_transformers")


def test_a_cross_encoder_scores_pairs_as_the_model_does(make_model, make_tokenizer, tmp_path):
    model = wordelim.eliminate_(make_model("bert", labels=1), Retention.fractions([0.7, 0.4, 0.0]))
    tokenizer = make_tokenizer("bert")
    encoder = sentence_transformers.CrossEncoder(str(save(model, tokenizer, tmp_path / "out")), device="cpu")
    pairs = [("good film", "the plot is not very good"), ("a", "film was it not"), ("good", "bad bad film")]
    found = encoder.predict(pairs, activation_fn=torch.nn.Identity(), convert_to_tensor=True)
    queries, answers = map(list, zip(*pairs, strict=True))
    with torch.inference_mode():
        expected = model(**tokenizer(queries, answers, padding=True, return_tensors="pt")).logits[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    dense = wordelim.restore_(model)
    with torch.inference_mode():
        other = dense(**tokenizer(queries, answers, padding=True, return_tensors="pt")).logits[:, 0]
    assert (found - other).abs().max() > 1e-3


def test_an_embedding_is_the_mean_over_all_tokens_with_dropped_ones_back(make_model, make_tokenizer, tmp_path):
    model = wordelim.eliminate_(make_model("bert", head="none"), Retention.fractions([0.7, 0.4, 0.2]))
    tokenizer = make_tokenizer("bert")
    encoder = sentence_transformers.SentenceTransformer(str(save(model, tokenizer, tmp_path / "out")), device="cpu")
    texts = ["good film the plot", "a bad one", "it was not very good and the story was long"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    real = batch["attention_mask"][..., None].float()
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    found = encoder.encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(found, (states * real).sum(1) / real.sum(1), atol=1e-5, rtol=1e-5)
