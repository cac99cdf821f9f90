"""An encoder on a card, replayed on a CPU: the plan, the buffers and the order of launches, computed plainly."""

import copy
import gc
import weakref
from dataclasses import replace
from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import wordelim
from wordelim import Retention
from wordelim.elimination.card import engine, graphs, layer, plain
from wordelim.elimination.card.engine import Engine
from wordelim.elimination.card.joined import joined
from wordelim.errors import UnsupportedModelError
from wordelim.graph.laid import call_laid
from wordelim.graph.layers import stack_of
from wordelim.graph.splice import eliminating_encoder

from ..families import FAMILIES

LAYERS = 3
SERVED = [name for name, tiny in FAMILIES.items() if tiny.kernels]
SOME = Retention.fractions([0.7, 0.4, 0.0])
PACKAGED = Retention.fractions([0.7, 0.4, 0.0], package=True)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=5)


@pytest.fixture(params=["some", "all", "counts", "some mapped", "packages", "packages mapped"])
def each(request, random_maps):
    """A retention of each kind."""
    some = {
        "some": SOME,
        "all": Retention.keep_all(LAYERS),
        "counts": Retention.counts([9, 9, 1]),
        "packages": PACKAGED,
    }
    name, _, by = request.param.partition(" ")
    return replace(some[name], significance=random_maps(LAYERS)) if by else some[name]


@pytest.fixture(scope="module", params=SERVED)
def served(make_model, request):
    return wordelim.eliminate_(make_model(request.param), SOME)


@pytest.fixture
def small(make_model):
    return wordelim.eliminate_(make_model("bert"), SOME)


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_these_families_are_served(make_model):
    for name in FAMILIES:
        stack = stack_of(eliminating_encoder(wordelim.eliminate_(make_model(name, layers=1), Retention.keep_all(1))))
        assert (stack is not None) == (name in SERVED), name


@given(data=st.data(), lengths=LENGTHS, padding=st.integers(0, 4), seed=st.integers(0, 1000))
def test_every_family_answers_as_packed_on_a_cpu(
    served, retentions, make_batch, logits, by_engine, data, lengths, padding, seed
):
    wordelim.eliminate_(served, data.draw(retentions(LAYERS)))
    batch = make_batch(served, lengths, width=min(64, max(lengths) + padding), seed=seed)
    expected = logits(served, batch)
    with by_engine() as used:
        same(logits(served, batch), expected)
        same(logits(served, batch), expected)  # from the graph
    assert len(used) == 2


def test_nothing_of_other_batches_or_of_unwritten_memory_is_seen(small, make_batch, logits, by_engine, each):
    wordelim.eliminate_(small, each)
    short, long = make_batch(small, [5, 9]), make_batch(small, [40, 3, 17, 25], seed=1)
    shorter = make_batch(small, [9, 5, 6], seed=2)  # of the bucket of none
    expected = [logits(small, batch) for batch in (short, long, shorter)]
    torch.use_deterministic_algorithms(True)  # memory that is given out holds NaN
    try:
        assert torch.empty(3).isnan().all()
        with by_engine():
            for _ in range(3):
                for batch, answer in zip((short, long, shorter), expected, strict=True):
                    same(logits(small, batch), answer)
    finally:
        torch.use_deterministic_algorithms(False)


def test_neither_the_order_of_a_batch_nor_its_bucket_changes_an_answer(small, make_batch, logits, by_engine, each):
    wordelim.eliminate_(small, each)
    batch = make_batch(small, [30, 4, 11, 22, 8])
    with by_engine():
        answers = logits(small, batch)
        order = torch.tensor([3, 0, 4, 2, 1])
        same(logits(small, {name: values[order] for name, values in batch.items()}), answers[order])
        for row in range(5):
            same(logits(small, {name: values[row : row + 1] for name, values in batch.items()}), answers[row : row + 1])


@pytest.mark.parametrize("linear", [False, True])
def test_rules_that_name_tokens_and_texts_without_padding_are_served(
    small, make_batch, logits, by_engine, random_maps, linear
):
    rules = {"protect": ("first:2", "tokens:7,9,11,13-14"), "package": True}
    rules |= {"significance": random_maps(LAYERS)} if linear else {}
    wordelim.eliminate_(small, Retention.fractions([0.5, 0.2, 0.0], **rules))
    lengths = [30, 4, 11, 22, 8]
    batch = make_batch(small, lengths)
    expected = logits(small, batch)
    laid = torch.cat([ids[:length] for ids, length in zip(batch["input_ids"], lengths, strict=True)])
    with by_engine() as used, torch.no_grad():
        same(logits(small, batch), expected)
        same(call_laid(small, laid, lengths).logits, expected)
    assert len(used) == 2


