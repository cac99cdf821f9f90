"""What the README says of speed is what the results say."""

from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def render(script):
    return script("render")


def test_the_readme_shows_the_results(render):
    readme = README.read_text()
    assert render.summarized(readme) == readme
    assert "| MiniLM-L6 |" in readme


def test_runs_that_lost_too_much_or_are_outdated_are_not_shown(render, tmp_path, monkeypatch):
    (tmp_path / "glue-task-model-calibrated.json").write_text(
        """{"task": "Task", "model": "model", "part": "calibrated", "metric": "accuracy", "paper": 2.0, "met": true,
        "test": {"dense": 90, "drop": 0.5, "drop_interval_95": [-1, 2], "flops_ratio": 2},
        "speed": {"unpadded": 1.9, "fixed": 3.0}}"""
    )
    text = (tmp_path / "glue-task-model-calibrated.json").read_text()
    missed = text.replace('"met": true', '"met": false').replace('"flops_ratio": 2', '"flops_ratio": 4')
    (tmp_path / "glue-task-model-speedup4-calibrated.json").write_text(missed.replace("1.9", "3.9"))
    outdated = text.replace('"flops_ratio": 2', '"flops_ratio": 3').replace('"task"', '"note": "Made before.", "task"')
    (tmp_path / "glue-task-model-speedup3-calibrated.json").write_text(outdated.replace("1.9", "2.9"))
    monkeypatch.setattr(render, "RESULTS", tmp_path)
    shown = render.summarized("Before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    assert shown.startswith("Before\n<!-- results -->\n\n| task |")
    assert "| Task | model | accuracy | 90.0 | +0.50 (-1.00 to +2.00) | **1.9x** | 3.0x (2.0x) |\n" in shown
    assert "3.9x" not in shown
    assert "2.9x" not in shown
    assert "old" not in shown
    assert shown.endswith("\n<!-- end of results -->\nafter\n")
