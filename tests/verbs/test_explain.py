"""Explanations agree with what the model really drops."""

import pytest
import torch

import wordelim
from wordelim import Retention
from wordelim.errors import UnsupportedModelError
from wordelim.verbs.explain import explain

TEXT = "the film was not very good and the acting was really poor"


@pytest.fixture
def compressed(make_model, family):
    return wordelim.eliminate_(make_model(family), Retention.fractions([0.6, 0.3, 0.0]))


def test_as_many_word_vectors_leave_each_layer_as_retention_says(compressed, tokenizer):
    explanation = explain(compressed, tokenizer, TEXT)
    length = len(TEXT.split()) + 2
    assert list(explanation.tokens) == [tokenizer.cls_token, *TEXT.split(), tokenizer.sep_token]
    assert len(explanation.depth) == length
    assert explanation.layers == 3
    path = wordelim.retention_of(compressed).path(length)
    left = [sum(depth > layer for depth in explanation.depth) for layer in range(3)]
    assert left == [path[0], path[1], 1]
    assert explanation.depth[0] == 3


def test_the_label_is_the_models(compressed, tokenizer, logits):
    batch = tokenizer(TEXT, return_tensors="pt")
    expected = compressed.config.id2label[int(logits(compressed, batch).argmax())]
    assert explain(compressed, tokenizer, TEXT).label == expected


def test_a_regressions_label_is_its_score(make_model, make_tokenizer, logits):
    model, tokenizer = make_model("bert", labels=1), make_tokenizer("bert")
    wordelim.eliminate_(model, Retention.keep_all(3))
    score = float(logits(model, tokenizer(TEXT, return_tensors="pt")))
    assert explain(model, tokenizer, TEXT).label == f"{score:.3f}"


def test_where_all_is_kept_all_gets_to_the_last_layer(make_model, make_tokenizer):
    model = wordelim.eliminate_(make_model("bert"), Retention.keep_all(3))
    explanation = explain(model, make_tokenizer("bert"), "good film")
    assert list(explanation.depth) == [3, 2, 2, 2]


def test_it_is_what_survives_in_a_batch_too(compressed, tokenizer, encoder_of):
    """The rows that the modules keep, followed by hand from layer to layer."""
    batch = tokenizer([TEXT, "good"], padding=True, return_tensors="pt")
    rows = []
    assert encoder_of(compressed).layout == "auto"
    packed = explain(compressed, tokenizer, TEXT)
    encoder_of(compressed).layout = "padded"
    modules = [encoder_of(compressed).get_submodule(f"extract_{layer}") for layer in (0, 1)]
    hooks = [module.register_forward_hook(lambda m, a, output: rows.append(output.rows[0])) for module in modules]
    with torch.no_grad():
        compressed(**batch)
    for hook in hooks:
        hook.remove()
    after_second = rows[0][rows[1]].tolist()
    expected = [(i in rows[0].tolist()) + (i in after_second) + (i == 0) for i in range(len(TEXT.split()) + 2)]
    assert list(explain(compressed, tokenizer, TEXT).depth) == list(packed.depth) == expected


def test_a_pair_of_texts(compressed, tokenizer):
    explanation = explain(compressed, tokenizer, "good film", "bad plot")
    words = [token for token in explanation.tokens if token not in tokenizer.all_special_tokens]
    assert words == ["good", "film", "bad", "plot"]


def test_nothing_of_the_model_is_left_changed(compressed, tokenizer, encoder_of):
    compressed.train()
    explain(compressed, tokenizer, TEXT)
    assert compressed.training
    assert all(not module._forward_hooks for module in encoder_of(compressed).modules())


def test_hooks_are_removed_when_the_model_fails(compressed, tokenizer, encoder_of):
    compressed.train()
    compressed.set_attn_implementation("eager")
    with pytest.raises(UnsupportedModelError, match="switched"):
        explain(compressed, tokenizer, TEXT)
    assert compressed.training
    assert all(not module._forward_hooks for module in encoder_of(compressed).modules())


def test_a_dense_model_is_refused(make_model, make_tokenizer):
    with pytest.raises(UnsupportedModelError, match="isn't compressed"):
        explain(make_model("bert"), make_tokenizer("bert"), TEXT)


def test_a_text_longer_than_the_model_is_cut(compressed, tokenizer):
    assert len(explain(compressed, tokenizer, " ".join(["good"] * 100)).tokens) == tokenizer.model_max_length