def test_a_second_batch_of_a_bucket_is_captured_and_few_are_kept(small, make_batch, logits, by_engine, monkeypatch):
    made = []

    def counted(work, pool):
        made.append(work)
        return work

    batches = [make_batch(small, [length]) for length in (1, 2, 3)]
    with by_engine(capture=counted) as used:
        logits(small, batches[0])
        assert not made
        used[0].graphs.most = 2
        for batch in batches * 3:
            logits(small, batch)
        assert len(made) == len(used[0].graphs) == 2  # the third goes on without
        monkeypatch.setattr(graphs, "_PATIENCE", 5)
        for _ in range(8):
            logits(small, batches[2])
        assert len(made) == 3
        assert len(used[0].graphs) == 2


def test_the_kernels_themselves_answer_as_packed_on_a_cpu(small, make_batch, logits, by_engine, monkeypatch, each):
    pytest.importorskip("triton", reason="Triton isn't installed: it comes with torch builds for CUDA")
    from triton.runtime.interpreter import GridExecutor

    from wordelim.elimination.card import kernels

    wordelim.eliminate_(small, each)
    batch = make_batch(small, [12, 1, 30])
    expected = logits(small, batch)
    launches, launch = [], GridExecutor.__call__

    def counted(self, *args, **kwargs):
        launches.append(self.fn.__name__)
        return launch(self, *args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", counted)
    with by_engine(ops=kernels):
        same(logits(small, batch), expected)
    assert launches.count("_choose") == (0 if each.keep[0] == 1 else 1 if each.kind == "count" else 2)
    # Attention and two additions; where some are dropped, the choice, and taking before or weighing behind it as well.
    assert len(launches) == 2 * 3 + 4 + 2 * launches.count("_choose")


def test_where_no_graph_can_be_made_it_goes_on_without(small, make_batch, logits, by_engine):
    def fails(work, pool):
        raise RuntimeError("no memory\nlong story")

    batch = make_batch(small, [12, 1, 30])
    expected = logits(small, batch)
    with by_engine(capture=fails):
        same(logits(small, batch), expected)
        with pytest.warns(UserWarning, match="No CUDA graph can be made here.*: no memory$"):
            same(logits(small, batch), expected)
        same(logits(small, batch), expected)


def test_weights_that_have_changed_are_noticed(small, make_batch, by_engine, perturb, make_model):
    batch = make_batch(small, [12, 30])

    def check():
        wordelim_answer = answers(small, batch)
        with by_engine() as used:
            for _ in range(3):
                torch.testing.assert_close(answers(small, batch), wordelim_answer, rtol=1e-5, atol=1e-5)
        assert used[1:] == used[:-1]
        return used[0] is not None

    def answers(model, batch):
        with torch.no_grad():
            return model(**batch).logits

    assert check()
    other = wordelim.eliminate_(make_model("bert", seed=4), SOME)
    small.load_state_dict(other.state_dict())  # in place
    assert check()
    small.load_state_dict(make_model("bert", seed=5).state_dict(), assign=True)
    assert check()
    perturb(small, 6)  # as an optimiser does
    assert check()
    small.double().float()  # elsewhere
    assert check()
    first = eliminating_encoder(small).layer[0]
    first.output.dense = torch.nn.Linear(48, 32)
    assert check()
    first.output.dense = torch.nn.Sequential(first.output.dense)  # not plain any more
    assert not check()
    first.output.dense = first.output.dense[0]
    assert check()
    hook = first.attention.self.key.register_forward_hook(lambda module, args, output: output * 2)
    assert not check()
    hook.remove()
    assert check()


def test_layers_that_drop_nothing_use_attention_for_texts_of_any_lengths(
    small, make_batch, logits, by_engine, monkeypatch
):
    calls = []

    def varlen(query, key, value, ends, own, longest, most, *, scale):
        calls.append((longest, most))
        context = torch.empty_like(query)
        assert torch.equal(ends, own)
        for start, end in pairwise(ends.tolist()):
            parts = (part[start:end].transpose(0, 1) for part in (query, key, value))
            context[start:end] = scaled_dot_product_attention(*parts, scale=scale).transpose(0, 1)
        return context

    def scale_is_unknown(query, key, value, ends, own, longest, most):
        raise AssertionError

    wordelim.eliminate_(small.double(), Retention.fractions([1.0, 0.4, 0.0]))  # PyTorch's own isn't for fp32
    batch = make_batch(small, [30, 4, 11])
    expected, chosen_once = logits(small, batch), layer._varlen.__wrapped__
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    for available, chosen in ((varlen, True), (scale_is_unknown, False)):
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", available)
        found = chosen_once(torch.device("cuda"))
        assert found is (available if chosen else None)
        monkeypatch.setattr(layer, "_varlen", lambda device, found=found: found)
        with by_engine() as used:
            same(logits(small, batch), expected)
        assert used[-1] is not None
    assert calls == [(64, 64)]


def test_it_leaves_alone_what_it_does_not_serve(small, make_batch, by_engine):
    batch = make_batch(small, [12, 30])
    with by_engine() as used:
        small(**batch)  # with gradients
        with torch.no_grad():
            small.train()(**batch)
            small.eval()
            eliminating_encoder(small).layer[1].output.dropout.train()
            small(**batch)
            small.eval()
            for layout in ("packed", "padded"):
                eliminating_encoder(small).layout = layout
                small(**batch)
            eliminating_encoder(small).layout = "auto"
            with torch.autocast("cpu", torch.bfloat16):
                small(**batch)
            assert used == [None] * 6
            small(**batch)
    assert used[-1] is not None


def test_left_padding_is_refused(small, make_batch, by_engine):
    batch = make_batch(small, [12, 30])
    batch["attention_mask"] = batch["attention_mask"].flip(1)
    with by_engine(), torch.no_grad(), pytest.raises(UnsupportedModelError, match="padded on the left"):
        small(**batch)


class Counted(TorchDispatchMode):
    """Counts operations that compute something, and refuses those that wait for a result."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique")
        assert not any(part in name for part in waits), name
        if not (func.is_view or "empty" in name or "detach" in name or "_unsafe_view" in name):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class Launches:
    """The launches of a layer, each one operation, whatever it takes here."""

    def __init__(self, mode):
        self.mode = mode

    def __getattr__(self, name):
        def launch(*args):
            self.mode.found.append(name)
            with _disable_current_modes():
                return getattr(plain, name)(*args)

        return launch


def test_a_layer_takes_ten_launches_and_none_waits(small, make_batch, by_engine, monkeypatch, each):
    wordelim.eliminate_(small, each)
    mode, counted = Counted(), []

    def counting(*args):
        with mode:
            before = len(mode.found)
            result = engine_run(*args)
        counted.append(mode.found[before:])
        return result

    engine_run = engine.run
    monkeypatch.setattr(engine, "run", counting)
    with by_engine(ops=Launches(mode)), torch.no_grad():
        small(**make_batch(small, [12, 30]))
    (found,) = counted
    assert len(found) <= 10 * LAYERS
    attention = ["weigh", "choose", "attend_kept"] if each.linear else ["score", "choose", "take"]
    behind = [
        "aten.addmm.default",
        "add_norm",
        "aten.addmm.default",
        "aten.gelu.default",
        "aten.addmm.default",
        "add_norm",
    ]
    dropping = [before != after for before, after in pairwise((1.0, *each.keep[:-1]))]
    layers = [["aten.addmm.default", *(attention if drops else ["attend"]), *behind] for drops in dropping]
    last = ["take", "aten.addmm.default", "aten.addmm.default", "attend", *behind]
    assert found == [*chain.from_iterable(layers), *last]


def test_weights_are_in_memory_once_and_are_saved_as_they_were(small, make_batch, by_engine, tmp_path, logits):
    before = {name: values.clone() for name, values in small.state_dict().items()}
    batch = make_batch(small, [12, 30])
    expected = logits(small, batch)
    with by_engine():
        logits(small, batch)
    own = eliminating_encoder(small).layer[0].attention.self
    storages = {each.weight.untyped_storage().data_ptr() for each in (own.query, own.key, own.value)}
    assert len(storages) == 1
    assert own.query.weight.untyped_storage().nbytes() == 3 * own.query.weight.nbytes
    for name, values in small.state_dict().items():
        assert torch.equal(values, before[name])
    small.save_pretrained(tmp_path / "model")
    loaded = type(small).from_pretrained(tmp_path / "model")
    same(logits(loaded.eval(), batch), expected)
    twin = copy.deepcopy(small)
    with by_engine():
        same(logits(twin, batch), expected)


def test_parameters_that_share_memory_with_others_stay_where_they_are():
    whole = torch.randn(6, 4)
    parts = [torch.nn.Parameter(part) for part in (whole[:2], whole[4:])]
    assert joined(parts) is None
    neighbours = [torch.nn.Parameter(part) for part in (whole[:2], whole[2:3])]
    assert torch.equal(joined(neighbours), whole[:3])
    apart = [torch.nn.Parameter(torch.full((rows, 4), float(rows))) for rows in (1, 3)]
    assert joined(apart).data_ptr() == apart[0].data_ptr()
    with torch.no_grad():
        apart[1].zero_()
    assert joined(apart).sum() == 4


def test_an_engine_keeps_no_model_alive(small, make_batch, by_engine, logits):
    with by_engine() as used:
        logits(small, make_batch(small, [3]))
    assert isinstance(used[0], Engine)
    encoder = eliminating_encoder(small)
    wordelim.restore_(small)
    used.clear()
    gone = weakref.ref(encoder)
    del encoder
    gc.collect()
    assert gone() is None
