"""Make fine-tuned BERT models faster by dropping word vectors layer by layer.

Importing it teaches transformers' ``from_pretrained`` to load compressed models.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ._after_import import after_import
from ._version import __version__

if TYPE_CHECKING:
    from .audit import audit
    from .bench import bench
    from .check import CheckResult, check
    from .checkpoint import load
    from .compress import CompressionResult, compress, compress_model
    from .explain import Explanation, Word, explain
    from .export import export
    from .graph.model import eliminate_, restore_, retention_of
    from .probe import probe, probe_model
    from .protection import protect_rules
    from .publish import push
    from .retention import Retention
    from .settings import Settings
    from .speeds import set_speed_, speeds_of

__all__ = [
    "CheckResult",
    "CompressionResult",
    "Explanation",
    "Retention",
    "Settings",
    "Word",
    "__version__",
    "audit",
    "bench",
    "check",
    "compress",
    "compress_model",
    "eliminate_",
    "explain",
    "export",
    "load",
    "probe",
    "probe_model",
    "protect_rules",
    "push",
    "restore_",
    "retention_of",
    "set_speed_",
    "speeds_of",
]

# Where each public name is, for it is imported when it is first asked for: `wordelim --help` needn't wait for torch.
_HOMES = {
    "audit": ("audit",),
    "bench": ("bench",),
    "check": ("CheckResult", "check"),
    "checkpoint": ("load",),
    "compress": ("CompressionResult", "compress", "compress_model"),
    "explain": ("Explanation", "Word", "explain"),
    "export": ("export",),
    "graph.model": ("eliminate_", "restore_", "retention_of"),
    "probe": ("probe", "probe_model"),
    "protection": ("protect_rules",),
    "publish": ("push",),
    "retention": ("Retention",),
    "settings": ("Settings",),
    "speeds": ("set_speed_", "speeds_of"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


class _Package(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in _HOME:
            value = getattr(import_module(f".{_HOME[name]}", __name__), name)
            setattr(self, name, value)
            return value
        if name.startswith("_") or find_spec(f".{name}", __name__) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module(f".{name}", __name__)

    def __setattr__(self, name: str, value: Any) -> None:
        # Python binds wordelim.compress to the module of that name when it is imported: the function goes first.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
after_import("transformers.quantizers.auto", lambda: import_module(".hook", __name__))
