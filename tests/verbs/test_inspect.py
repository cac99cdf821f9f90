"""What is said of a model directory without changing it."""

import json

import pytest
from transformers import (
    BertForMaskedLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import save
from wordelim.errors import CheckpointError, UnsupportedModelError
from wordelim.verbs.inspect import inspect_model


def test_a_dense_model_of_each_family(make_model_dir, family):
    found = inspect_model(make_model_dir(family, layers=3))
    assert json.loads(json.dumps(found)) == found
    assert found["family"] == family
    assert found["supported"]
    assert not found["compressed"]
    assert found["retention"] is None
    assert found["layers"] == len(found["splices"]) == 3
    assert found["last_layer_cut_to_first_token"]
    assert all(place.endswith("self") or "attention" in place for place in found["splices"])
    # 64 positions, and only the exact cut of the last layer.
    assert list(found["flops_ratio"]) == ["32", "64"]
    assert all(1 < ratio < 2 for ratio in found["flops_ratio"].values())


def test_a_compressed_model(make_model, make_tokenizer, tmp_path):
    some = Retention.fractions([0.5, 0.2, 0.0])
    save(wordelim.eliminate_(make_model("bert"), some), make_tokenizer("bert"), tmp_path / "out")
    found = inspect_model(str(tmp_path / "out"))
    assert found["compressed"]
    assert found["retention"] == some.to_dict()
    assert found["flops_ratio"]["64"] > 2


def test_a_model_with_one_layer(make_model_dir):
    found = inspect_model(make_model_dir("bert", layers=1))
    assert found["layers"] == 1
    assert found["flops_ratio"]["64"] > 1


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "no/where/at/all", "no where"])
def test_a_model_that_isnt_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"'{name}'") as caught:
        inspect_model(name)
    assert "\n" not in str(caught.value)


def test_other_kinds_of_model_are_refused_by_name(make_model, tmp_path):
    sizes = {"vocab_size": 64, "num_labels": 2}
    GPT2ForSequenceClassification(
        GPT2Config(n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1, **sizes)
    ).save_pretrained(tmp_path / "gpt2")
    T5ForConditionalGeneration(
        T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, **sizes)
    ).save_pretrained(tmp_path / "t5")
    BertForMaskedLM(make_model("bert").config).save_pretrained(tmp_path / "masked")
    for name, message in {
        "gpt2": "GPT2ForSequenceClassification .*not supported: the families are albert, bert, .*roberta",
        "t5": "T5ForConditionalGeneration .*not supported",
        "masked": "BertForMaskedLM guesses words",
    }.items():
        with pytest.raises(UnsupportedModelError, match=message):
            inspect_model(tmp_path / name)
