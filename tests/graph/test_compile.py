"""The form that compilers and exporters follow: one graph, few compilations, the same logits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from torch.export import Dim, export

from wordelim import Retention, eliminate_
from wordelim.errors import RetentionError, UnsupportedModelError
from wordelim.graph.splice import eliminating_encoder


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
def test_one_compiled_graph_serves_every_batch_and_length(make_model, make_batch, random_maps, logits):
    retention = Retention.fractions([0.7, 0.4], protect=("first:2",), significance=random_maps(2))
    model = eliminate_(make_model("bert", layers=2), retention)
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


class Positional(torch.nn.Module):
    """A model as TorchScript takes it: positional tensors in, one tensor out."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return output["logits"] if "logits" in output else output[0]


def by_legacy_exporter(model, batch):
    pytest.importorskip("onnx")
    torch.onnx.export(Positional(model), tuple(batch.values()), "never-written.onnx", dynamo=False)


TRACERS = {
    "torch.jit.trace": lambda model, batch: torch.jit.trace(Positional(model), tuple(batch.values())),
    "torch.jit.trace of the encoder": lambda model, batch: torch.jit.trace(
        eliminating_encoder(model), torch.zeros(2, 9, model.config.hidden_size)
    ),
    "torch.jit.script": lambda model, batch: torch.jit.script(model),
    "torch.onnx.export": by_legacy_exporter,
    "torch.fx": lambda model, batch: torch.fx.symbolic_trace(Positional(model)),
}


@pytest.mark.filterwarnings("ignore")  # each of these is deprecated, and says so
@pytest.mark.parametrize(
    ("head", "layout"),
    [("sequence", "packed"), ("sequence", "padded"), ("sequence", "auto"), ("token", "auto"), ("none", "auto")],
)
@pytest.mark.parametrize("tracer", TRACERS)
def test_what_makes_constants_of_counts_is_refused(make_model, make_batch, tmp_path, monkeypatch, tracer, head, layout):
    monkeypatch.chdir(tmp_path)
    model = eliminate_(make_model("bert", head=head), Retention.fractions([0.7, 0.4, 0.2]))
    eliminating_encoder(model).layout = layout
    batch = make_batch(model, [9, 5])
    with pytest.raises(
        UnsupportedModelError, match=r"can't be scripted or traced .*: write a program with wordelim exp"
    ):
        TRACERS[tracer](model, batch)
    assert not list(tmp_path.iterdir())
    Positional(model)(**batch)  # and the model goes on


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), [("bert", "sequence"), ("bert", "token"), ("modernbert", "sequence")])
def test_an_exported_program_serves_every_length_between_bounds(make_model, make_batch, name, head):
    model = eliminate_(make_model(name, head=head, layers=2), Retention.fractions([0.7, 0.4]))
    shape = {0: Dim.DYNAMIC(min=2, max=16), 1: Dim.DYNAMIC(min=4, max=60)}
    shapes = {"input_ids": shape, "attention_mask": shape}
    with torch.no_grad():
        program = export(model, (), make_batch(model, [12, 5, 7]), dynamic_shapes=shapes).module()
        for lengths in ([20, 4], [60, 9, 60], [4] * 16):
            batch = make_batch(model, lengths)
            torch.testing.assert_close(program(**batch).logits, model(**batch).logits, atol=1e-5, rtol=0)
        for lengths in ([61, 3], [3, 2]):
            with pytest.raises((RuntimeError, AssertionError), match=r"attention_mask|input_ids"):
                program(**make_batch(model, lengths))
