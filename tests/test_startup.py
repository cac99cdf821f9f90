"""Nothing heavy is imported before it is needed; what is public is there all the same."""

import subprocess
import sys
from pathlib import Path

import pytest

import wordelim

HEAVY = {"accelerate", "datasets", "numpy", "pandas", "pydantic", "scipy", "sklearn", "torch", "transformers"}
FIXTURE = Path(__file__).parent / "fixtures" / "v1-bert"


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_help_imports_nothing_heavy():
    # Every command's --help too; CliRunner, so that one process serves for all.
    loaded = python(
        "import sys; from typer.testing import CliRunner; from wordelim.cli import app\n"
        "run = lambda *words: CliRunner().invoke(app, [*words])\n"
        "names = [command.name for command in app.registered_commands]\n"
        "assert len(names) > 3 and all(run(*name, '--help').exit_code == 0 for name in [[], *([n] for n in names)])\n"
        "assert run('--version').exit_code == 0\n"
        "print(*sys.modules)"
    )
    assert not HEAVY & set(loaded)


# tests/serving/test_autoload.py has a process that imports wordelim first, tests/conftest.py transformers.
@pytest.mark.long
@pytest.mark.parametrize("first", ["wordelim", "transformers"])
def test_from_pretrained_is_taught_whichever_is_imported_first(first):
    second = {"wordelim": "transformers", "transformers": "wordelim"}[first]
    (kind,) = python(
        f"import {first}, {second}\n"
        f"model = transformers.AutoModelForSequenceClassification.from_pretrained({str(FIXTURE)!r})\n"
        "print('kept' if hasattr(model.base_model.encoder, 'retention') else 'dense')"
    )
    assert kind == "kept"


def test_every_public_name_is_there():
    for name in wordelim.__all__:
        assert getattr(wordelim, name) is not None
    assert {name for names in wordelim._HOMES.values() for name in names} == {*wordelim.__all__} - {"__version__"}
    assert set(wordelim.__all__) <= set(dir(wordelim))
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        wordelim.compres  # noqa: B018


def test_modules_are_there_without_an_import_of_their_own():
    done = python("import wordelim; print(wordelim.errors.WordelimError.__name__, wordelim.adapters.__name__)")
    assert done == ["WordelimError", "wordelim.adapters"]
