"""What is pushed to a hub loads from there, and holds nobody's texts or paths."""

import json
import shutil

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub.errors import HFValidationError
from typer.testing import CliRunner

import wordelim
from wordelim.cli import app
from wordelim.data.columns import Columns
from wordelim.data.encode import encode
from wordelim.errors import CheckpointError
from wordelim.evaluation.inference import logits_of
from wordelim.tasks import Task
from wordelim.verbs.push import push

from ..hub import Hub


@pytest.fixture(scope="module")
def fast(make_model, make_tokenizer, make_texts, tmp_path_factory):
    """A compressed directory with its report. The labels are the dense model's answers, so that some turn wrong."""
    folder = tmp_path_factory.mktemp("push")
    model, tokenizer, texts = make_model("bert", labels=2), make_tokenizer("bert"), make_texts(32)
    encoded = encode(texts, tokenizer, Columns("text"), model.config).dataset
    model.classifier.bias.data -= torch.from_numpy(
        np.median(logits_of(model, encoded, Task(model.config, tokenizer)), axis=0)
    )
    labels = logits_of(model, encoded, Task(model.config, tokenizer)).argmax(1).tolist()
    validation = datasets.Dataset.from_dict({"text": texts["text"], "label": labels})
    train = datasets.Dataset.from_dict({"text": [*texts["text"], "[SEP]"], "label": [*labels, 0]})
    model.save_pretrained(folder / "dense")
    tokenizer.save_pretrained(folder / "dense")
    options = {"keep": [0, 0, 0], "max_drop": 100, "retrain": False, "measure_speed": False, "skip_bad_rows": True}
    wordelim.compress(folder / "dense", train=train, validation=validation, output=folder / "fast", **options)
    return folder / "fast"


def test_what_is_pushed_loads_and_says_the_same(fast, make_batch, logits, tmp_path):
    hub = Hub(tmp_path)
    assert push(fast, "me/fast", private=True, api=hub) == "https://huggingface.co/me/fast/commit/1"
    assert hub.made == [("me/fast", {"private": True, "exist_ok": True, "repo_type": "model"})]
    here, there = wordelim.load(fast), wordelim.load(tmp_path / "me" / "fast")
    batch = make_batch(here, [9, 4])
    assert torch.equal(logits(here, batch), logits(there, batch))
    assert {path.name for path in (tmp_path / "me" / "fast").iterdir()} == {path.name for path in fast.iterdir()}
    card = (tmp_path / "me" / "fast" / "README.md").read_text()
    assert 'BertForSequenceClassification.from_pretrained("me/fast")' in card


def test_texts_and_paths_stay_at_home(fast, tmp_path):
    kept = json.loads((fast / "wordelim_report.json").read_text())
    texts = [text for row in kept["validation"]["worst_flips"] for text in row["texts"]]
    assert texts
    (skipped,) = kept["data"]["train"]["skipped"]["rows"]
    push(fast, "me/fast", api=Hub(tmp_path))
    push(fast, "me/open", texts=True, api=Hub(tmp_path))
    for name in ("wordelim_report.json", "report.html"):
        closed, opened = ((tmp_path / "me" / repository / name).read_text() for repository in ("fast", "open"))
        assert texts[0] not in closed
        assert texts[0] in opened
        assert str(fast.parent) not in closed + opened
        assert skipped["reason"] not in closed
    public = json.loads((tmp_path / "me" / "fast" / "wordelim_report.json").read_text())
    assert public["data"]["train"]["skipped"] == {"count": 1}


def test_a_hub_that_refuses_and_what_isnt_compressed(fast, tmp_path):
    hub = Hub(tmp_path)
    hub.create_repo = lambda name, **options: (_ for _ in ()).throw(HFValidationError("no such name"))
    with pytest.raises(CheckpointError, match=r"can't be pushed to 'a//b' \(no such name\)"):
        push(fast, "a//b", api=hub)
    with pytest.raises(CheckpointError, match="no compressed model"):
        push(fast.parent / "dense", "me/fast", api=hub)
    assert list(tmp_path.iterdir()) == []


def test_what_sentence_transformers_needs_is_pushed_too(fast, tmp_path):
    folder = shutil.copytree(fast, tmp_path / "fast")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "note").write_text("")
    push(folder, "me/fast", api=Hub(tmp_path / "hub"))
    assert (tmp_path / "hub" / "me" / "fast" / "1_Pooling" / "config.json").read_text() == "{}"
    assert not (tmp_path / "hub" / "me" / "fast" / ".cache").exists()


def test_compress_pushes_when_it_is_asked_to(fast, make_texts, tmp_path, monkeypatch):
    monkeypatch.setattr("wordelim.verbs.push.HfApi", lambda: Hub(tmp_path / "hub"))
    make_texts(16).to_json(tmp_path / "texts.jsonl")
    data = [part for name in ("train", "validation") for part in (f"--{name}", str(tmp_path / "texts.jsonl"))]
    options = ["--keep", "1,1,0", "--no-retrain", "-o", str(tmp_path / "out"), "--push", "me/fast"]
    done = CliRunner().invoke(app, ["compress", str(fast.parent / "dense"), *data, *options])
    assert done.exit_code == 0, done.stderr
    assert "https://huggingface.co/me/fast/commit/1" in done.stderr
    assert wordelim.load(tmp_path / "hub" / "me" / "fast")
