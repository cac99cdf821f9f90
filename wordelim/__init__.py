"""Make fine-tuned BERT models faster by dropping word vectors layer by layer.

Importing it teaches transformers' ``from_pretrained`` to load compressed models.
"""

from ._version import __version__
from .bench import bench
from .check import CheckResult, check
from .checkpoint import load
from .compress import CompressionResult, compress, compress_model
from .explain import Explanation, explain
from .graph.model import eliminate_, restore_, retention_of
from .probe import probe, probe_model
from .retention import Retention
from .settings import Settings
from .speeds import set_speed_, speeds_of

__all__ = [
    "CheckResult",
    "CompressionResult",
    "Explanation",
    "Retention",
    "Settings",
    "__version__",
    "bench",
    "check",
    "compress",
    "compress_model",
    "eliminate_",
    "explain",
    "load",
    "probe",
    "probe_model",
    "restore_",
    "retention_of",
    "set_speed_",
    "speeds_of",
]
