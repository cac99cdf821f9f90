"""Make fine-tuned BERT models faster by dropping word vectors layer by layer."""

from .graph.model import eliminate_, restore_, retention_of
from .retention import Retention

__all__ = ["Retention", "eliminate_", "restore_", "retention_of"]
