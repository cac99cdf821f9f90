"""Which methods of search there are, each a class as :class:`.method.Search`; a command line asks for names alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import WordelimError

__all__ = ["METHODS", "register"]


class _Methods(Mapping[str, Any]):
    """The methods by name; each is imported when it is first looked up, for most need torch."""

    def __init__(self) -> None:
        self.known: dict[str, type[Any]] = {}
        files = Path(__file__).with_name("methods").glob("*.py")
        self._files = {file.stem for file in files if not file.stem.startswith("_")}

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self.known and name in self._files:
            import_module(f".methods.{name}", __package__)
            if name not in self.known:
                raise WordelimError(
                    f"search/methods/{name}.py makes no method known: end it in register({name!r}, ...)."
                )
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files.union(self.known)))

    def __len__(self) -> int:
        return len(self._files.union(self.known))

    @property
    def listed(self) -> str:
        """Their names, in a sentence."""
        *most, last = self
        return f"{', '.join(most)}, or {last}"

    def options(self, name: str) -> set[str]:
        """Names of a method's options."""
        return {field.name for field in fields(self[name])}

    def make(self, name: str, settings: Any) -> Any:
        """A method with its options as some settings have them."""
        return self[name](**{option: getattr(settings, option) for option in self.options(name)})

    def register(self, name: str, method: type[Any]) -> None:
        """Make a method known."""
        self.known[name] = method


METHODS = _Methods()
register = METHODS.register
