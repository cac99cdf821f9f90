"""What a search may save."""

from __future__ import annotations

from collections.abc import Mapping

from ..graph.cost import Cost, Flops
from .milliseconds import Milliseconds

__all__ = ["COSTS"]

COSTS: Mapping[str, type[Cost]] = {"flops": Flops, "latency": Milliseconds}
