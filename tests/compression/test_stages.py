"""Which speed is left in the end, by what each retraining wins back."""

import pytest

from wordelim import compress_model, retention_of
from wordelim.compression import stages

RUN = {"batch_size": 16, "epochs": 1, "search_examples": 8, "measure_speed": False}


@pytest.fixture
def walked(make_model, make_tokenizer, make_texts, monkeypatch):
    """``walked(ahead, own)``: a run where all but the slowest speed lose ``ahead`` points until retrained alone."""

    def run(ahead, own):
        slowest, alone, weights = [], [], {}
        retrain = stages.Stages._retrain

        def note(self, retentions, epochs, stage, seed):
            retrain(self, retentions, epochs, stage, seed)
            alone[:] = [*alone, *(retention.keep for retention in retentions if len(retentions) == 1)]
            slowest[:] = slowest or [min(retentions, key=lambda r: self.cost.ratio(self.texts["train"], r)).keep]
            self.model.classifier.bias.data += 1  # a retraining shows in the weights, however short it was
            weights[alone[-1] if alone else None] = self.model.classifier.bias.tolist()

        def drop(self, retention, **options):
            if not slowest:
                return 2.0
            if slowest == [retention.keep]:
                return 0.0
            return own if retention.keep in alone else ahead

        monkeypatch.setattr(stages.Stages, "_retrain", note)
        monkeypatch.setattr(stages.Stages, "_drop", drop)
        sets = {name: make_texts(8, seed) for seed, name in enumerate(("train", "validation"))}
        model = compress_model(
            make_model("bert", labels=2), make_tokenizer("bert"), **sets, **RUN, max_drop=1.0, seed=0
        ).model
        keep = retention_of(model).keep
        kept = [of for of, then in weights.items() if then == model.classifier.bias.tolist()]
        return {"keep": keep, "slowest": slowest[0], "alone": alone, "weights": kept}

    return run


def test_speeds_are_climbed_while_retraining_brings_them_within_bounds(walked):
    found = walked(ahead=3.0, own=0.5)
    assert len(found["alone"]) > 2
    assert found["keep"] == found["alone"][-1]
    assert found["weights"] == [found["keep"]]


def test_what_a_speed_too_fast_has_changed_is_taken_back(walked):
    found = walked(ahead=3.0, own=1.5)
    assert found["keep"] == found["slowest"] == found["alone"][0]
    assert len(found["alone"]) == 2
    assert found["weights"] == [found["slowest"]]


def test_a_speed_that_loses_too_much_is_not_retrained(walked):
    found = walked(ahead=6.0, own=0.0)
    assert found["alone"] == [found["slowest"]] == [found["keep"]]


def test_a_speed_that_holds_as_it_is_is_taken_as_it_is(walked):
    found = walked(ahead=0.9, own=0.0)
    assert len(found["alone"]) == 1
    assert found["keep"] == found["alone"][0] != found["slowest"]
