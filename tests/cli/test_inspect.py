"""``wordelim inspect``, and what all commands share."""

import json

import pytest

from wordelim import Retention, eliminate_
from wordelim.checkpoint.directory import save


@pytest.fixture
def compressed(here, make_model, make_tokenizer):
    save(eliminate_(make_model("bert"), Retention.fractions([0.5, 0.25, 0.0])), make_tokenizer("bert"), "compressed")


def test_a_dense_model(wordelim, here):
    done = wordelim("inspect", "dense")
    assert done.exit_code == 0
    assert done.stderr == ""
    for shown in ("BertForSequenceClassification", "supported", "everything (not compressed)", "x at 64 tokens"):
        assert shown in done.stdout


@pytest.mark.usefixtures("compressed")
def test_a_compressed_model(wordelim):
    shown = wordelim("inspect", "compressed").stdout.replace("\N{NO-BREAK SPACE}", " ")
    assert "1: 50 %  2: 25 %  3: the first" in shown


@pytest.mark.usefixtures("compressed")
def test_json(wordelim):
    done = wordelim("inspect", "compressed", "--json")
    found = json.loads(done.stdout)
    assert found["retention"]["keep"] == [0.5, 0.25, 0.0]
    assert done.stderr == ""


@pytest.mark.usefixtures("compressed")
@pytest.mark.parametrize("width", [30, 60, 100])
def test_narrow_terminals_cut_nothing(wordelim, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    done = wordelim("inspect", "compressed")
    assert max(map(len, done.stdout.splitlines())) <= width
    assert "BertForSequenceClassification" in "".join(done.stdout.split())
    assert "…" not in done.stdout


@pytest.mark.usefixtures("compressed")
def test_color_is_for_terminals_that_want_it(wordelim, monkeypatch):
    assert "\x1b" not in wordelim("inspect", "compressed").stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[36m" in wordelim("inspect", "compressed").stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[36m" not in wordelim("inspect", "compressed").stdout


def test_a_model_that_isnt_there(wordelim, here):
    done = wordelim("inspect", "./nowhere")
    assert done.exit_code == 1
    assert done.stderr == "error: Model directory './nowhere' doesn't exist.\n"


def test_names_in_brackets_are_printed_as_they_are(wordelim, here):
    done = wordelim("inspect", "./[bold]:smile:")
    assert done.stderr == "error: Model directory './[bold]:smile:' doesn't exist.\n"


def test_help_of_every_command(wordelim):
    assert wordelim().exit_code == 2
    for command in ("bench", "compress", "demo", "inspect"):
        done = wordelim(command, "--help")
        assert done.exit_code == 0
        assert "Example: wordelim" in done.stdout
