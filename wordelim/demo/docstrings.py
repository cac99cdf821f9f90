"""Find the docstrings in Python source without importing it."""

from __future__ import annotations

import ast
import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["collector_paused", "docstrings_in", "source_files"]

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_MIN_DOCUMENTED_SHARE = 0.15


def source_files(root: Path, skip: frozenset[str]) -> Iterator[Path]:
    """Python files under `root` in a fixed order, leaving out files and folders whose name is in `skip`."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - skip)
        for name in sorted(set(files) - skip):
            if name.endswith(".py"):
                yield Path(folder, name)


def docstrings_in(path: Path) -> list[str]:
    """Docstrings of a source file, in no particular order, and those that it attaches through a call.

    Such calls are numpy's `add_newdoc(place, name, text)` and torch's `_add_docstr(object, text)`. A file
    that is mostly code is not parsed: it would cost time and give little. Nor is one that isn't valid Python.
    """
    source = path.read_bytes()
    if sum(map(len, source.split(b'"""')[1::2])) < _MIN_DOCUMENTED_SHARE * len(source):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The libraries' own invalid escape sequences.
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return []
    return list(_walk(tree))


def _walk(tree: ast.Module) -> Iterator[str]:
    # Only statements are visited: walking every expression would take as long as parsing.
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, _DOCUMENTED):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield text
        for child in getattr(node, "body", ()):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.Try)):
                pending.append(child)
            elif isinstance(child, (ast.Expr, ast.Assign)) and isinstance(child.value, ast.Call):
                yield from _attached(child.value)


def _attached(call: ast.Call) -> Iterator[str]:
    function = call.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    if "doc" in name:
        for argument in call.args:
            for node in ast.walk(argument):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


@contextmanager
def collector_paused() -> Iterator[None]:
    """Hold the garbage collector back: syntax trees are many small objects, and would take twice the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
