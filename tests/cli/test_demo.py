"""``wordelim demo`` on a reduced corpus and a tiny model: the whole path, in seconds."""

import json

import pytest

import wordelim as package


@pytest.fixture
def small(here, template, make_texts, monkeypatch):
    """The demo's model and corpus, replaced by small ones."""
    sizes = {"train": (32, 0), "validation": (24, 1), "test": (24, 2)}
    monkeypatch.setattr("wordelim.verbs.demo.MODEL_DIR", template)
    monkeypatch.setattr("wordelim.verbs.demo.load", lambda split: make_texts(*sizes[split]))
    return here


def test_demo_runs_the_whole_path(wordelim, small):
    done = wordelim("demo")
    if done.exit_code == 3:
        assert "Not met: " in done.stderr
        written = small / "wordelim-demo.wordelim_report.json"
    else:
        assert done.exit_code == 0
        assert done.stderr.endswith("wordelim-demo/report.html\n")
        written = small / "wordelim-demo" / "wordelim_report.json"
        package.load("wordelim-demo")
    assert json.loads(written.read_text())["test"]["examples"] == 24
    for shown in ("accuracy, in points", "Word vectors kept after each layer", "Which words survive", "The model says"):
        assert shown in done.stdout


def test_demo_leaves_what_is_there(wordelim, small):
    (small / "mine").mkdir()
    (small / "mine" / "file").touch()
    for options, said in (((), "exists: name another"), (("--force",), "holds something else than a model")):
        done = wordelim("demo", "-o", "mine", *options)
        assert done.exit_code == 1
        assert said in done.stderr
    assert [path.name for path in (small / "mine").iterdir()] == ["file"]
