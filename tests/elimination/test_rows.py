"""Entry and exit of the encoder, in both layouts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wordelim.elimination.enter import Enter
from wordelim.elimination.packed import Packed, Run
from wordelim.elimination.padded import Padded
from wordelim.elimination.rows import Entered, first_rows, leave
from wordelim.errors import UnsupportedModelError

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def batch(lengths, padding=0):
    """Rows that are all different, and their mask."""
    width = max(lengths) + padding
    hidden = torch.arange(len(lengths) * width * 2, dtype=torch.float32).view(len(lengths), width, 2)
    return hidden, (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def test_padded_is_what_came_and_the_mask_says_what_is_real():
    hidden = torch.zeros(2, 4, 8)
    for mask in (None, torch.ones(2, 4)):
        rows, tokens = Enter("padded")(hidden, mask)
        assert rows is hidden
        assert tokens == Padded(None, (4, 4), (4, 4), Entered(2, 4))
    _, tokens = Enter("padded")(hidden, torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]))
    assert tokens.counts == tokens.lengths == (2, 3)
    assert tokens.mask.tolist() == [[True, True, False, False], [True, True, True, False]]


def test_packed_holds_the_real_rows_and_no_other():
    hidden, mask = batch([2, 4, 2], padding=1)
    rows, tokens = Enter("packed")(hidden, mask)
    assert tokens.runs == (Run(1, 4, 4), Run(2, 2, 2))
    assert tokens.places.tolist() == [1, 0, 2]
    assert torch.equal(rows[0], torch.cat([hidden[1, :4], hidden[0, :2], hidden[2, :2]]))


@given(lengths=LENGTHS, padding=st.integers(0, 3))
def test_what_is_packed_comes_out_where_it_came_in(lengths, padding):
    hidden, mask = batch(lengths, padding)
    rows, tokens = Enter("packed")(hidden, mask)
    assert rows.shape == (1, sum(lengths), 2)
    assert sum(run.examples for run in tokens.runs) == len(lengths)
    assert len({run.length for run in tokens.runs}) == len(tokens.runs)
    out = leave(rows, tokens)
    assert out.shape == (len(lengths), max(lengths), 2)
    assert torch.equal(out, (hidden * mask[..., None])[:, : max(lengths)])
    first = first_rows(rows, tokens)
    assert torch.equal(leave(first, tokens.cut()), hidden[:, :1])


def test_without_a_mask_all_is_packed():
    hidden, _ = batch([3, 3])
    rows, tokens = Enter("packed")(hidden, None)
    assert tokens.runs == (Run(2, 3, 3),)
    assert torch.equal(leave(rows, tokens), hidden)


def test_padded_rows_leave_as_they_are():
    hidden, mask = batch([3, 2])
    rows, tokens = Enter("padded")(hidden, mask)
    assert leave(rows, tokens) is hidden
    assert torch.equal(first_rows(rows, tokens), hidden[:, :1])


def test_auto_is_packed_on_a_cpu_and_padded_elsewhere():
    hidden, mask = batch([3, 2])
    for inference in (True, False):
        with torch.inference_mode(inference):
            assert isinstance(Enter("auto")(hidden, mask)[1], Packed)
    assert isinstance(Enter("auto")(hidden.to("meta"), None)[1], Padded)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_what_has_no_first_row_is_refused(layout):
    hidden, mask = batch([3, 3, 3])
    for row, bad, match in ((1, [0, 1, 1], "Example 1 .* padded on the left"), (2, [0, 0, 0], "Example 2 .* alone")):
        with pytest.raises(UnsupportedModelError, match=match):
            Enter(layout)(hidden, mask.index_copy(0, torch.tensor([row]), torch.tensor([bad])))
    with pytest.raises(UnsupportedModelError, match="3 dimensions"):
        Enter(layout)(hidden, mask[:, None])


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_batch_of_nothing_is_refused(layout):
    with pytest.raises(UnsupportedModelError, match="holds no example"):
        Enter(layout)(torch.zeros(0, 4, 8), torch.zeros(0, 4))
