"""Runs that are killed and go on."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from wordelim.compression.identity import digest_of_code, digest_of_weights
from wordelim.compression.journal import Journal
from wordelim.errors import CheckpointError, TrainingError
from wordelim.verbs.compress import compress

RUN = {
    "method": "learned",
    "target_speedup": 1.5,
    "epochs": 1,
    "search_epochs": 1,
    "batch_size": 4,
    "search_examples": 8,
    "max_drop": 100,
    "measure_speed": False,
}


@pytest.fixture(scope="module")
def sets(make_texts):
    return {"train": make_texts(32), "validation": make_texts(8, 1)}


@pytest.fixture(scope="module")
def dense(make_model, make_tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("dense") / "dense"
    make_model("bert", labels=2).save_pretrained(directory)
    make_tokenizer("bert").save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def whole(dense, sets, tmp_path_factory):
    """What a run that nobody kills writes."""
    output = tmp_path_factory.mktemp("whole") / "out"
    compress(dense, **sets, output=output, **RUN)
    return output


def killed(dense, sets, output, stage, share, **settings):
    """Run in a process of its own that is killed, as by kill -9, at this point."""
    child = os.fork()
    if child == 0:

        def kill(name, done):
            if name == stage and done >= share:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            compress(dense, **sets, output=output, progress=kill, **{**RUN, **settings})
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def assert_same(output, whole, *, alone=True):
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (output, whole))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    configs = [json.loads((folder / "config.json").read_text()) for folder in (output, whole)]
    assert configs[0] == configs[1]
    if not alone:
        return
    assert not output.with_name("out.wordelim-work").exists()
    assert [path.name for path in output.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(("stage", "share"), [("search: learning", 0.6), ("retrain", 0.8)])
def test_a_killed_run_goes_on_to_the_same_model(dense, sets, whole, tmp_path, stage, share):
    output = tmp_path / "out"
    killed(dense, sets, output, stage, share)
    seen = []
    assert [path.name for path in tmp_path.iterdir()] == ["out.wordelim-work"]
    if stage == "retrain":
        assert_others_are_refused(dense, sets, output)
    note = lambda name, done: seen.append((name, done))  # noqa: E731
    compress(dense, **sets, output=output, resume=True, progress=note, **RUN)
    assert_same(output, whole)
    # What was done isn't done again.
    begun = [name for name, _ in seen]
    assert ("search: learning" in begun) == (stage == "search: learning")
    assert min(done for name, done in seen if name == stage) > share / 2


def assert_others_are_refused(dense, sets, output):
    with pytest.raises(CheckpointError, match="unfinished run: pass --resume to go on with it, or --force"):
        compress(dense, **sets, output=output, **RUN)
    with pytest.raises(CheckpointError, match=r"another run \(settings.epochs was 1 and is 3\)"):
        compress(dense, **sets, output=output, resume=True, **{**RUN, "epochs": 3})
    turned = {**sets, "train": sets["train"].map(lambda row: {"label": 1 - row["label"]})}
    with pytest.raises(CheckpointError, match=r"another run \(data.train was \w{12}\.\.\. and is "):
        compress(dense, **turned, output=output, resume=True, **RUN)


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_killed_while_it_writes_the_model_goes_on(dense, sets, whole, tmp_path, monkeypatch, moved):
    output, rename = tmp_path / "out", Path.rename

    def kill(path, target):
        if moved:
            rename(path, target)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr("pathlib.Path.rename", kill)
        compress(dense, **sets, output=output, **RUN)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"] * moved + ["out.wordelim-work"]
    if not moved:
        # What somebody else put there meanwhile isn't the run's own, though it be the same.
        shutil.copytree(whole, output)
        with pytest.raises(CheckpointError, match="exists"):
            compress(dense, **sets, output=output, resume=True, **RUN)
        assert_same(output, whole, alone=False)
        shutil.rmtree(output)
    compress(dense, **sets, output=output, resume=True, **RUN)
    assert_same(output, whole)


def test_nan_keeps_the_last_good_checkpoint(dense, sets, tmp_path, monkeypatch):
    import wordelim.training.distillation as distillation

    real, calls = distillation.distillation_loss, []

    def broken(*args):
        calls.append(args)
        return real(*args) * (float("nan") if len(calls) == 8 else 1)

    monkeypatch.setattr(distillation, "distillation_loss", broken)
    with pytest.raises(
        TrainingError, match=r"loss became nan at step 7: .*; the last good checkpoint is .*checkpoint-6"
    ):
        compress(dense, **sets, output=tmp_path / "out", **RUN)
    assert (tmp_path / "out.wordelim-work" / "search" / "checkpoint-6" / "model.safetensors").exists()


def test_nothing_is_left_of_a_run_that_did_nothing(dense, sets, tmp_path):
    with pytest.raises(TrainingError):
        compress(dense, **sets, output=tmp_path / "new" / "out", **{**RUN, "learning_rate": 1e40})
    assert list(tmp_path.iterdir()) == []


def test_a_digest_is_of_values_and_names(make_model):
    model = make_model("bert")
    before = digest_of_weights(model.state_dict())
    assert digest_of_weights(make_model("bert").state_dict()) == before
    model.classifier.bias.data[0] += 1
    assert digest_of_weights(model.state_dict()) != before
    assert digest_of_weights(make_model("bert").half().state_dict()) != before


def bound(folder, *, resume=False, force=False, **run):
    journal = Journal(folder, resume=resume, force=force)
    journal.bind(run)
    return journal


def test_functions_are_told_apart_by_what_they_do():
    def metric(factor):
        return lambda evaluated: {"mine": factor * (evaluated.label_ids == 1).mean()}

    def other(evaluated):
        return {"mine": 0.5 * (evaluated.label_ids == 1).mean()}

    class Scaled:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, evaluated):
            return {"mine": self.factor}

    def scaled(evaluated, factor=1):
        return {"mine": factor}

    assert digest_of_code(other) == digest_of_code(other) != digest_of_code(metric(1))
    for made in (metric, Scaled, lambda k: Scaled(k).__call__, lambda k: partial(scaled, factor=k)):
        assert digest_of_code(made(1)) == digest_of_code(made(1)) != digest_of_code(made(2))
    assert digest_of_code(lambda evaluated: {"mine": 1}) != digest_of_code(lambda evaluated: {"mine": 2})
    assert digest_of_code("accuracy") is None


def test_a_damaged_folder_is_refused(tmp_path):
    bound(tmp_path / "work", seed=1).keep("search", [])
    (tmp_path / "work" / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match="no run that can go on"):
        bound(tmp_path / "work", seed=1, resume=True)
    assert not bound(tmp_path / "work", seed=2, force=True).holds()


def test_no_folder_keeps_nothing(make_model):
    work = bound(None)
    work.keep("search", {"a": 1}, make_model("bert"))
    assert work.known("search") is None
    assert work.place("search") is None
    assert not work.holds()
