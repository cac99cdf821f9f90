"""Which speed is left in the end, by what each retraining wins back."""

import pytest

from wordelim import Retention, Settings
from wordelim.compression.choose import decide, worth_retraining
from wordelim.compression.trial import Weights
from wordelim.search.method import Candidate

SLOW, MIDDLE, FAST = CANDIDATES = tuple(Candidate(Retention((1 / ratio,)), ratio, 0.1) for ratio in (1.5, 2.0, 3.0))


class Walk:
    """A trial where all but the slowest lose ``ahead`` points until they are retrained alone, and then ``own``."""

    def __init__(self, ahead, own):
        self.ahead, self.own = ahead, own
        self.stage, self.alone, self.trained = "found", [], False

    def drop(self, candidate, *, exact=True):
        if not self.trained:
            return 2.0
        if candidate is SLOW:
            return 0.0
        return self.own if candidate in self.alone else self.ahead

    def retrain(self, candidates, epochs, stages):
        (self.stage,) = stages
        self.trained = True
        self.alone += candidates if len(candidates) == 1 else []

    def weights(self):
        return Weights(self.stage, {})

    def take_back(self, weights):
        self.stage = weights.stage


def walked(ahead, own, candidates=CANDIDATES, **settings):
    trial = Walk(ahead, own)
    return decide(trial, candidates, Settings(max_drop=1.0, **settings)), trial


def test_speeds_are_climbed_while_retraining_brings_them_within_bounds():
    chosen, trial = walked(ahead=3.0, own=0.5)
    assert trial.alone == [SLOW, MIDDLE, FAST]
    assert chosen is FAST
    assert trial.stage == "retrain: FLOPs ratio 3.00"


def test_what_a_speed_too_fast_has_changed_is_taken_back():
    chosen, trial = walked(ahead=3.0, own=1.5)
    assert chosen is SLOW
    assert trial.alone == [SLOW, MIDDLE]
    assert trial.stage == "retrain: chosen speed"


def test_a_speed_that_loses_too_much_is_not_retrained():
    chosen, trial = walked(ahead=6.0, own=0.0)
    assert trial.alone == [chosen] == [SLOW]


def test_a_speed_that_holds_as_it_is_is_taken_as_it_is():
    chosen, trial = walked(ahead=0.9, own=0.0)
    assert trial.alone == [FAST] == [chosen]  # the fastest within bounds is the one to retrain


def test_one_that_is_asked_for_is_retrained_alone_and_none_where_weights_stay():
    chosen, trial = walked(3.0, 3.0, CANDIDATES[2:], target_speedup=3)
    assert (chosen, trial.stage, trial.alone) == (FAST, "retrain", [FAST])
    chosen, trial = walked(3.0, 3.0, retrain=False)
    assert trial.stage == "found"


@pytest.mark.parametrize(
    ("drops", "left"),
    [
        ((0.0, 0.5, 20.0), (MIDDLE,)),
        ((0.0, 5.0, 13.0), CANDIDATES),
        ((5.0, 13.5, 20.0), (SLOW,)),
        ((0.5, 3.0, 0.9), (FAST,)),
    ],
)
def test_those_are_retrained_that_may_be_won_back(drops, left):
    assert tuple(worth_retraining(CANDIDATES, drops, max_drop=1.0)) == left


def test_heads_that_have_never_read_early_layers_are_given_a_chance():
    restored = [Candidate(Retention((0.5, 0.5), restore=True), ratio, 0.1) for ratio in (1.5, 2.0, 3.0)]
    assert worth_retraining(restored, (50.0, 60.0, 70.0), max_drop=1.0) == restored[:2]
