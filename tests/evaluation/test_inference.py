"""Logits come out in the order of the texts, whatever the batches were."""

import numpy as np
import pytest
import torch

from wordelim import Retention, eliminate_
from wordelim.data.columns import find_columns
from wordelim.data.encode import encode
from wordelim.evaluation.inference import batches, logits_of
from wordelim.system.machine import has_fast_bf16
from wordelim.tasks import Task


@pytest.fixture(params=["dense", "compressed"])
def model(request, make_model):
    """A classifier before and after compression."""
    made = make_model("bert")
    return made if request.param == "dense" else eliminate_(made, Retention.fractions([0.6, 0.3, 0.0]))


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer("bert")


@pytest.fixture(scope="module")
def encoded(make_model, make_texts, tokenizer):
    texts = make_texts(21)
    return encode(texts, tokenizer, find_columns(texts), make_model("bert").config).dataset


def test_logits_are_in_the_order_of_the_texts(model, tokenizer, encoded):
    found = logits_of(model, encoded, Task(model.config, tokenizer), batch_size=4)
    assert found.shape == (21, 3)
    assert found.dtype == np.float32
    for row in range(21):
        alone = logits_of(model, encoded.select([row]), Task(model.config, tokenizer))
        np.testing.assert_allclose(found[row], alone[0], atol=1e-5)


def test_logits_dont_depend_on_batches_or_order(model, tokenizer, encoded):
    found = logits_of(model, encoded, Task(model.config, tokenizer), batch_size=21)
    np.testing.assert_allclose(found, logits_of(model, encoded, Task(model.config, tokenizer), batch_size=2), atol=1e-5)
    order = np.random.default_rng(0).permutation(21)
    np.testing.assert_allclose(
        found[order], logits_of(model, encoded.select(order), Task(model.config, tokenizer)), atol=1e-5
    )


def test_logits_dont_depend_on_padding(model, tokenizer, encoded):
    found = logits_of(model, encoded, Task(model.config, tokenizer))
    (padded,) = batches(encoded, tokenizer, range(21), 32, padding="max_length", max_length=40)
    assert padded["input_ids"].shape == (21, 40)
    with torch.no_grad():
        np.testing.assert_allclose(found, model(**padded).logits.numpy(), atol=1e-5)


def test_mode_gradients_and_progress(model, tokenizer, encoded):
    done = []
    model.train()
    first = logits_of(model, encoded, Task(model.config, tokenizer), batch_size=8, progress=done.append)
    assert model.training
    assert done == [8, 16, 21]
    np.testing.assert_array_equal(first, logits_of(model.eval(), encoded, Task(model.config, tokenizer), batch_size=8))
    assert not model.training


def test_mode_is_left_as_it_was_by_an_error(model, tokenizer, encoded):
    def fail(done):
        raise KeyboardInterrupt

    model.train()
    with pytest.raises(KeyboardInterrupt):
        logits_of(model, encoded, Task(model.config, tokenizer), progress=fail)
    assert model.training


def test_bf16_is_near_fp32_and_comes_out_as_fp32(model, tokenizer, encoded):
    found, exact = (logits_of(model, encoded, Task(model.config, tokenizer), bf16=bf16) for bf16 in (True, False))
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 0.5
    assert isinstance(has_fast_bf16("cpu"), bool)
    assert not has_fast_bf16("meta")


def test_batches_hold_inputs_alone_in_the_order_asked_for(tokenizer, encoded):
    first, second = batches(encoded, tokenizer, [5, 0, 7], 2)
    assert set(first) == {"input_ids", "attention_mask", "token_type_ids"}
    for ids, row in zip([*first["input_ids"], *second["input_ids"]], [5, 0, 7], strict=True):
        assert ids[: encoded[row]["length"]].tolist() == encoded[row]["input_ids"]
