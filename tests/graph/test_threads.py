"""A call takes the retention that held when it began, whatever another thread sets meanwhile."""

import sys
import threading
from itertools import cycle

import pytest
import torch

from wordelim import Retention, eliminate_, set_speed_
from wordelim.elimination.protect import announce, announced
from wordelim.graph.speeds import offer_speeds_
from wordelim.graph.splice import eliminating_encoder

THREADS, ANSWERS = 6, 32
BY_TOKEN = Retention.fractions([0.9, 0.6, 0.4], protect=("first", "tokens:5,6,7,8,9,10,11"))
SPEEDS = {1.5: Retention.fractions([0.9, 0.8, 0.7]), 3.0: Retention.fractions([0.4, 0.2, 0.1])}


@pytest.fixture
def often():
    """Threads take turns far more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def by_speed(model):
    offer_speeds_(model, SPEEDS)
    return [lambda: set_speed_(model, 1.5), lambda: set_speed_(model, 3.0)]


def by_retention(model):
    return [lambda: eliminate_(model, Retention.counts([20, 12, 9])), lambda: eliminate_(model, BY_TOKEN)]


@pytest.mark.parametrize(
    ("name", "head", "changes_of", "layout"),
    [
        ("bert", "sequence", by_speed, "packed"),
        ("bert", "sequence", by_speed, "padded"),
        ("bert", "token", by_retention, "padded"),
        ("modernbert", "sequence", by_retention, "packed"),
    ],
)
def test_an_answer_is_that_of_one_retention(make_model, make_batch, often, name, head, changes_of, layout):
    model = eliminate_(make_model(name, head=head), SPEEDS[1.5])
    eliminating_encoder(model).layout = layout
    batch = make_batch(model, [20, 14, 7])
    changes = changes_of(model)

    def answer():
        with torch.no_grad():
            return model(**batch).logits

    expected = [(change(), answer())[1] for change in changes]
    assert not torch.equal(*expected)
    found, errors, done = [], [], threading.Event()

    def ask():
        try:
            for _ in range(ANSWERS):
                found.append(answer())
        except BaseException as error:
            errors.append(error)

    def change():
        for one in cycle(changes):
            if done.wait(0.0002):
                return
            one()

    askers, changer = [threading.Thread(target=ask) for _ in range(THREADS)], threading.Thread(target=change)
    for thread in (changer, *askers):
        thread.start()
    for thread in askers:
        thread.join()
    done.set()
    changer.join()
    assert not errors
    assert len(found) == THREADS * ANSWERS
    strangers = [each for each in found if not any(torch.equal(each, known) for known in expected)]
    assert not strangers, f"{len(strangers)} of {len(found)} answers are of no retention"


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("other", [SPEEDS[3.0], BY_TOKEN])
def test_a_retention_set_between_two_layers_is_for_the_next_call(make_model, family, make_batch, logits, other, layout):
    model = eliminate_(make_model(family), SPEEDS[1.5])
    encoder = eliminating_encoder(model)
    encoder.layout = layout
    batch = make_batch(model, [20, 14, 7])
    before = logits(model, batch)
    for name in ("enter", "extract_0", "extract_1"):
        eliminate_(model, SPEEDS[1.5])
        handle = encoder.get_submodule(name).register_forward_pre_hook(lambda *args: eliminate_(model, other) and None)
        assert torch.equal(logits(model, batch), before)
        handle.remove()
        assert not torch.equal(logits(model, batch), before)


def test_what_is_announced_is_for_one_encoder_once():
    one, other = object(), object()
    announce(one, BY_TOKEN, None)
    assert announced(other) is None
    announce(one, BY_TOKEN, None)
    assert announced(one) == (BY_TOKEN, None)
    assert announced(one) is None
