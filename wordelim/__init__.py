"""Make fine-tuned BERT models faster by dropping word vectors layer by layer.

Importing it teaches transformers' ``from_pretrained`` to load compressed models.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._lazy import after_import, lazy
from ._version import __version__

if TYPE_CHECKING:
    from .checkpoint import load
    from .compression.run import CompressionResult, compress_model
    from .compression.settings import Settings
    from .graph.protect import protect_rules
    from .graph.speeds import set_speed_, speeds_of
    from .graph.splice import eliminate_, restore_, retention_of
    from .report.explanation import Explanation, Word
    from .retention import Retention
    from .verbs.audit import audit
    from .verbs.bench import bench
    from .verbs.check import CheckResult, check
    from .verbs.compress import compress
    from .verbs.explain import explain
    from .verbs.export import export
    from .verbs.probe import probe, probe_model
    from .verbs.push import push

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

# `wordelim --help` needn't wait for torch.
_HOMES = {
    "checkpoint": ("load",),
    "compression.run": ("CompressionResult", "compress_model"),
    "compression.settings": ("Settings",),
    "graph.protect": ("protect_rules",),
    "graph.speeds": ("set_speed_", "speeds_of"),
    "graph.splice": ("eliminate_", "restore_", "retention_of"),
    "report.explanation": ("Explanation", "Word"),
    "retention": ("Retention",),
    "verbs.audit": ("audit",),
    "verbs.bench": ("bench",),
    "verbs.check": ("CheckResult", "check"),
    "verbs.compress": ("compress",),
    "verbs.explain": ("explain",),
    "verbs.export": ("export",),
    "verbs.probe": ("probe", "probe_model"),
    "verbs.push": ("push",),
}
__getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


after_import("transformers.quantizers.auto", lambda: import_module(".checkpoint.hook", __name__))
