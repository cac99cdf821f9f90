"""What a launcher, or a shell that outlived one, leaves in the environment."""

from itertools import product

import pytest

DATA = ("--train", "train.csv", "--validation", "dev.csv")
COMMANDS = {
    "compress": ("dense", *DATA, "-o", "out", "--keep", "0.7,0.4,0", "--max-drop", "100", "--epochs", "0.5"),
    "probe": ("dense", "--validation", "dev.csv", "-o", "out.json"),
    "check": ("dense", "dense", "--data", "dev.csv", "-o", "out.json"),
    "bench": ("dense", "--data", "dev.csv", "--rounds", "1", "--texts", "4", "--latency-texts", "0", "-o", "out.json"),
    "export": ("dense", "-o", "out"),
    "inspect": ("dense",),
    "explain": ("dense", "good"),
    "push": ("dense", "me/dense"),
    "demo": ("-o", "out"),
}
NO_LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OTHERS = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29511"}


@pytest.fixture
def launched(monkeypatch):
    def launch(**variables):
        for name in NO_LAUNCH:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return launch


LEFT = {"RANK": "3", "LOCAL_RANK": "3"}


@pytest.mark.parametrize(
    ("command", "left"),
    [
        *((command, LEFT) for command in ("compress", "probe", "check", "bench", "inspect")),
        ("compress", {"RANK": "1", "WORLD_SIZE": "1"}),
        *((command, OTHERS) for command in ("probe", "check", "bench", "inspect")),
    ],
)
def test_what_no_others_are_needed_for_is_done_as_ever(wordelim, here, launched, command, left):
    """A rank without others is no launch; and but for compress, each process does all by itself, writes and prints."""
    launched(**left)
    done = wordelim(command, *COMMANDS[command])
    assert done.exit_code == 0, done.stderr
    assert done.stdout
    if command != "inspect":
        assert "Written: out" in done.stderr
        assert list(here.glob("out*"))


WRONG = {
    "no number": ({"RANK": "x"}, "RANK is 'x'"),
    "no size": ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
    "none at all": ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
    "fraction": ({"LOCAL_RANK": "1.5"}, "LOCAL_RANK is '1.5'"),
    "negative": ({"RANK": "-2", "WORLD_SIZE": "2"}, "RANK is '-2'"),
    "too high": ({**OTHERS, "RANK": "2"}, "RANK is 2, but WORLD_SIZE is 2"),
    "size alone": ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK isn't set"),
    "nowhere to meet": ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is 2, but MASTER_ADDR isn't set"),
    "no door": ({**OTHERS, "MASTER_PORT": ""}, "WORLD_SIZE is 2, but MASTER_PORT isn't set"),
}


# All commands ask the same question: each of them with one wrong answer, and one of them with each.
ASKED = {("no number", command) for command in COMMANDS} | {(name, "check") for name in WRONG}


@pytest.mark.parametrize(
    ("name", "command"),
    [case if case in ASKED else pytest.param(*case, marks=pytest.mark.long) for case in product(WRONG, COMMANDS)],
)
def test_what_is_no_launch_either_is_one_sentence(wordelim, here, launched, command, name):
    variables, said = WRONG[name]
    launched(**variables)
    done = wordelim(command, *COMMANDS[command])
    assert done.exit_code == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert " or unset " in line
    assert not list(here.glob("out*"))
