"""What a run foretells is what it then does."""

import numpy as np
import pytest

from wordelim import Settings, compress_model, probe_model
from wordelim.compression.run import stages
from wordelim.verbs.check import check_stages
from wordelim.verbs.probe import ProbeSettings

RUN = {"batch_size": 16, "epochs": 1, "search_examples": 8, "max_drop": 100, "measure_speed": False}


class Told:
    def __init__(self):
        self.expected, self.seen = {}, {}

    def expect(self, stages, seconds=None):
        self.expected.update(stages)

    def __call__(self, stage, part):
        parts = self.seen.setdefault(stage, [])
        assert 0 <= part <= 1
        assert list(self.seen)[-1] == stage, "it comes back"
        assert not parts or part >= parts[-1]
        parts.append(part)


def five_points_less():
    """A metric by which all that answer otherwise than the dense model, which is asked first, lose five points."""
    dense = []

    def score(asked):
        dense.append(asked.predictions)
        same = len(asked.predictions) == len(dense[0]) and np.allclose(asked.predictions, dense[0], atol=1e-6)
        return {"score": 1.0 if same else 0.95}

    return score


@pytest.fixture
def told(make_model, make_tokenizer, make_texts):
    """``told(**settings)``: compress, and say what was foretold and what was seen."""

    def run(**settings):
        told = Told()
        if "metric" in settings:  # so that all candidates are left to retrain
            settings["metric"] = five_points_less()
        sets = {name: make_texts(8, seed) for seed, name in enumerate(("train", "validation", "test"))}
        compress_model(
            make_model("bert", labels=2), make_tokenizer("bert"), **sets, **{**RUN, **settings}, progress=told
        )
        return told

    return run


@pytest.mark.parametrize(
    "settings",
    [
        {"seeds": 2, "seed": 3, "max_drop": 1, "metric": "five points less"},
        {"speeds": (1.5, 3)},
        {"target_speedup": 1.5, "retrain": False},
        {"keep": (0.5, 0.5, 0.0), "measure_speed": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_compression_foretells_its_stages(told, settings):
    told = told(**settings)
    assert list(told.expected) == list(told.seen)
    assert all(weight > 0 for weight in told.expected.values())
    assert {parts[-1] for parts in told.seen.values()} == {1.0}


def test_a_probe_foretells_its_stages(make_model, make_tokenizer, make_texts):
    told = Told()
    settings = ProbeSettings(examples=8, texts=4, rounds=1)
    probe_model(make_model("bert", labels=2), make_tokenizer("bert"), make_texts(8), settings, progress=told)
    assert list(told.expected) == list(told.seen)


def test_the_longest_stage_weighs_most():
    lengths = {"train": [20] * 60_000, "validation": [20] * 1_000}
    found = stages(Settings(), lengths, 12)
    assert found["retrain: chosen speed"] > found["retrain: all speeds"] > found["screening"]
    assert found["retrain: chosen speed"] > 10 * found["screening"]
    slow = stages(Settings(), lengths, 12, exact=3.0)
    assert slow["verify: validation"] == 3 * found["verify: validation"]
    for stage in ("screening", "retrain: chosen speed"):
        assert slow[stage] > found[stage]
    assert slow["asking the dense model"] == found["asking the dense model"]
    found = stages(Settings(method="learned", cost="latency"), lengths, 12)
    first = ["ranking words", "timing layers", "asking the dense model", "learning", "confirming"]
    assert list(found)[:5] == [f"search: {stage}" for stage in first]
    assert max(found, key=lambda stage: found[stage]) == "search: learning"
    assert list(check_stages([20] * 10, base=False, speed=True)) == ["compressed model", "speed"]
