"""Which speed is left in the end, by what each retraining wins back."""

from types import SimpleNamespace

import pytest

from wordelim import Retention, Settings
from wordelim.compression.choose import decide, worth_retraining
from wordelim.compression.job import Log
from wordelim.compression.trial import Lost, Weights
from wordelim.search.method import Candidate

SLOW, MIDDLE, FAST = CANDIDATES = tuple(Candidate(Retention((1 / ratio,)), ratio, 0.1) for ratio in (1.5, 2.0, 3.0))


class Walk:
    """A trial where all but the slowest lose ``ahead`` points until one as fast is retrained alone, and then ``own``.

    Of each as much more may be lost as ``doubt``.
    """

    def __init__(self, ahead, own, doubt=0.0, texts=100):
        self.ahead, self.own, self.doubt = ahead, own, doubt
        self.stage, self.alone, self.trained, self.passes = "found", [], False, []
        self.log, train = Log(), SimpleNamespace(dataset=range(texts))
        self.job = SimpleNamespace(ready=SimpleNamespace(examples={"train": train}))

    def drop(self, candidate):
        if not self.trained:
            return 2.0
        if candidate is SLOW:
            return 0.0
        alone = any(other.flops_ratio >= candidate.flops_ratio for other in self.alone)
        return self.own if alone else self.ahead

    def lost(self, candidate):
        drop = self.drop(candidate)
        return Lost(drop, drop + self.doubt)

    def between(self, slow, fast):
        return ()

    def retrain(self, candidates, epochs, stages):
        (self.stage,) = stages
        self.passes.append(epochs)
        self.trained = True
        self.alone += candidates if len(candidates) == 1 else []

    def weights(self):
        return Weights(self.stage, {})

    def take_back(self, weights):
        self.stage = weights.stage

    def dense_weights(self):
        return Weights("found", {})


class Between(Walk):
    """Loses as a line says, the more the faster; with two candidates between any others."""

    def __init__(self, points):
        super().__init__(0.0, 0.0)
        self.points = points

    def drop(self, candidate):
        return self.points * (candidate.flops_ratio - 1)

    def between(self, slow, fast):
        ratios = (slow.flops_ratio + (fast.flops_ratio - slow.flops_ratio) * step for step in (0.25, 0.5, 0.75))
        return [Candidate(Retention((1 / ratio,)), ratio, 0.1) for ratio in ratios]


def walked(ahead, own, candidates=CANDIDATES, doubt=0.0, **settings):
    trial = Walk(ahead, own, doubt)
    return decide(trial, candidates, Settings(max_drop=1.0, **settings)), trial


@pytest.mark.parametrize(
    ("texts", "batch", "passes"), [(100, 32, [1.0, 1.0]), (20_000, 32, [0.25, 1.0]), (60_000, 200, [0.5, 1.0])]
)
def test_to_retrain_all_speeds_takes_no_more_than_some_texts_or_steps(texts, batch, passes):
    trial = Walk(ahead=1.8, own=0.5, texts=texts)
    decide(trial, CANDIDATES, Settings(max_drop=1.0, epochs=2.0, batch_size=batch))
    assert trial.passes == passes


def test_speeds_are_climbed_while_retraining_brings_them_within_bounds():
    chosen, trial = walked(ahead=1.8, own=0.5)
    assert trial.alone == [FAST]  # near enough to begin with
    assert chosen is FAST


def test_one_that_is_not_near_is_not_retrained():
    chosen, trial = walked(ahead=3.0, own=0.5)
    assert (chosen, trial.alone, trial.stage) == (SLOW, [SLOW], "retrain: chosen speed")


def test_where_the_goal_fails_the_fastest_that_holds_with_its_weights_is_taken():
    chosen, trial = walked(ahead=1.8, own=1.5)
    assert (chosen, trial.alone) == (SLOW, [FAST])


def test_between_one_that_holds_and_one_that_does_not_there_is_a_faster_one():
    chosen = decide(Between(0.8), CANDIDATES, Settings(max_drop=1.0))
    assert chosen.flops_ratio == pytest.approx(2.25)  # 2.0 holds, 2.25 with 1.0 points too, 2.5 doesn't


@pytest.mark.parametrize(("doubt", "left"), [(0.0, FAST), (0.4, FAST), (0.6, SLOW), (1.1, SLOW)])
def test_what_may_be_lost_decides_and_not_what_was_measured(doubt, left):
    """Where nothing is sure to hold, it is the slowest that does as measured."""
    chosen, _ = walked(ahead=0.5, own=0.5, doubt=doubt)
    assert chosen is left


