"""The benchmarks' scripts, which stand in no package, for their tests."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def script(monkeypatch):
    """``script(name)``: a script of this folder as a module."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module
