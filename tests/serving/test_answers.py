"""Texts that many ask at once are each taken as they were asked."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from wordelim.serving.answers import Answers
from wordelim.serving.requests import RequestError


@pytest.fixture(scope="module")
def answers(served):
    return Answers.of(served / "classifier", device="cpu")


def test_threads_that_cut_and_threads_that_do_not_leave_each_other_alone(answers):
    limit, long = answers.longest, "good bad " * 200
    short = "good bad " * (limit // 4)

    def encoded(number):
        if number % 3 == 2:
            with pytest.raises(RequestError, match="402 tokens"):
                answers.encode((long, None))
            return limit
        return answers.encode((long if number % 3 else short, None), truncate=bool(number % 3)).tokens

    alone = [encoded(number) for number in range(3)]
    assert alone[0] < alone[1] == limit
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(encoded, range(1500))] == alone * 500
