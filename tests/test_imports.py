"""Imports point one way: from a room only to the floors below it, as CONTRIBUTING.md draws them, and in no circle.

And what anybody must read to change one thing stays short.
"""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
FILES = [path for top in ("wordelim", "adapters", "cli") for path in (ROOT / top).rglob("*.py")]
DOORS = {"__init__", "__main__", "testing"}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["wordelim", *parts[parts[0] == "wordelim" :]]).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def imported(module):
    """Every module of the package that a module imports, at its top or inside a function."""
    package = module if MODULES[module].stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(filter(None, (above, node.module)))
            for name in node.names:
                found = f"{source}.{name.name}" if f"{source}.{name.name}" in MODULES else source
                if found in MODULES and found != module:
                    yield found


def room_of(module):
    return module.split(".")[1] if "." in module else "__init__"


def test_rooms_import_from_the_floors_below():
    drawn = re.search(r"```text\n(10 .*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    lines = [line.split() for line in drawn.splitlines()]
    floors = {room: int(number) for number, *rooms in lines for room in rooms}
    assert len(lines) <= 10
    assert set(floors) == {room_of(module) for module in MODULES} - DOORS
    for module in MODULES:
        for other in imported(module):
            here, there = room_of(module), room_of(other)
            assert here == there or here in DOORS or floors[here] > floors[there], f"{module} imports {other}"


def test_no_module_imports_itself_by_way_of_others():
    packages = {module for module, path in MODULES.items() if path.stem == "__init__"}
    rest = {module: set(imported(module)) - packages for module in MODULES if module not in packages}
    TopologicalSorter(rest).prepare()  # raises CycleError, which names the circle


def test_modules_and_functions_are_short():
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert median(lines.values()) <= 100
    assert {module: count for module, count in lines.items() if count > 300} == {}
    assert len(list((ROOT / "wordelim").glob("*.py"))) <= 8
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                about = node.body[0] if ast.get_docstring(node) else None
                told = 0 if about is None else about.end_lineno - about.lineno + 1
                assert node.end_lineno - node.lineno + 1 - told <= 80, f"{module}.{node.name}"
