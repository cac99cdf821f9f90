"""Rows that are asked one by one are answered in batches: without Ray, which is not needed for it."""

import asyncio
import threading
import time

import pytest

from wordelim.errors import WordelimError
from wordelim.serving.answers import Row
from wordelim.serving.batching import Batching


def row(tokens):
    return Row({"input_ids": [0] * tokens}, ...)


class Held:
    """Answers each row with its number of tokens, once it is let; and notes the batches."""

    def __init__(self, fails=()):
        self.batches, self.fails, self.let = [], fails, threading.Event()

    def __call__(self, rows):
        self.batches.append([each.tokens for each in rows])
        assert self.let.wait(60)
        if len(self.batches) - 1 in self.fails:
            raise RuntimeError("no memory")
        return [ValueError("nan") if each.tokens == 13 else each.tokens for each in rows]


async def begin(batching, sizes):
    tasks = [asyncio.create_task(batching(row(size))) for size in sizes]
    await asyncio.sleep(0)  # each is asked until it waits
    return tasks


def answers(held, batching, first, *rest):
    """What is answered, and errors: the first is asked, and while it is computed all others are."""

    async def ask():
        tasks = await begin(batching, [first])
        while rest and not held.batches:
            await asyncio.sleep(0.001)
        tasks += await begin(batching, rest)
        held.let.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(ask())


def test_what_comes_while_a_batch_is_computed_makes_the_next():
    held = Held()
    assert answers(held, Batching(held, 100), 1, 20, 30, 40, 50, 2) == [1, 20, 30, 40, 50, 2]
    assert held.batches == [[1], [20, 30, 40], [50, 2]]


def test_a_row_longer_than_the_budget_goes_alone_and_none_waits_for_ever():
    held = Held()
    assert answers(held, Batching(held, 10), 5, 30, 5, 5) == [5, 30, 5, 5]
    assert held.batches == [[5], [30], [5, 5]]


@pytest.mark.parametrize(("sizes", "wait"), [([4, 2, 2], 300.0), ([4, 2], 0.2)])
def test_a_batch_waits_for_more_until_it_is_full(sizes, wait):
    held = Held()
    held.let.set()
    batching = Batching(held, 8, wait)

    async def ask():
        return await asyncio.gather(*await begin(batching, sizes))

    begun = time.monotonic()
    assert asyncio.run(ask()) == sizes
    assert held.batches == [sizes]
    assert time.monotonic() - begun < 60


def test_an_error_is_of_its_batch_or_of_its_row_alone():
    held = Held(fails=[1])
    found = answers(held, Batching(held, 10), 1, 5, 5, 13, 4)
    assert found[0] == 1
    assert [type(each) for each in found[1:3]] == [RuntimeError] * 2
    assert [str(found[3]), found[4]] == ["nan", 4]
    held = Held()
    assert [str(each) for each in answers(held, Batching(held, 100), 1, 13, 2)] == ["1", "nan", "2"]


def test_what_nobody_waits_for_any_more_is_not_computed():
    held = Held()
    batching = Batching(held, 100)

    async def leave():
        (first,) = await begin(batching, [1])
        while not held.batches:
            await asyncio.sleep(0.001)
        gone, last = await begin(batching, [2, 3])
        gone.cancel()
        held.let.set()
        return await asyncio.gather(first, last)

    assert asyncio.run(leave()) == [1, 3]
    assert held.batches == [[1], [3]]


def test_what_comes_after_a_pause_is_answered_too():
    held = Held()
    held.let.set()
    batching = Batching(held, 100)

    async def twice():
        return await batching(row(1)), await batching(row(2))

    assert asyncio.run(twice()) == (1, 2)


def _stops(rows):
    raise StopIteration


def _is_cancelled(rows):
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("answer", "errors"),
    [
        (lambda rows: [1] * (len(rows) - 1), (WordelimError,)),
        (lambda rows: [1] * (len(rows) + 1), (WordelimError,)),
        (_stops, (RuntimeError,)),
        (_is_cancelled, (WordelimError, asyncio.CancelledError)),
    ],
)
def test_nobody_waits_for_an_answer_that_never_comes(answer, errors):
    async def ask():
        batching = Batching(answer, budget=2)
        tasks = [asyncio.create_task(batching(row(1))) for _ in range(4)]
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        batching._answer = lambda rows: [2] * len(rows)
        return found, await asyncio.wait_for(batching(row(1)), 60)

    found, after = asyncio.run(ask())
    assert all(isinstance(each, errors) for each in found), found
    assert after == 2
