"""Linear exits: those left answer as the model does, those dropped as their state allows."""

from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch

from wordelim import Retention, eliminate_
from wordelim.evaluation.inference import logits_of
from wordelim.search.early_answers import Exits
from wordelim.tasks import task_for

EVERYTHING = Retention.keep_all(3)


@pytest.fixture
def tagger(make_model, make_tokenizer):
    """A tagger, what it is asked, and 24 texts."""
    model = make_model("bert", head="token")
    task = task_for("BertForTokenClassification", model.config, make_tokenizer("bert"))
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(4, 64, (n,), generator=generator).tolist() for n in [9, 4, 12, 7] * 6]
    inputs = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}
    return model, task, datasets.Dataset.from_dict({**inputs, "length": [len(row) for row in rows]})


def test_those_left_answer_as_the_model_does_and_those_dropped_by_the_exit(tagger):
    model, task, sample = tagger
    eliminate_(model, EVERYTHING)
    exits = Exits(model, task, sample, batch_size=5)
    np.testing.assert_array_equal(exits.dense, logits_of(model, sample, task, batch_size=5))
    eliminate_(model, replace(EVERYTHING, keep=(1.0, 0.0, 0.0)))
    exits.fit()
    eliminate_(model, replace(EVERYTHING, keep=(1.0, 0.5, 0.5)))
    found, plain = exits.logits(), logits_of(model, sample, task, batch_size=5)
    for row, length in enumerate(sample["length"]):
        same = (found[row, :length] == plain[row, :length]).all(-1)
        assert same[0]
        assert same.sum() == -(-length // 2)
        np.testing.assert_array_equal(found[row, :length][~same], exits.said[row, :length][~same])
        assert np.isnan(found[row, length:]).all()


def test_an_exit_reads_what_is_there(tagger):
    """What is a linear function of the state, an exit finds also in the texts that it wasn't fitted to."""
    model, task, sample = tagger
    eliminate_(model, EVERYTHING)
    exits = Exits(model, task, sample, batch_size=5)
    eliminate_(model, replace(EVERYTHING, keep=(1.0, 0.0, 0.0)))
    exits.fit()
    weights = np.random.default_rng(0).normal(size=(exits.states.shape[-1], exits.outputs)).astype(np.float32)
    exits.dense = exits.states @ weights
    exits.fit()

    def unexplained():
        return np.nanvar(exits.said - exits.dense, (0, 1)).sum() / np.nanvar(exits.dense, (0, 1)).sum()

    assert unexplained() < 0.1
    shuffled = exits.dense.copy()
    shuffled[exits.real] = np.random.default_rng(1).permutation(shuffled[exits.real])
    exits.dense = shuffled
    exits.fit()
    assert unexplained() > 0.8
