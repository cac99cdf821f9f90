"""Counts in whole numbers are those of Retention.count."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from wordelim import Retention
from wordelim.elimination.keep import LONGEST, CountRule


@given(data=st.data())
def test_counts_and_width_are_those_of_retention(data, retentions):
    retention = data.draw(retentions(3))
    lengths = data.draw(st.lists(st.integers(1, LONGEST), min_size=1, max_size=5))
    entered = torch.tensor(lengths)
    for layer in range(3):
        rule = CountRule.of(retention, layer)
        left = [retention.path(n)[layer] for n in lengths]
        assert rule.counts(entered).tolist() == left
        assert [rule.width(n) for n in lengths] == left
        before = [retention.path(n)[layer - 1] if layer else n for n in lengths]
        assert rule.drops or left == before


def test_the_fraction_is_the_one_that_was_meant():
    rule = CountRule.of(Retention.fractions([0.1 + 0.2]), 0)
    assert rule == (3, 10, 1, True)
    assert not CountRule.of(Retention.fractions([0.3, 0.3]), 1).drops


def test_a_fraction_that_no_small_numbers_give_has_no_rule():
    assert CountRule.of(Retention.fractions([0.5 + 5e-10]), 0) is None
