"""Soft extraction: the dense model at 1, the hard one at 0, and a gradient for every parameter."""

import copy

import pytest
import torch

from wordelim import Retention, eliminate_, restore_
from wordelim.elimination.soft_extract import SoftRetention
from wordelim.errors import UnsupportedModelError
from wordelim.graph.soft import SOFT, soften_

FORMS = ("ramp", "table", "count")
LENGTHS = (21, 3, 12, 21, 1)


@pytest.fixture
def dense(make_model, family):
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return make_model(family, **still).double()


@pytest.mark.parametrize("form", FORMS)
def test_all_at_one_is_the_dense_model(dense, make_batch, logits, form):
    soft = copy.deepcopy(dense)
    parameters = soften_(soft, form, ranks=21)
    assert bool((parameters.share == 1).all())
    assert bool((parameters.tables() == 1).all())
    batch = make_batch(dense, LENGTHS, width=25)
    torch.testing.assert_close(logits(soft, batch), logits(dense, batch), rtol=0, atol=1e-12)
    restore_(soft)
    assert list(soft.state_dict()) == list(dense.state_dict())
    assert torch.equal(logits(soft, batch), logits(dense, batch))


def test_a_sharp_step_is_hard_extraction(dense, make_batch, logits):
    hard = eliminate_(copy.deepcopy(dense), Retention.counts([8, 4, 1]))
    parameters = soften_(dense, "count", ranks=21)
    with torch.no_grad():
        for row, kept in zip(parameters.share, (8, 4), strict=True):
            row[kept:] = 0
    batch = make_batch(dense, LENGTHS, width=25)
    # A factor of 0 leaves a trace of 1e-5, for the sake of its gradient.
    torch.testing.assert_close(logits(dense, batch), logits(hard, batch), rtol=1e-2, atol=5e-3)


@pytest.mark.parametrize("name", ["deberta-v2", "modernbert", "mpnet"])
def test_families_whose_scores_depend_on_positions_are_served(make_model, make_batch, logits, name):
    dense = make_model(name)
    soft, hard = copy.deepcopy(dense), eliminate_(copy.deepcopy(dense), Retention.counts([8, 4, 1]))
    parameters = soften_(soft, "count", ranks=21)
    batch = make_batch(dense, LENGTHS, width=25)
    torch.testing.assert_close(logits(soft, batch), logits(dense, batch), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for row, kept in zip(parameters.share, (8, 4), strict=True):
            row[kept:] = 0
    torch.testing.assert_close(logits(soft, batch), logits(hard, batch), rtol=1e-2, atol=5e-3)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_reach_every_parameter(dense, make_batch, form):
    """Of the ranks that are not protected and that a text has: rank 0 is the first token's."""
    parameters = soften_(dense.train(), form, ranks=60)
    with torch.no_grad():
        steps = 0.8 if form == "ramp" else torch.linspace(1, 0.3, parameters.share.shape[1], dtype=torch.float64)
        parameters.share.copy_(steps)
    dense(**make_batch(dense, (60, 59, 58, 57))).logits.square().sum().backward()
    gradient = parameters.share.grad
    assert parameters.layers == len(gradient) == 2
    assert bool((gradient if form == "ramp" else gradient[:, 1:-1]).ne(0).all())


@pytest.mark.parametrize("form", FORMS)
def test_an_example_is_alone_in_its_batch(dense, make_batch, logits, form):
    parameters = soften_(dense, form, ranks=21)
    with torch.no_grad():
        parameters.share.mul_(0.6 if form == "ramp" else torch.linspace(1, 0, parameters.share.shape[1]))
    together = logits(dense, make_batch(dense, LENGTHS, width=30))
    for row, length in enumerate(LENGTHS):
        batch = {name: values[row : row + 1, :length] for name, values in make_batch(dense, LENGTHS).items()}
        torch.testing.assert_close(logits(dense, batch), together[row : row + 1], rtol=0, atol=1e-10)


def test_factors_by_relative_rank():
    retention = SoftRetention(1, "table", protected_first=2)
    with torch.no_grad():
        retention.share[0] = torch.linspace(1, 0, retention.share.shape[1])
    rank = torch.tensor([[3, 0, 1, 2, 4], [1, 0, 2, 3, 4]])
    factor = retention.factor(0, rank, torch.tensor([10, 4]))
    torch.testing.assert_close(factor, torch.tensor([[0.7, 1, 1, 0.8, 0.6], [1, 1, 0.5, 0.25, 0]]))


def test_a_ramp_keeps_what_is_above_it():
    retention = SoftRetention(3)
    with torch.no_grad():
        retention.share.copy_(torch.tensor([0.5, 1.0, 0.5]))
        retention.width.fill_(0.05)
    torch.testing.assert_close(retention.fractions(), torch.tensor([0.5, 0.5, 0.25]))
    tables = retention.tables()
    assert bool((tables[:, 1:] <= tables[:, :-1]).all())
    torch.testing.assert_close(tables.mean(1), retention.fractions(), rtol=0, atol=0.02)


def test_a_common_factor_is_no_mass():
    retention = SoftRetention(2, "table")
    with torch.no_grad():
        retention.share[0] = 0.01
        retention.share[1] = torch.linspace(0.02, 0, 65)
    torch.testing.assert_close(retention.fractions(), torch.tensor([1.0, 0.5]))


def test_parameters_are_put_back_into_bounds():
    retention = SoftRetention(2)
    retention.share.data = torch.tensor([1.3, -0.2])
    retention.clip_()
    assert retention.share.tolist() == [1.0, 0.0]


def test_one_layer_has_nothing_to_learn(make_model):
    model = make_model("bert", layers=1)
    with pytest.raises(UnsupportedModelError, match="use --method calibrated"):
        soften_(model)
    assert SOFT not in dict(model.named_modules())
