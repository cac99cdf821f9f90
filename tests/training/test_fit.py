"""One run of the Trainer: what it is told, and which checkpoint counts."""

import hashlib
import json

import pytest

from wordelim import Settings
from wordelim.errors import WordelimError
from wordelim.training.checkpoints import last_checkpoint
from wordelim.training.fit import Fit, _arguments


def test_trackers_are_told_of_the_run(make_model, tmp_path):
    how = Fit(epochs=2, learning_rate=1e-3, batch_size=8, seed=3, report_to=("tensorboard",), name="search")
    arguments = _arguments(how, str(tmp_path), make_model("bert"), 320)
    assert arguments.report_to == ["tensorboard"]
    assert arguments.run_name == "search"
    assert arguments.save_strategy == "no"
    kept = Fit(learning_rate=1e-3, batch_size=8, place=tmp_path)
    quiet = _arguments(kept, str(tmp_path), make_model("bert"), 320)
    assert quiet.save_steps == 10  # four times an epoch of 40 steps
    assert quiet.report_to == []
    assert quiet.save_strategy == "steps"


def test_a_tracker_that_isnt_installed_is_named(monkeypatch):
    monkeypatch.setattr("wordelim.compression.settings.find_spec", lambda name: None)
    with pytest.raises(WordelimError, match="The tracker mlflow isn't installed: pip install mlflow"):
        Settings(report_to=["mlflow"])


def test_only_whole_checkpoints_count(tmp_path):
    assert last_checkpoint(tmp_path / "none") is None
    for step in (2, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
        digest = hashlib.sha256(b"{}").hexdigest()
        (tmp_path / f"checkpoint-{step}" / "wordelim-complete").write_text(json.dumps({"trainer_state.json": digest}))
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