def test_what_a_speed_too_fast_has_changed_is_taken_back():
    class Falling(Walk):
        """The weights are spoilt for all when the fastest is retrained."""

        def drop(self, candidate):
            spoilt = FAST in self.alone and self.stage.endswith("3.00")
            return 5.0 if spoilt or not self.trained else {SLOW: 0.0, MIDDLE: 0.5, FAST: self.ahead}[candidate]

        def retrain(self, candidates, epochs, stages):
            super().retrain(candidates, epochs, stages)
            self.ahead = 1.5 if len(candidates) == 1 else 3.0

    trial = Falling(3.0, 0.0)
    chosen = decide(trial, CANDIDATES, Settings(max_drop=1.0, epochs=2))
    assert trial.alone == [MIDDLE, FAST]
    assert (chosen, trial.stage) == (MIDDLE, "retrain: chosen speed")


@pytest.mark.parametrize(("found", "left"), [(0.2, SLOW), (1.5, MIDDLE)])
def test_where_retraining_makes_it_worse_it_is_taken_back(found, left):
    """The slowest holds as it was found; retrained none does, and the middle one loses least."""

    class Spoilt(Walk):
        def drop(self, candidate):
            return (
                {SLOW: found, MIDDLE: 2.5, FAST: 9.0}[candidate] if self.stage == "found" else 1.2 + (candidate is SLOW)
            )

    trial = Spoilt(0.0, 0.0)
    chosen = decide(trial, CANDIDATES, Settings(max_drop=1.0))
    assert chosen is left
    assert (trial.stage == "found") == (found <= 1.0)
    assert len(trial.log.warnings) == (found <= 1.0)


def test_what_was_sure_to_hold_before_retraining_is_left_where_nothing_is_after_it():
    class Blurred(Walk):
        def drop(self, candidate):
            return 0.0 if candidate is SLOW and self.stage == "found" else 0.8

    trial = Blurred(0.0, 0.0, doubt=0.5)
    assert decide(trial, CANDIDATES, Settings(max_drop=1.0)) is SLOW
    assert trial.stage == "found"


def test_what_is_sure_to_hold_before_retraining_is_not_retrained_alone():
    class Sure(Walk):
        def drop(self, candidate):
            return 0.0 if candidate is SLOW else 2.5 if not self.alone else {MIDDLE: 0.5, FAST: 5.0}[candidate]

    trial = Sure(0.0, 0.0)
    assert decide(trial, CANDIDATES, Settings(max_drop=1.0)) is MIDDLE
    assert trial.alone == [MIDDLE]


def test_one_that_is_asked_for_is_retrained_alone_and_none_where_weights_stay():
    chosen, trial = walked(3.0, 3.0, CANDIDATES[2:], target_speedup=3)
    assert (chosen, trial.stage, trial.alone) == (FAST, "retrain", [FAST])
    chosen, trial = walked(3.0, 3.0, retrain=False)
    assert trial.stage == "found"


def test_luck_before_retraining_rules_no_slower_speed_out():
    """All hold as they are measured before retraining, on texts too few for any to be sure to."""

    class Lucky(Walk):
        def drop(self, candidate):
            return 0.0

    trial = Lucky(0.0, 0.0, doubt=3.0)
    assert decide(trial, CANDIDATES, Settings(max_drop=1.0)) is SLOW
    sure = Lucky(0.0, 0.0, doubt=0.5)
    assert decide(sure, CANDIDATES, Settings(max_drop=1.0)) is FAST


@pytest.mark.parametrize(
    ("held", "drops", "left"),
    [
        (MIDDLE, (0.0, 0.5, 20.0), (MIDDLE,)),
        (SLOW, (0.0, 0.5, 13.0), CANDIDATES),
        (None, (0.0, 0.5, 13.0), CANDIDATES),
        (None, (5.0, 13.5, 20.0), (SLOW,)),
        (SLOW, (0.5, 3.0, 0.9), CANDIDATES),
    ],
)
def test_those_are_retrained_that_may_be_won_back(held, drops, left):
    assert tuple(worth_retraining(CANDIDATES, drops, 1.0, held)) == left


def test_heads_that_have_never_read_early_layers_are_given_a_chance():
    restored = [Candidate(Retention((0.5, 0.5), restore=True), ratio, 0.1) for ratio in (1.5, 2.0, 3.0)]
    assert worth_retraining(restored, (50.0, 60.0, 70.0), 1.0, None) == restored[:2]
