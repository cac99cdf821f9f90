"""The one progress display of a run, by a clock that the tests move."""

import io
import re
import types

import pytest
from rich.console import Console

from wordelim.cli import progress as display
from wordelim.cli.progress import Course, progress

STAGES = {"search": 10.0, "retrain: all": 40.0, "retrain: chosen": 40.0, "verify": 10.0}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def course(clock):
    """A run whose stages are known, and that was opened five seconds ago."""
    course = Course(clock)
    clock.now = 5.0
    course.expect(STAGES)
    return course


def at(course, clock, now, stage, part):
    clock.now = 5.0 + now
    course(stage, part)
    return course.share, course.left


def test_share_and_time_are_those_of_the_whole(course, clock):
    assert (course.share, course.left, course.elapsed) == (0.0, None, 5.0)
    assert at(course, clock, 0, "search", 0.0) == (0.0, None)
    assert at(course, clock, 1, "search", 0.5) == (0.05, None)
    assert at(course, clock, 2, "search", 1.0) == (0.10, 18.0)
    assert at(course, clock, 10, "retrain: all", 1.0) == (0.50, 10.0)
    assert at(course, clock, 20, "verify", 1.0) == (1.0, None)
    assert course.elapsed == 25.0


def test_what_is_done_first_is_no_measure(course, clock):
    assert at(course, clock, 100, "search", 0.5)[1] is None
    assert at(course, clock, 101, "search", 1.0)[1] == 18.0


def test_time_runs_down_between_reports(course, clock):
    at(course, clock, 1, "search", 0.5)
    at(course, clock, 2, "search", 1.0)
    clock.now += 4
    assert course.left == 14.0
    clock.now += 100
    assert course.left is None


def test_the_running_stage_has_a_rate_of_its_own(course, clock):
    at(course, clock, 5, "search", 0.5)
    at(course, clock, 10, "search", 1.0)
    # By the search's pace, one second for each of its units, until it is known better.
    assert at(course, clock, 10, "retrain: all", 0.0)[1] == 90.0
    assert at(course, clock, 11, "retrain: all", 0.01)[1] > 90.0
    # Twice as fast as was thought: 10 s more, and 50 units at the 15 s of these 25.
    share, left = at(course, clock, 20, "retrain: all", 0.5)
    assert (share, left) == (pytest.approx(0.3), pytest.approx(10 + 50 * 15 / 25))


def test_a_run_that_was_resumed_counts_its_own_time(course, clock):
    assert at(course, clock, 1, "retrain: all", 0.6)[1] is None
    share, left = at(course, clock, 5, "retrain: all", 0.8)
    assert (share, left) == (pytest.approx(0.42), pytest.approx(4 + 50 * 4 / 8))


def test_what_is_left_out_or_unforeseen_never_sets_it_back(course, clock):
    seen = []
    for now, (stage, part) in enumerate(
        [("opening", 1.0), ("retrain: chosen", 0.5), ("retrain: chosen", 0.2), ("who knows", 0.0), ("verify", 0.1)]
    ):
        seen.append(at(course, clock, now, stage, part)[0])
    assert seen == pytest.approx([0.0, 0.7, 0.7, 0.9, 0.91])
    course.expect({"more": 1000.0})
    assert at(course, clock, 9, "more", 0.0)[0] == pytest.approx(0.91)


@pytest.mark.parametrize("stage", ["retrain", "retrain, seed 0"])
def test_a_stage_stands_for_its_kind(course, clock, stage):
    at(course, clock, 1, "search", 1.0)
    assert at(course, clock, 5, stage, 0.5)[0] == 0.5


def test_nothing_is_foretold():
    course = Course()
    course("load", 0.5)
    assert (course.stage, course.share, course.left) == ("load", 0.0, None)


@pytest.mark.parametrize("width", [40, 100])
def test_display_is_one_line_that_fits(monkeypatch, width):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    monkeypatch.setattr(display, "errors", console)
    monkeypatch.setattr(display, "sys", types.SimpleNamespace(stderr=types.SimpleNamespace(isatty=lambda: True)))
    clock = Clock()
    monkeypatch.setattr(display, "Course", lambda: Course(clock))
    with progress() as show:
        show.expect({"search: measuring layers": 1.0, "retrain: all speeds, and a name that is long": 99.0})
        show("search: measuring layers", 0.5)
        clock.now = 30.0
        show("search: measuring layers", 1.0)
        show("retrain: all speeds, and a name that is long", 0.0)
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(len, frames)) <= width
    assert {" ".join(line.split()) for line in frames if "opening" in line}
    (last,) = {line for line in frames if "retrain: all" in line}
    assert last.endswith(" 1 % 1:39:00 left")


def test_stages_are_said_once_where_there_is_no_terminal(capsys):
    with progress() as show:
        for part in (0.0, 0.5, 1.0):
            show("search", part)
    assert capsys.readouterr().err == "search\n"
