"""Run something as soon as a module has been imported, without importing it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["after_import"]


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
