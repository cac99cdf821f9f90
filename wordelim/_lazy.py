"""Import late: names when they are first asked for, and something to do once a module has been imported."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["after_import", "lazy"]


def lazy(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """What a package's ``__getattr__`` is to be, so that a name is imported when it is first asked for.

    Args:
        package: its name.
        homes: the names, by the module in the package that has them. Modules can be asked for too.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def attribute(name: str) -> Any:
        if name in home:
            value = getattr(import_module(f".{home[name]}", package), name)
            setattr(sys.modules[package], name, value)
            return value
        if name.startswith("_") or importlib.util.find_spec(f".{name}", package) is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return import_module(f".{name}", package)

    return attribute


def after_import(name: str, do: Callable[[], object]) -> None:
    """Call ``do`` at once where the module ``name`` has been imported already, else when it first is."""
    if name in sys.modules:
        do()
    else:
        sys.meta_path.insert(0, _Watcher(name, do))


class _Watcher:
    def __init__(self, name: str, do: Callable[[], object]) -> None:
        self.name, self.do, self.looking = name, do, False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name or self.looking:
            return None
        self.looking = True
        try:
            spec = importlib.util.find_spec(fullname)  # as everyone else finds it
        finally:
            self.looking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                    self.do()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
