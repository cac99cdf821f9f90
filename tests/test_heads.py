"""Heads that read every position: dropped word vectors come back at the exit. And multiple choice."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from transformers import pipeline

import wordelim
from wordelim import Retention
from wordelim.adapters import families, family_of
from wordelim.checkpoint.directory import save
from wordelim.elimination.extract import FirstToken, HardExtract
from wordelim.errors import UnsupportedModelError
from wordelim.graph.cost import cost_of
from wordelim.graph.splice import eliminating_encoder

LAYERS = 3
KEEP_ALL = Retention.keep_all(LAYERS)
SOME = Retention.fractions([0.7, 0.4, 0.2])
RESTORING = ("token", "answer", "none")


def outputs(model, batch):
    """What a model says, as [batch, ..., values]."""
    with torch.no_grad():
        found = model(**batch)
    if "start_logits" in found:
        return torch.stack((found.start_logits, found.end_logits), -1)
    return found.logits if "logits" in found else found.last_hidden_state


def near(got, expected, tolerance=1e-5):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="session", params=["padded", "packed"])
def tagger(make_model, family, request):
    """A dense model of each family that labels every token, and the same one compressed, in each layout."""
    dense = make_model(family, head="token")
    compressed = wordelim.eliminate_(copy.deepcopy(dense), KEEP_ALL)
    eliminating_encoder(compressed).layout = request.param
    return dense, compressed


@pytest.mark.every_family
@given(data=st.data(), lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4), padding=st.integers(0, 5))
def test_laws_1_and_2_of_a_head_that_reads_all(tagger, retentions, make_batch, tiny, family, data, lengths, padding):
    dense, model = tagger
    batch = make_batch(dense, lengths, width=max(lengths) + padding)
    retention = data.draw(retentions(LAYERS))
    rounding = tiny(family).rounding
    the_laws_hold(dense, model, retention, batch, lengths, tolerance=rounding)
    if rounding == 1e-5:
        return
    try:
        the_laws_hold(dense.double(), model.double(), retention, batch, lengths)
    finally:
        dense.float(), model.float()


def the_laws_hold(dense, model, retention, batch, lengths, tolerance=1e-5):
    wordelim.eliminate_(model, KEEP_ALL)
    real = batch["attention_mask"].bool()
    near(outputs(model, batch)[real], outputs(dense, batch)[real], tolerance)
    wordelim.eliminate_(model, retention)
    assert wordelim.retention_of(model).restore
    together = outputs(model, batch)
    for row, length in enumerate(lengths):
        alone = outputs(model, {name: values[row : row + 1, :length] for name, values in batch.items()})
        near(alone[0], together[row, :length], tolerance)
    encoder = eliminating_encoder(model)
    layout = encoder.layout
    encoder.layout = "packed" if layout == "padded" else "padded"
    near(outputs(model, batch), together, tolerance)
    encoder.layout = layout
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)  # what a compiler or exporter would be shown
        near(outputs(model, batch), together, tolerance)


@pytest.mark.every_family
@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_dropped_word_vector_has_the_value_that_it_had_when_it_was_dropped(make_model, family, make_batch, layer):
    model = make_model(family, head="none")
    batch = make_batch(model, [12, 7])
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True)
    before = states.hidden_states[layer]
    final_norm = family_of(model).final_norm
    with torch.no_grad():
        expected = before if final_norm is None else model.get_submodule(final_norm)(before)
    last = states.last_hidden_state
    # All is kept up to this layer, and a third behind it.
    wordelim.eliminate_(model, Retention.fractions([1.0] * layer + [0.34] * (LAYERS - layer)))
    rows = {}
    extract = eliminating_encoder(model).get_submodule(f"extract_{layer}")
    extract.register_forward_hook(lambda module, args, output: rows.update(kept=output.rows))
    eliminating_encoder(model).layout = "padded"
    got = outputs(model, batch)
    for example, (length, count) in enumerate(((12, 5), (7, 3))):
        kept = rows["kept"][example, :count].tolist()
        dropped = sorted(set(range(length)) - set(kept))
        assert len(dropped) == length - count
        near(got[example, dropped], expected[example, dropped])
        assert not torch.allclose(got[example, kept], expected[example, kept], atol=1e-3)
    assert not torch.allclose(got[0], last[0], atol=1e-3)


@pytest.mark.every_family
@pytest.mark.parametrize("layout", ["padded", "packed", "compiled"])
def test_the_mean_of_all_is_that_of_those_left_where_they_come_back_as_it(
    make_model, family, make_batch, layout, monkeypatch
):
    model = make_model(family, head="none")
    batch = make_batch(model, [12, 7, 12, 1])
    real = batch["attention_mask"].bool()
    dense = outputs(model, batch)
    everything = Retention.fractions([1.0] * LAYERS, restore="mean")
    if family_of(model).normalises_after:
        with pytest.raises(UnsupportedModelError, match="normalises what its encoder returns"):
            wordelim.eliminate_(model, everything)
        return
    wordelim.eliminate_(model, everything)
    encoder = eliminating_encoder(model)
    encoder.layout = "padded" if layout == "compiled" else layout
    if layout == "compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    near(outputs(model, batch)[real], dense[real])
    # The same with their own values back: those that are left are those that changed in the last layer.
    keep = [0.7, 0.5, 0.34]
    own = wordelim.eliminate_(make_model(family, head="none"), Retention.fractions(keep))
    restored = outputs(own, batch)
    wordelim.eliminate_(model, Retention.fractions(keep))
    assert wordelim.retention_of(model).restore == "mean"
    found = outputs(model, batch)
    for example, length in enumerate([12, 7, 12, 1]):
        count = wordelim.retention_of(model).path(length)[-1]
        same = (found[example, :length] - restored[example, :length]).abs().amax(1) < 1e-4
        assert same[0]
        assert same.sum() == count
        left = restored[example, :length][same].mean(0)
        near(found[example, :length].mean(0), left)
        near(found[example, :length][~same], left.expand(length - count, -1))


@pytest.mark.parametrize("head", RESTORING)
def test_every_head_that_reads_all_is_the_dense_one_when_all_is_kept(make_model, family, make_batch, head):
    model = make_model(family, head=head)
    batch = make_batch(model, [9, 14, 3])
    real = batch["attention_mask"].bool()
    expected = outputs(model, batch)
    wordelim.eliminate_(model, KEEP_ALL)
    near(outputs(model, batch)[real], expected[real])
    wordelim.eliminate_(model, SOME)
    some = outputs(model, batch)
    assert some.shape == expected.shape
    assert not torch.allclose(some[real], expected[real], atol=1e-3)
    assert not cost_of(model).first_token
    assert [type(m) for m in eliminating_encoder(model).children() if isinstance(m, (HardExtract, FirstToken))] == (
        [HardExtract] * LAYERS
    )
    near(outputs(wordelim.restore_(model), batch), expected)


def test_gradients_flow_through_what_comes_back(make_model, family, make_batch, encoder_of):
    model = wordelim.eliminate_(make_model(family, head="token"), SOME)
    batch = make_batch(model, [9, 4, 9])
    gradients = []
    for layout in ("padded", "packed"):
        eliminating_encoder(model).layout = layout
        model.zero_grad()
        model(**batch).logits[batch["attention_mask"].bool()].square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, padded in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], padded, rtol=1e-4, atol=1e-4)
    # A word vector dropped at once learns from the head, and the layers learn nothing from it.
    wordelim.eliminate_(model, Retention.counts([1, 1, 1]))
    model.zero_grad()
    model(**batch).logits[0, 1:].square().sum().backward()
    assert float(model.get_input_embeddings().weight.grad.abs().sum()) > 0
    layers = [p.grad for name, p in encoder_of(model).named_parameters() if "layer" in name and p.grad is not None]
    assert all(float(grad.abs().sum()) == 0 for grad in layers)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_multiple_choice_reads_the_first_token_of_each_choice(make_model, family, make_batch, layout):
    model = make_model(family, head="choice")
    flat = make_batch(model, [9, 4, 7, 12, 3, 8])
    batch = {name: values.view(2, 3, -1) for name, values in flat.items()}
    expected = outputs(model, batch)
    assert expected.shape == (2, 3)
    wordelim.eliminate_(model, KEEP_ALL)
    eliminating_encoder(model).layout = layout
    near(outputs(model, batch), expected)
    assert cost_of(model).first_token
    wordelim.eliminate_(model, SOME)
    assert not wordelim.retention_of(model).restore
    two = outputs(model, batch)
    for row in range(2):
        near(outputs(model, {name: values[row : row + 1] for name, values in batch.items()}), two[row : row + 1])
    empty = {**batch, "attention_mask": batch["attention_mask"].clone()}
    empty["attention_mask"][1, 2] = 0
    with pytest.raises(UnsupportedModelError, match="Example 5 of the batch is padding alone"):
        outputs(model, empty)


def test_electra_that_summarises_otherwise_is_refused(make_model):
    for summary in ("last", "mean"):
        model = make_model("electra", head="choice", summary_type=summary)
        with pytest.raises(UnsupportedModelError, match=f"summary_type '{summary}' in its config: only 'first'"):
            wordelim.eliminate_(model, SOME)


@pytest.mark.parametrize("head", ["token", "answer"])
def test_saved_loaded_and_in_a_pipeline(make_model, make_tokenizer, tmp_path, texts, head):
    model = wordelim.eliminate_(make_model("bert", head=head), SOME)
    tokenizer = make_tokenizer("bert")
    directory = save(model, tokenizer, tmp_path / "out")
    loaded = wordelim.load(directory)
    assert type(loaded) is type(model)
    assert wordelim.retention_of(loaded) == wordelim.retention_of(model)
    assert wordelim.retention_of(loaded).restore
    if head == "token":
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        assert torch.equal(outputs(loaded, batch), outputs(model, batch))
        tag = pipeline("token-classification", model=str(directory), device="cpu")
        for words, found in zip(texts, tag(texts, batch_size=3), strict=True):
            inputs = tokenizer(words, return_tensors="pt")
            scores, labels = outputs(model, inputs)[0, 1:-1].softmax(-1).max(-1)
            assert [entry["entity"] for entry in found] == [model.config.id2label[i] for i in labels.tolist()]
            near(torch.tensor([float(entry["score"]) for entry in found]), scores)
        return
    # transformers 5 has no pipeline for answers any more.
    batch = tokenizer("is it good film", texts[2], return_tensors="pt")
    assert torch.equal(outputs(loaded, batch), outputs(model, batch))


@pytest.mark.slow
def test_one_compiled_graph_serves_every_batch_of_a_head_that_reads_all(make_model, make_batch):
    model = wordelim.eliminate_(make_model("bert", head="token", layers=2), Retention.fractions([0.7, 0.4]))
    counter = CompileCounter()
    torch.compiler.reset()
    compiled = torch.compile(model, backend=counter, dynamic=True, fullgraph=True)
    seen = set()
    for lengths in ([5, 9, 1], [20, 2, 7, 7], [33, 33]):
        batch = make_batch(model, lengths)
        near(outputs(compiled, batch), outputs(model, batch))
        seen.add(counter.frame_count)
    assert len(seen) == 1, seen


def test_what_a_rotary_model_reads_is_in_its_config(make_model, make_batch):
    for family in (family for family in families() if family.counts_positions):
        for field, served in family.pooling.items():
            for pooling, reads in served.items():
                model = make_model(family.model_type, **{field: pooling})
                batch = make_batch(model, [9, 14, 3])
                expected = outputs(model, batch)
                near(outputs(wordelim.eliminate_(model, KEEP_ALL), batch), expected)
                assert wordelim.retention_of(model).restore == (reads == "all")
                with pytest.raises(UnsupportedModelError, match="counts positions from 0"):
                    model(**batch, position_ids=torch.arange(14)[None])
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    with pytest.raises(UnsupportedModelError, match="type 'linear' are not supported"):
        wordelim.eliminate_(make_model("eurobert", rope_parameters=scaled), SOME)
