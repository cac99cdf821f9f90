"""One progress display for a whole run: what is running, how far the whole is, how long it will go on."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.text import Text

from .run import errors

__all__ = ["Course", "progress"]

# Share of a stage from which on its own rate tells better how long it will go on than that of the run so far.
_SETTLED = 0.05
_LONG = 60.0


class Course:
    """How far a run is, and how long it will go on, from the stages that it foretells and reports.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._opened = self._reported = clock()
        self._ahead: dict[str, float] = {}
        self._left_out = self._ran = 0.0
        self._weight = self._part = 0.0
        # When the run, and the running stage, first reported that something was done, and how much.
        self._began: tuple[float, float] | None = None
        self._first = (self._opened, 0.0)
        self.stage, self.share = "", 0.0

    def expect(self, stages: Mapping[str, float], seconds: float | None = None) -> None:
        """Take note of the stages to come, in their order, and what each takes relative to the others."""
        self._ahead.update(stages)
        _foretell(seconds)

    def __call__(self, stage: str, part: float) -> None:
        """Take note of the part of a stage, 0..1, that is done; whatever stood before it is over, or left out."""
        self._reported = self._clock()
        if stage != self.stage:
            self._begin(stage)
            self._first = (self._reported, part)
        self._part = max(self._part, part)
        if self._began is None and self._done:
            self._began = (self._reported, self._done)  # what is done first takes longest
        total = self._left_out + self._ran + self._weight + sum(self._ahead.values())
        self.share = max(self.share, (self._left_out + self._done) / total if total else 0.0)

    def _begin(self, stage: str) -> None:
        self._ran += self._weight * self._part
        self._left_out += self._weight * (1 - self._part)
        names = list(self._ahead)
        # A stage that nobody foretold stands for all of its kind: "retrain", where there was one speed to retrain after
        # all, for "retrain: all speeds" and "retrain: chosen speed".
        due = [name for name in names if name == stage] or [name for name in names if _kind(name) == _kind(stage)]
        for name in names[: names.index(due[0])] if due else ():
            self._left_out += self._ahead.pop(name)
        self._weight = sum(self._ahead.pop(name) for name in due)
        self.stage, self._part = stage, 0.0

    @property
    def _done(self) -> float:
        return self._ran + self._weight * self._part

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._opened

    @property
    def left(self) -> float | None:
        """Seconds until the end; None where there is nothing to tell it from, or they have run out."""
        since, before = self._began or (0.0, self._done)
        if self._done == before:
            return None
        pace, gained = (self._reported - since) / (self._done - before), self._part - self._first[1]
        whole = (self._reported - self._first[0]) / gained if gained >= _SETTLED else pace * self._weight
        left = whole * (1 - self._part) + pace * sum(self._ahead.values()) - (self._clock() - self._reported)
        return left if left > 0 else None


class _Named:
    """Names each stage when it begins."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def expect(self, stages: Mapping[str, float], seconds: float | None = None) -> None:
        _foretell(seconds)

    def __call__(self, stage: str, part: float) -> None:
        if stage not in self.seen:
            self.seen.add(stage)
            errors.print(stage)


def _foretell(seconds: float | None) -> None:
    """Say how long a run will take, where it is long enough to wait for."""
    if seconds is not None and seconds >= _LONG:
        errors.print(f"about {round(seconds / 60)} min on this machine")


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """One line on stderr: the running stage, the share of the whole run that is done, and the time that is left.

    Where stderr is no terminal, a stage is named when it begins, and no more.
    """
    if not sys.stderr.isatty() or errors.quiet:
        yield _Named()
        return
    from rich.progress import Progress, ProgressColumn, SpinnerColumn
    from rich.progress_bar import ProgressBar
    from rich.table import Column

    course = Course()

    class Shown(ProgressColumn):
        def __init__(self, show: Callable[[], Any], **column: Any) -> None:
            super().__init__(Column(no_wrap=True, **column))
            self.show = show

        def render(self, task: object) -> Any:
            return self.show()

    def remaining() -> Text:
        left = course.left
        return Text(_clock(course.elapsed) if left is None else f"{_clock(left)} left", style="cyan")

    columns = (
        SpinnerColumn(),
        Shown(lambda: Text(course.stage or "opening"), overflow="ellipsis", ratio=2),
        Shown(lambda: ProgressBar(total=1.0, completed=course.share), min_width=5, ratio=1),
        Shown(lambda: Text(f"{100 * course.share:.0f} %"), min_width=5, justify="right"),
        Shown(remaining, min_width=9),
    )
    with Progress(*columns, console=errors, transient=True, expand=True) as display:
        display.add_task("", total=1.0)
        yield course


def _kind(stage: str) -> str:
    return re.split("[:,]", stage)[0]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
