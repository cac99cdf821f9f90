"""The form that compilers and exporters follow: one graph, few compilations, the same logits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter

from wordelim import Retention, eliminate_
from wordelim.errors import RetentionError


@pytest.fixture
def as_compilers_see_it(monkeypatch):
    """Run eagerly what a compiler would be shown."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


@given(data=st.data())
@settings(max_examples=10)
def test_same_logits_as_the_other_layouts(data, shared, make_batch, logits, retentions):
    _, compressed = shared
    eliminate_(compressed, data.draw(retentions(3)))
    batch = make_batch(compressed, data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        symbolic = logits(compressed, batch)
    torch.testing.assert_close(symbolic, logits(compressed, batch), atol=1e-5, rtol=0)


def test_a_keep_that_whole_numbers_do_not_give_is_named(bert, make_batch, as_compilers_see_it):
    eliminate_(bert, Retention.fractions([0.7, 0.5 + 5e-10, 0.4]))
    with pytest.raises(RetentionError, match=r"keep\[1\]"):
        bert(**make_batch(bert, [9, 5]))


@pytest.mark.slow
def test_one_compiled_graph_serves_every_batch_and_length(make_model, make_batch, logits):
    model = eliminate_(make_model("bert", layers=2), Retention.fractions([0.7, 0.4], protect=("first:2",)))
    counter = CompileCounter()
    torch.compiler.reset()
    # fullgraph: a graph break would raise.
    compiled = torch.compile(model, backend=counter, dynamic=True, fullgraph=True)
    seen = set()
    for lengths in ([5, 9, 1], [20, 2, 7, 7], [33, 33], [12, 6, 6, 1, 8]):
        batch = make_batch(model, lengths)
        torch.testing.assert_close(logits(compiled, batch), logits(model, batch), atol=1e-5, rtol=0)
        seen.add(counter.frame_count)
    assert len(seen) == 1, seen
    left_padded = {name: values.flip(1) for name, values in make_batch(model, [9, 5]).items()}
    with pytest.raises(RuntimeError, match="pad on the right"):
        logits(compiled, left_padded)
