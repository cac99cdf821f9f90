"""Processes that never import wordelim load compressed models, if they are told to and only then."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import wordelim
from wordelim.errors import WordelimError
from wordelim.serving import autoload

LOADED = """
import sys
before = sorted({"wordelim", "torch", "transformers"} & {*sys.modules})
import transformers
model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
print(*before, "compressed" if hasattr(model.bert.encoder, "retention") else "dense")
"""


def run(code, *arguments, path=None, **environment):
    """A Python of its own that has read ``path`` as one of its directories of packages."""
    start = f"import site; site.addsitedir({str(path)!r})\n" if path else ""
    done = subprocess.run(
        [sys.executable, "-c", start + code, *map(str, arguments)],
        env={**{name: value for name, value in os.environ.items() if name != "WORDELIM_AUTOLOAD"}, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_it_loads_compressed_where_the_variable_says_so(tmp_path, served):
    written = autoload.install(tmp_path)
    assert written.parent == tmp_path
    assert run(LOADED, served / "classifier", path=tmp_path, WORDELIM_AUTOLOAD="1") == ["wordelim", "compressed"]
    # Without it nothing is imported, and so it is as law 5 says of processes without wordelim.
    for unset in ({}, {"WORDELIM_AUTOLOAD": "0"}):
        assert run("import sys; print('wordelim' in sys.modules)", path=tmp_path, **unset) == ["False"]
    assert autoload.remove(tmp_path) == written
    assert not list(tmp_path.iterdir())
    autoload.remove(tmp_path)  # twice is no error


def test_the_command_writes_into_its_own_environment(wordelim_in, tmp_path):
    assert wordelim_in("autoload").stdout == f"Written: {tmp_path / autoload.NAME}\n"
    assert (tmp_path / autoload.NAME).read_text() == autoload.LINE
    assert wordelim_in("autoload", "--remove").stdout == f"Removed: {tmp_path / autoload.NAME}\n"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def wordelim_in(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from wordelim.cli import app

    monkeypatch.setattr(autoload.sysconfig, "get_path", lambda name: {"purelib": str(tmp_path)}[name])
    return lambda *words: CliRunner().invoke(app, words)


def test_what_cant_be_written_is_said(tmp_path):
    with pytest.raises(WordelimError, match="can't be written"):
        autoload.install(tmp_path / "nowhere")
    (tmp_path / autoload.NAME / "inside").mkdir(parents=True)
    with pytest.raises(WordelimError, match="can't be deleted"):
        autoload.remove(tmp_path)


@pytest.mark.long  # for the test below has a pool too
@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="sentence-transformers isn't installed")
def test_the_pool_of_sentence_transformers(served):
    """It starts a process for each device, and each is a new Python, which is given the model."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(served / "embedder"), device="cpu")
    texts = ["good film", "the plot is not very good", "a bad film and a long story"] * 4
    pool = model.start_multi_process_pool(["cpu"])
    try:
        found = model.encode(texts, pool=pool, chunk_size=3)
    finally:
        model.stop_multi_process_pool(pool)
    np.testing.assert_allclose(found, model.encode(texts), atol=1e-5)
    wordelim.restore_(model[0].model if hasattr(model[0], "model") else model[0].auto_model)
    assert np.abs(found - model.encode(texts)).max() > 1e-3


POOL = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer

if __name__ == "__main__":
    model, texts = SentenceTransformer(sys.argv[1], device="cpu"), json.loads(sys.argv[2])
    pool = model.start_multi_process_pool(["cpu"])
    try:
        np.save(sys.argv[3], model.encode(texts, pool=pool, chunk_size=2))
    finally:
        model.stop_multi_process_pool(pool)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="sentence-transformers isn't installed")
def test_the_pool_in_a_program_without_the_import(served, texts, expected, tmp_path):
    """The variable alone: in the program, and in the Pythons that its pool starts."""
    autoload.install(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(f"import site; site.addsitedir({str(tmp_path)!r})\n")
    (tmp_path / "program.py").write_text(POOL)
    found = tmp_path / "found.npy"
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", served / "embedder", json.dumps(texts), found],
        env=os.environ | {"WORDELIM_AUTOLOAD": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    unit = np.load(found)
    np.testing.assert_allclose(unit / np.linalg.norm(unit, axis=1, keepdims=True), expected[1], atol=1e-5)
