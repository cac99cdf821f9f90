"""A model directory and text files for the command line."""

import warnings

import datasets
import numpy as np
import pytest
import torch
import transformers
from typer.testing import CliRunner

from wordelim.cli import app
from wordelim.data.columns import Columns
from wordelim.data.encode import encode
from wordelim.evaluation.inference import logits_of
from wordelim.tasks import Task


@pytest.fixture(scope="session")
def template(make_model, make_tokenizer, make_texts, tmp_path_factory):
    """A dense BERT's directory, whose answers are about half of each kind. Change nothing in it."""
    model, tokenizer, texts = make_model("bert", labels=2), make_tokenizer("bert"), make_texts(32)
    model.config.id2label, model.config.label2id = {0: "neg", 1: "pos"}, {"neg": 0, "pos": 1}
    encoded = encode(texts, tokenizer, Columns("text"), model.config).dataset
    model.classifier.bias.data -= torch.from_numpy(
        np.median(logits_of(model, encoded, Task(model.config, tokenizer)), axis=0)
    )
    directory = tmp_path_factory.mktemp("template") / "dense"
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def here(template, make_texts, tmp_path, monkeypatch):
    """An own working directory that holds ``dense``, ``train.csv`` and ``dev.csv``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dense").symlink_to(template)
    for name, rows, seed in (("train", 32, 0), ("dev", 24, 1)):
        make_texts(rows, seed).to_csv(f"{name}.csv")
    return tmp_path


@pytest.fixture
def wordelim(monkeypatch, one_round):
    """``wordelim(*arguments)``: run the command line in this process; stdout and stderr are kept apart."""
    monkeypatch.setenv("COLUMNS", "200")
    levels = transformers.logging.get_verbosity(), datasets.logging.get_verbosity()
    with warnings.catch_warnings():
        yield lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
    transformers.logging.set_verbosity(levels[0])
    datasets.logging.set_verbosity(levels[1])
