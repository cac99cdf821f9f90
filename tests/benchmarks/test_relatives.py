"""The RoBERTa made of a BERT computes what that computes; the ALBERT is a whole ALBERT that begins with its weights."""

import pytest
import torch


@pytest.fixture
def relatives(script):
    return script("relatives")


@pytest.mark.parametrize("head", ["sequence", "none"])
def test_a_roberta_computes_what_its_bert_does(make_model, make_batch, relatives, head):
    bert = make_model("bert", head=head)
    made = relatives.roberta_of(bert)
    batch = make_batch(bert, (20, 3, 11))
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    with torch.inference_mode():
        expected = bert(**batch)[0]
        found = made(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])[0]
    real = slice(None) if head == "sequence" else batch["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)


def test_an_albert_begins_with_its_berts_weights(make_model, make_batch, relatives):
    bert = make_model("bert", head="none")
    width = bert.config.hidden_size
    made = relatives.albert_of(bert, embedding_size=width)
    (layer,) = made.encoder.albert_layer_groups[0].albert_layers
    mean = torch.stack([each.intermediate.dense.weight for each in bert.encoder.layer]).mean(0)
    torch.testing.assert_close(layer.ffn.weight, mean)
    words = made.embeddings.word_embeddings.weight @ made.encoder.embedding_hidden_mapping_in.weight.T
    centred = bert.embeddings.word_embeddings.weight - bert.embeddings.word_embeddings.weight.mean(0)
    centred = centred * bert.embeddings.LayerNorm.weight
    torch.testing.assert_close(words / words.norm(), centred / centred.norm(), atol=1e-5, rtol=1e-4)
    batch = make_batch(bert, (20, 3))
    assert made(**batch).last_hidden_state.isfinite().all()
