"""``wordelim explain``: the text in the terminal, as JSON and as a page; an audit."""

import json

import pytest
from transformers import AutoTokenizer

import wordelim as package
from wordelim import Retention
from wordelim.checkpoint.directory import load_dense, save


@pytest.fixture
def fast(here):
    """``fast``, a compressed model, beside ``dense``."""
    save(
        package.eliminate_(load_dense("dense"), Retention.fractions([0.7, 0.4, 0])),
        AutoTokenizer.from_pretrained("dense"),
        "fast",
    )
    return here


def test_a_text_and_another(wordelim, fast):
    done = wordelim("explain", "fast", "the film is not good", "--compare", "good film", "--html", "pages/e.html")
    assert done.exit_code == 0, done.stderr
    for shown in ("the film is not good", "What is left of 7 tokens", "after layer 3", "Words that both texts have"):
        assert shown in done.stdout
    assert done.stderr == "Written: pages/e.html\n"
    assert (fast / "pages" / "e.html").read_text().startswith("<!doctype html>")


def test_json(wordelim, fast):
    done = wordelim("explain", "fast", "good film", "--pair", "bad plot", "--json")
    found = json.loads(done.stdout)
    assert found["texts"] == ["good film", "bad plot"]
    assert [word["text"] for word in found["words"] if word["part"] == 1] == ["bad", "plot"]
    both = json.loads(wordelim("explain", "fast", "good film", "--compare", "bad", "--json").stdout)
    assert [both[name]["texts"] for name in ("first", "second")] == [["good film"], ["bad"]]


def test_an_audit(wordelim, fast):
    done = wordelim("explain", "fast", "--audit", "dev.csv", "--watch", "good,Film", "--html", "a.html")
    assert done.exit_code == 0, done.stderr
    for shown in ("Words of 24 texts through 3 layers", "Dropped earliest", "0 dropped", "Watched words"):
        assert shown in done.stdout
    assert (fast / "a.html").exists()
    found = json.loads(wordelim("explain", "fast", "--audit", "dev.csv", "--limit", "5", "--json").stdout)
    assert found["texts"] == 5


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("dense", "good"), 1, "holds no compressed model"),
        (("fast", " "), 1, "The text is blank"),
        (("fast",), 2, "give a text, or a data set with --audit"),
        (("fast", "good", "--audit", "dev.csv"), 2, "give a text, or a data set with --audit"),
        (("fast", "--audit", "no.csv"), 1, "no.csv"),
        (("fast", "good", "--html", "dense/config.json/e.html"), 1, "can't be written"),
    ],
)
def test_errors(wordelim, fast, arguments, code, said):
    done = wordelim("explain", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr


def test_an_audit_names_its_own_options(wordelim, fast, here):
    (here / "odd.csv").write_text("words,other\ngood film,1\n")
    refused = wordelim("explain", "fast", "--audit", "odd.csv")
    assert refused.exit_code == 1
    assert "name one with --text-column (and the second text of a pair with --pair-column)" in refused.stderr
