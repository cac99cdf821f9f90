"""The wheel holds every package: the list in pyproject.toml is written by hand."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_is_listed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set()
    for name, directory in settings["package-dir"].items():
        for init in (ROOT / directory).rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(ROOT / directory).parts]))
    assert sorted(found) == sorted(settings["packages"])
