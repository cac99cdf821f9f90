"""The choice of what is kept, and that counts in whole numbers are those of Retention.count."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wordelim import Retention
from wordelim.elimination.keep import LONGEST, CountRule, highest


def naive_keep(significance, length, count, protected):
    ranked = sorted(range(length), key=lambda i: (i not in protected, -significance[i], i))
    return sorted(ranked[:count])


@pytest.mark.parametrize("exporting", [False, True])
@given(data=st.data(), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), padding=st.integers(0, 5))
def test_the_highest_are_kept_in_text_order(data, lengths, padding, exporting):
    width, first = max(lengths) + padding, data.draw(st.integers(1, 3))
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    named = data.draw(st.sets(st.integers(0, min(lengths) - 1), max_size=3))
    protected = [sorted({*range(min(first, n)), *named}) for n in lengths]
    counts = [data.draw(st.integers(len(own), n)) for own, n in zip(protected, lengths, strict=True)]
    # Few different values, so that there are ties; torch's topk promises nothing there.
    values = st.lists(st.integers(0, 99 if exporting else 4), min_size=width, max_size=width, unique=exporting)
    significance = torch.tensor([data.draw(values) for _ in lengths], dtype=torch.float32)
    before, alike = significance.clone(), len(set(counts)) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_exporting", lambda: exporting)
        rows, alive = highest(
            significance,
            max(counts),
            first,
            limit=None if alike else torch.tensor(counts),
            mask=None if bool(mask.all()) else mask,
            protected=torch.isin(torch.arange(width), torch.tensor(sorted(named))).expand_as(mask) if named else None,
        )
    assert torch.equal(significance, before)
    assert rows.shape == (len(lengths), max(counts))
    assert (alive is None) == alike
    for text, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        assert rows[text, :count].tolist() == naive_keep(significance[text].tolist(), length, count, protected[text])
        assert not rows[text, count:].any()
        assert alike or alive[text].tolist() == [True] * count + [False] * (max(counts) - count)


def test_ties_go_to_the_earlier():
    assert highest(torch.ones(1, 6), 3, 1)[0].tolist() == [[0, 1, 2]]
    assert highest(torch.tensor([[0.0, 1.0, 3.0, 2.0, 2.0, 2.0]]), 4, 1)[0].tolist() == [[0, 2, 3, 4]]


def test_the_first_are_kept_whatever_their_significance():
    significance = torch.tensor([[0.0, 1.0, 3.0, 2.0]])
    assert highest(significance, 1, 1)[0].tolist() == [[0]]
    assert highest(significance, 3, 2)[0].tolist() == [[0, 1, 2]]
    # Of those that are real, where a mask has a hole.
    rows, _ = highest(significance, 2, 2, mask=torch.tensor([[True, False, True, True]]))
    assert rows.tolist() == [[0, 2]]


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
