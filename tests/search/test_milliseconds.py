"""A cost in time: what its table says, and that both searches spend it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from wordelim import Retention, eliminate_, restore_
from wordelim.compression.run import compress_model
from wordelim.elimination.card import plain
from wordelim.graph.cost import Flops, cost_of
from wordelim.search.milliseconds import Milliseconds, _drop, measure_latency

LENGTHS = (2, 4, 16)


@pytest.fixture
def latency():
    return Milliseconds(
        layers=3,
        first_token=True,
        lengths=LENGTHS,
        entering=(0.0, 2.0, 8.0),
        leaving=(0.0, 1.0, 4.0),
        last=(0.0, 1.0, 2.0),
        base=0.5,
        drop=0.25,
    )


def test_a_schedule_takes_the_time_of_its_parts(latency):
    # 16 enter, 4 stay, then 2; the last layer is entered by 2. Dropping itself takes a quarter, twice.
    kept = Retention.counts([4, 2, 0])
    assert latency.spent([16], kept) == pytest.approx(0.5 + (8 + 1) + (2 + 0) + 0 + 2 * 0.25)
    assert latency.spent([16]) == pytest.approx(0.5 + 2 * (8 + 4) + 2)
    assert latency.spent([16, 3], kept) == pytest.approx(12.0 + 0.5 + (1 + 0.5) + (1 + 0) + 0 + 0.25)
    assert latency.ratio([16], kept) == pytest.approx(26.5 / 12.0)


def test_where_dropping_is_dear_fewer_layers_drop(make_model, make_tokenizer, make_texts, latency, monkeypatch):
    dropping = []
    for drop in (0.0, 6.0):
        table = replace(latency, layers=5, drop=drop)
        monkeypatch.setattr("wordelim.compression.find.measure_latency", lambda *args, table=table, **more: table)
        settings = {"search_examples": 16, "max_drop": 100, "retrain": False, "measure_speed": False, "cost": "latency"}
        model, tokenizer = make_model("bert", labels=2, layers=5), make_tokenizer("bert")
        texts = {"train": make_texts(48), "validation": make_texts(16, 1)}
        result = compress_model(model, tokenizer, **texts, target_speedup=1.8, **settings)
        keep = (1.0, *result.retention.keep[:-1])
        dropping.append(sum(left < entered for entered, left in pairwise(keep)))
    assert dropping[1] < dropping[0]


def test_what_dropping_takes_is_found_beside_what_it_saves():
    lengths, layers = (2, 8, 64, 128), 4
    whole = np.array([0.1 * length * layers for length in lengths])
    each = whole - 0.1 * (0 + 1 + 2 + 3) + 0.3 * 3
    assert _drop(whole, each, lengths, layers) == pytest.approx(0.3)
    assert _drop(whole, whole / 2, lengths, layers) == 0
    assert _drop(whole[:2], each[:2], lengths[:2], layers) == 0  # too short to tell


def test_it_has_a_slope(latency):
    entered = torch.tensor([3.0, 10.0], requires_grad=True)
    latency.layer(0, entered, entered).sum().backward()
    assert entered.grad.tolist() == pytest.approx([1.5, 0.75])


def test_plain_data_and_back(latency):
    assert Milliseconds.from_dict(latency.to_dict(), Flops((8, 8, 8, 8), 4, True)) == latency


@pytest.mark.parametrize("packaged", [False, True])
def test_the_machine_is_measured(make_model, random_maps, packaged):
    model, template = make_model("bert", layers=4), Retention.keep_all(4)
    template = replace(template, package=True, significance=random_maps(4)) if packaged else template
    state = model.state_dict()
    shares = []
    latency = measure_latency(model, 24, template, batch_size=2, rounds=2, progress=shares.append)
    assert latency.lengths == (2, 4, 8, 16, 24)
    assert latency.base > 0
    for times in (latency.entering, latency.leaving, latency.last):
        assert list(times) == sorted(times)
        assert times[0] == 0
    assert shares[-1] == 1
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    cost = cost_of(eliminate_(model, Retention.keep_all(4)))
    assert (latency.layers, latency.first_token) == (cost.layers, cost.first_token)
    restore_(model)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("package", [False, True])
def test_on_a_card_graphs_of_the_engine_are_measured_that_drop_as_the_template_says(
    make_model, by_engine, random_maps, linear, package
):
    made, launched = [], {}

    def counted(work, pool):
        made.append(work)
        return work

    class Launches:
        def __getattr__(self, name):
            def launch(*given):
                launched.setdefault(name, []).append(given)
                return getattr(plain, name)(*given)

            return launch

    maps = {"significance": random_maps(3)} if linear else {}
    template = replace(Retention.keep_all(3), package=package, **maps)
    with by_engine(ops=Launches(), capture=counted) as used:
        latency = measure_latency(make_model("bert"), 8, template, batch_size=2, rounds=2)
    assert used
    assert None not in used
    assert len(made) == 4 * len(latency.lengths)  # one for each model and length, and kept
    assert ("score" in launched, "attend_kept" in launched) == (not linear, linear)
    assert {given[4] for given in launched["choose"]} == {package}


@pytest.mark.parametrize("method", ["calibrated", "learned"])
def test_both_searches_reach_a_ratio_of_time(make_model, make_tokenizer, make_texts, latency, method, monkeypatch):
    timed = []

    def measured(model, longest, template, *, progress):
        timed.append(template)
        return latency

    monkeypatch.setattr("wordelim.compression.find.measure_latency", measured)
    settings = {"search_examples": 16, "batch_size": 8, "max_drop": 100, "retrain": False, "measure_speed": False}
    result = compress_model(
        make_model("bert", labels=2),
        make_tokenizer("bert"),
        train=make_texts(48),
        validation=make_texts(16, 1),
        method=method,
        cost="latency",
        target_speedup=1.8,
        **settings,
    )
    assert result.met
    (template,) = timed
    assert template.significance == result.retention.significance != "attention"
    assert template.package is result.retention.package is True
    assert result.report["latency"]["ratio"] >= 1.75
    assert result.report["latency"]["milliseconds"] == latency.to_dict()
    assert result.report["validation"]["flops_ratio"] != result.report["latency"]["ratio"]
