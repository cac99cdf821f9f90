"""Cost against the FLOPs that torch counts while the encoder runs."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import wordelim
from wordelim import Retention
from wordelim.errors import UnsupportedModelError
from wordelim.graph.cost import cost_of
from wordelim.graph.splice import eliminating_encoder

LAYERS = 3
WIDTH = 32


@pytest.fixture(scope="session")
def counted(encoder_of):
    """``counted(model, batch)``: FLOPs of the matrix products in the encoder."""

    def count(model, batch):
        counts = []
        encoder = encoder_of(model)
        counter = FlopCounterMode(display=False)

        def start(module, args):
            counter.__enter__()

        def stop(module, args, output):
            counter.__exit__(None, None, None)
            counts.append(counter.get_total_flops())

        hooks = [encoder.register_forward_pre_hook(start), encoder.register_forward_hook(stop)]
        try:
            # The counter knows what attention costs where it is made of plain matrix products.
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                model(**batch)
        finally:
            for hook in hooks:
                hook.remove()
        (total,) = counts
        return total

    return count


def rescored(cost, lengths, retention):
    """What the padded layout does beyond the arithmetic: where rows are dropped, the kept ones are scored twice.

    Once to find the significance of all, and once inside of attention, which keeps its probabilities to itself.
    """
    total = 0
    for length in lengths:
        path = cost.path(length, retention)
        for entered, left in zip((length, *path), path[:-1], strict=False):
            total += 2 * WIDTH * entered * left * (left < entered)
    return total


@pytest.mark.parametrize("length", [1, 7, 40])
def test_the_dense_encoder_costs_what_torch_counts(shared, counted, make_batch, length):
    dense, compressed = shared
    cost = cost_of(compressed)
    assert cost.spent([length]) == counted(dense, make_batch(dense, [length]))
    assert cost.spent([length] * 3) == counted(dense, make_batch(dense, [length] * 3))


@given(data=st.data(), length=st.integers(1, 40), batch_size=st.integers(1, 2))
def test_the_compressed_encoder_costs_what_torch_counts(
    shared, retentions, counted, make_batch, data, length, batch_size
):
    _, model = shared
    # What packages are made with is left out: for each head less than its scores by the size of a head.
    retention = replace(data.draw(retentions(LAYERS)), package=False)
    wordelim.eliminate_(model, retention)
    cost, lengths = cost_of(model), [length] * batch_size
    measured = counted(model, make_batch(model, lengths))
    once = cost.linear or eliminating_encoder(model).layout == "packed"
    twice = 0 if once else rescored(cost, lengths, retention)
    assert measured == cost.spent(lengths, retention) + twice


def test_scoring_twice_is_a_small_part_at_the_length_of_a_sentence(make_model, counted, make_batch):
    # With BERT's proportions: heads * head size = hidden size, feed-forward four times as wide.
    retention = Retention.fractions([0.7, 0.4, 0.0])
    model = wordelim.eliminate_(make_model("bert", intermediate_size=128), retention)
    eliminating_encoder(model).layout = "padded"
    measured = counted(model, make_batch(model, [32]))
    assert cost_of(model).spent([32], retention) == pytest.approx(measured, rel=0.1)


def test_keeping_all_costs_less_than_the_dense_encoder_by_the_last_layers_cut_alone(shared, counted, make_batch):
    dense, model = shared
    retention = Retention.keep_all(LAYERS)
    wordelim.eliminate_(model, retention)
    cost = cost_of(model)
    assert cost.first_token
    assert cost.path(9, retention) == (9, 9, 1)
    saved = counted(dense, make_batch(dense, [9])) - counted(model, make_batch(model, [9]))
    # Eight rows fewer: of the scores and the context of attention, of its query and of all that stands behind it.
    assert saved == 8 * (2 * WIDTH * 9 * 2 + cost.per_token[-1])
    assert cost.ratio([9], retention) == cost.spent([9]) / cost.spent([9], retention) > 1


def test_what_bert_costs_by_hand(bert):
    wordelim.eliminate_(bert, Retention.counts([4, 2, 1]))
    cost = cost_of(bert)
    square, wide = 2 * 32 * 32, 2 * 32 * 48
    # Behind each attention: its output, the feed-forward network, and query, key and value of the next layer; the last
    # layer's query is counted where its one row is made.
    assert cost.per_token == (3 * square, 4 * square + 2 * wide, 3 * square + 2 * wide, 2 * square + 2 * wide)
    assert cost.layers == 3
    assert cost.width == 32
    by_hand = 3 * square * 8
    by_hand += 2 * 32 * 8 * (8 + 4) + (4 * square + 2 * wide) * 4
    by_hand += 2 * 32 * 4 * (4 + 2) + (3 * square + 2 * wide) * 2
    by_hand += 2 * 32 * 2 * (1 + 1) + (2 * square + 2 * wide) * 1
    assert cost.spent([8], Retention.counts([4, 2, 1])) == by_hand


def test_cost_adds_up_over_texts(shared):
    _, model = shared
    cost = cost_of(model)
    retention = Retention.fractions([0.6, 0.3, 0.0])
    lengths = [5, 9, 9, 30]
    for chosen in (None, retention):
        assert cost.spent(lengths, chosen) == sum(cost.spent([n], chosen) for n in lengths)
        assert cost.spent(iter(lengths), chosen) == cost.spent(lengths, chosen)
    assert cost.ratio(iter(lengths), retention) == cost.spent(lengths) / cost.spent(lengths, retention)


@given(data=st.data(), length=st.integers(1, 60))
def test_keeping_less_never_costs_more(shared, data, length):
    _, model = shared
    cost = cost_of(model)
    values = st.lists(st.floats(0, 1), min_size=LAYERS, max_size=LAYERS)
    more, less = (sorted(data.draw(values), reverse=True) for _ in range(2))
    less = [min(pair) for pair in zip(more, less, strict=True)]
    assert cost.spent([length], Retention(tuple(less))) <= cost.spent([length], Retention(tuple(more)))


def test_the_retention_set_now_changes_no_cost(bert):
    # Cost is of the graph: it may be asked for any retention.
    before = cost_of(wordelim.eliminate_(bert, Retention.keep_all(3)))
    assert cost_of(wordelim.eliminate_(bert, Retention.counts([4, 2, 1]))) == before


def test_a_dense_model_has_no_cost(bert):
    with pytest.raises(UnsupportedModelError, match="isn't compressed"):
        cost_of(bert)
