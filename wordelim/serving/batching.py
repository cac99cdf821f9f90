"""Batches of what many ask at once: while one is computed, what comes meanwhile makes the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..errors import WordelimError
from .answers import Row

__all__ = ["Batching"]


class Batching:
    """Rows to their answers, in batches, of which one is computed at a time, in a thread. Of one event loop.

    Args:
        answer: from the rows of a batch to their answers, in their order.
        budget: tokens of a batch, all rows together; a longer row makes a batch of its own.
        wait: seconds for which a batch that has room waits for more rows; without any it takes those that are there.
    """

    def __init__(self, answer: Callable[[Sequence[Row]], Sequence[Any]], budget: int, wait: float = 0.0) -> None:
        self._answer, self._budget, self._wait = answer, budget, wait
        self._waiting: deque[tuple[Row, asyncio.Future[Any]]] = deque()
        self._enough = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, row: Row) -> Any:
        """The answer to a row; what computing its batch raised."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        if self._wait and self._tokens() >= self._budget:
            self._enough.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await future

    def _tokens(self) -> int:
        return sum(row.tokens for row, _ in self._waiting)

    async def _run(self) -> None:
        futures: list[asyncio.Future[Any]] = []
        try:
            while self._waiting:
                if self._wait and self._tokens() < self._budget:
                    self._enough.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._enough.wait(), self._wait)
                rows, futures = self._next()
                for future, answer in zip(futures, await self._answered(rows), strict=True):
                    if not future.done():
                        future.set_exception(answer) if isinstance(answer, Exception) else future.set_result(answer)
        finally:  # whatever ended it, nobody waits for ever
            for future in (*futures, *(future for _, future in self._waiting)):
                if not future.done():
                    future.set_exception(WordelimError("A text got no answer: ask again."))
            self._waiting.clear()

    async def _answered(self, rows: Sequence[Row]) -> Sequence[Any]:
        """An answer for each row, or what stands for it: what computing all of them raised."""
        if not rows:
            return []
        try:
            return await asyncio.to_thread(self._computed, rows)
        except Exception as error:
            return [error] * len(rows)

    def _computed(self, rows: Sequence[Row]) -> Sequence[Any]:
        try:
            answers = self._answer(rows)
        except StopIteration as error:  # which no future can hold
            raise RuntimeError("the model stopped iterating") from error
        if len(answers) != len(rows):
            raise WordelimError(f"{len(rows)} texts got {len(answers)} answers: ask again.")
        return answers

    def _next(self) -> tuple[list[Row], list[asyncio.Future[Any]]]:
        """The next rows that go into one batch, but for those that nobody waits for any more."""
        rows: list[Row] = []
        futures: list[asyncio.Future[Any]] = []
        left = self._budget
        while self._waiting and (not rows or self._waiting[0][0].tokens <= left):
            row, future = self._waiting.popleft()
            if not future.done():
                rows.append(row)
                futures.append(future)
                left -= row.tokens
        return rows, futures
