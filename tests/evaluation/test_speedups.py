"""What a speed-up is made of, on a machine whose time is FLOPs: there every figure is known."""

import math

import pytest

from wordelim import Retention, eliminate_
from wordelim.data.columns import find_columns
from wordelim.data.encode import encode
from wordelim.evaluation import timing
from wordelim.evaluation.speedups import speedups
from wordelim.evaluation.timing import workload
from wordelim.graph.cost import cost_of

KEEP = Retention.fractions([0.6, 0.3, 0.0])
ALL = Retention.keep_all(3)


@pytest.fixture(scope="module")
def cost(make_model):
    return cost_of(eliminate_(make_model("bert"), ALL))


@pytest.fixture
def measure(make_tokenizer, make_model, make_texts, cost, monkeypatch):
    """``measure(*names, batch_size)``: the report where a forward takes as many seconds as it has FLOPs."""
    texts, tokenizer = make_texts(24), make_tokenizer("bert")
    encoded = encode(texts, tokenizer, find_columns(texts), make_model("bert").config).dataset
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def forward(name, keep):
        retention = {"dense": None, "keep-all": ALL, "compressed": keep}[name]

        def run(batch):
            mask = batch["attention_mask"]
            sizes = [mask.shape[1]] * len(mask) if name == "dense" else mask.sum(1).tolist()
            if keep.protects_by_token and name == "compressed":
                separators = (batch["input_ids"] == tokenizer.sep_token_id).sum(1)
                sizes = list(zip(sizes, (1 + separators).tolist(), strict=True))
            clock[0] += cost.spent(sizes, retention)

        return run

    def make(*names, batch_size, keep=KEEP):
        work = workload(encoded, tokenizer, max_length=40, batch_size=batch_size, texts=20)
        retention = keep if "compressed" in names else ALL
        return work, speedups({name: forward(name, keep) for name in names}, work, cost, retention, rounds=2)

    return make


def test_time_that_is_flops_is_full_efficiency_and_the_factors_make_up_the_whole(measure, cost):
    work, found = measure("dense", "keep-all", "compressed", batch_size=6)
    assert list(found["against"]) == ["fixed", "dynamic", "unpadded", "keep-all"]
    for won in found["against"].values():
        assert won["efficiency"] == 1
        assert won["speedup"]["median"] == pytest.approx(won["flops_ratio"], abs=1e-3)
        assert won["speedup"]["low"] == won["speedup"]["high"] == won["speedup"]["median"]
    for name in ("fixed", "dynamic"):
        won = found["against"][name]
        factors = won["factors"]
        assert math.prod(factors.values()) == pytest.approx(won["speedup"]["median"], rel=2e-3)
        assert factors["dropping"] == pytest.approx(
            cost.spent(work.lengths, ALL) / cost.spent(work.lengths, KEEP), 1e-3
        )
        assert won["padding_share"] == pytest.approx(
            math.log(factors["padding"]) / math.log(won["speedup"]["median"]), abs=2e-3
        )
    assert found["against"]["fixed"]["padding_share"] > found["against"]["dynamic"]["padding_share"] > 0
    assert found["padding"]["fixed"] == pytest.approx(20 * 40 / sum(work.lengths), abs=1e-3)


def test_what_dropping_gives_is_the_least(measure):
    _, found = measure("dense", "keep-all", "compressed", batch_size=6)
    speedup = {name: won["speedup"]["median"] for name, won in found["against"].items()}
    assert speedup["fixed"] > speedup["dynamic"] > speedup["unpadded"] > speedup["keep-all"] > 1


def test_nothing_dropped(measure):
    _, found = measure("dense", "keep-all", batch_size=6)
    assert list(found["against"]) == ["fixed", "dynamic", "unpadded"]
    assert set(found["against"]["dynamic"]["factors"]) == {"padding", "last_layer"}


def test_without_a_rewritten_dense_model_there_are_no_factors(measure):
    _, found = measure("dense", "compressed", batch_size=6)
    assert list(found["against"]) == ["fixed", "dynamic", "unpadded"]
    assert "factors" not in found["against"]["fixed"]


def test_one_text_at_a_time(measure):
    work, found = measure("dense", "keep-all", "compressed", batch_size=1)
    assert list(found["against"]) == ["fixed", "unpadded", "keep-all"]
    assert found["batches"] == len(work.lengths) == 20
    assert set(found["milliseconds"]) == {"dense fixed", "dense unpadded", "keep-all unpadded", "compressed unpadded"}
    assert found["milliseconds"]["dense fixed"]["p95"] == found["milliseconds"]["dense fixed"]["median"]
    assert found["milliseconds"]["dense unpadded"]["p95"] > found["milliseconds"]["dense unpadded"]["median"]
    assert all(won["efficiency"] == 1 for won in found["against"].values())


def test_word_vectors_that_are_protected_by_their_token_count(measure, make_tokenizer):
    separators = f"separators:{make_tokenizer('bert').sep_token_id}"
    keep = Retention.fractions([0.5, 0.05, 0.0], protect=("first", separators))
    _, found = measure("dense", "keep-all", "compressed", batch_size=6, keep=keep)
    assert all(won["efficiency"] == 1 for won in found["against"].values())
