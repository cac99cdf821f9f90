"""What README and docs say works: every block of code is run as it stands, or says why it isn't."""

import doctest
import importlib.util
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml

import wordelim as package
from wordelim import Retention
from wordelim.data.columns import Columns
from wordelim.data.encode import encode
from wordelim.evaluation.inference import logits_of
from wordelim.graph.speeds import offer_speeds_
from wordelim.tasks import Task

from ..hub import Hub

KEEP = (0.9, 0.7, 0.5, 0.3, 0.2, 0.0)
ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<language>[\w-]*)\n(?P<body>.*?)^```$", re.M | re.S)
ELSEWHERE = {
    "benchmarks.md": "its commands need real models and hours",
    "export.md": "tests/exporting/test_export.py runs its script and its commands",
    "ci-gate.md": "tests/cli/test_check.py runs it",
    "heads.md": "tests/tasks/test_tasks.py runs it",
    "families.md": "tests/adapters/test_families.py runs its example",
    "distributed.md": "tests/serving/test_ray.py and test_spark.py run it",
    "commands.md": "it is what --help prints",
}
PAGES = sorted(
    path.relative_to(ROOT) for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")) if path.name not in ELSEWHERE
)
OUTPUT = re.compile(r"""^[^#\n]*(?:-o |output=")(my-bert[\w-]*)""", re.M)


@pytest.fixture(scope="module")
def shop(make_model, make_tokenizer, make_texts, tmp_path_factory):
    """What the docs take for granted: ``my-bert``, made fast and for several speeds, and texts to train and test on.

    The labels are what the model doesn't say, so that no schedule loses anything.
    """
    folder = tmp_path_factory.mktemp("docs")
    model, tokenizer = make_model("bert", layers=6, labels=2), make_tokenizer("bert")
    model.config.id2label, model.config.label2id = {0: "neg", 1: "pos"}, {"neg": 0, "pos": 1}

    def logits(texts):
        encoded = encode(texts, tokenizer, Columns("text"), model.config).dataset
        return logits_of(model, encoded, Task(model.config, tokenizer))

    model.classifier.bias.data -= torch.from_numpy(np.median(logits(make_texts(32)), axis=0))  # it says both
    for seed, name in enumerate(("train", "dev", "test")):
        texts = make_texts(24, seed)
        said = logits(texts).argmax(1)
        labels = [("pos", "neg")[int(answer)] for answer in said]
        datasets.Dataset.from_dict({"text": texts["text"], "label": labels}).to_csv(folder / f"{name}.csv")
    for name in ("my-bert", "my-bert-fast", "my-bert-speeds"):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        package.eliminate_(model, Retention.fractions(KEEP))
        if name == "my-bert-fast":
            offer_speeds_(
                model, {2.0: Retention.fractions(KEEP), 3.0: Retention.fractions((0.5, 0.3, 0.2, 0.1, 0.1, 0))}
            )
    (folder / "my-bert-fast" / "wordelim_report.json").write_text(_report(folder))
    return folder


def _report(folder):
    train, dev = folder / "train.csv", folder / "dev.csv"
    return json.dumps(
        package.compress(folder / "my-bert", train=train, validation=dev, keep=KEEP, retrain=False).report
    )


@pytest.fixture
def here(shop, tmp_path, monkeypatch):
    """A copy of ``shop`` to work in."""
    shutil.copytree(shop, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def namespace(here, make_model, make_tokenizer, make_texts):
    """The names that examples in Python take for granted."""
    return {
        "model": make_model("bert", layers=6, labels=2),
        "tokenizer": make_tokenizer("bert"),
        "train": make_texts(24),
        "validation": make_texts(24, 1),
    }


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_block_of_code_runs(page, here, namespace, wordelim):
    for name in ("train", "dev", "test"):  # of fewer texts, for some blocks time models on each
        lines = (here / f"{name}.csv").read_text().splitlines(keepends=True)
        (here / f"{name}.csv").write_text("".join(lines[:11]))
    for found in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        language, body = found["language"], found["body"]
        line = body.splitlines()[0]
        if found["why"] or language in ("text", ""):
            continue
        for name in OUTPUT.findall(body):
            shutil.rmtree(name, ignore_errors=True)
        if language == "python":
            torch.manual_seed(0)
            np.random.seed(0)
            exec(compile(body, f"{page}: {line}", "exec"), namespace)
        elif language == "sh":
            for command in body.replace("\\\n", " ").splitlines():
                _run(command, wordelim, page)
        elif language == "json":
            json.loads(body if body.startswith("{") else f"{{{body}}}")
        elif language == "toml":
            tomllib.loads(body)
        elif language == "yaml":
            yaml.safe_load(body)
        else:
            pytest.fail(f"{page}: a block in {language!r} ({line}) can't be run: mark it with <!-- not run: why -->.")


def _run(command, wordelim, page):
    program, *arguments = shlex.split(command, comments=True) or ("",)
    if program:
        assert program == "wordelim", f"{page}: {command} can't be run here: mark it with <!-- not run: why -->."
        done = wordelim(*arguments)
        assert done.exit_code == 0, f"{page}: {command}: {done.stderr}"


@pytest.mark.parametrize("name", sorted(set(package.__all__) - {"__version__"}))
def test_the_example_of_every_public_name_runs(name, here, namespace, one_round, make_model, traced_once, monkeypatch):
    public = getattr(package, name)
    monkeypatch.setattr("wordelim.verbs.push.HfApi", lambda: Hub(here / "hub"))
    if name == "export":  # which takes its time for every layer, but for that of tests/verbs/test_opened.py
        small = package.eliminate_(make_model("bert", layers=1), Retention.fractions([0.0]))
        small.save_pretrained(here / "my-bert-fast")
    names = {"wordelim": package, **namespace}
    found = [test for test in doctest.DocTestFinder(recurse=False).find(public, name, globs=names) if test.examples]
    assert found, f"wordelim.{name} has no example in its docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    said = []
    with traced_once():
        for test in found:
            runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


def test_the_commands_page_is_what_help_prints():
    spec = importlib.util.spec_from_file_location("commands", ROOT / "tests" / "docs" / "commands.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.render(), "run python tests/docs/commands.py"


def test_the_pictures_are_small():
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    assert sum(path.stat().st_size for path in pictures) < 300_000
