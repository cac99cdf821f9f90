"""What elimination is compared with, one file each: see ../rivals.py."""

from __future__ import annotations

from collections.abc import Mapping

from .distilbert import DistilBert
from .elimination import Elimination
from .head_prune import HeadPrune
from .lat import Lat
from .ltp import Ltp
from .pkd import Pkd
from .rival import Rival
from .tome import Tome

__all__ = ["RIVALS"]

RIVALS: Mapping[str, Rival] = {
    "elimination": Elimination(),
    "random": Elimination("random"),
    "first": Elimination("first"),
    "distilbert": DistilBert(),
    "pkd": Pkd(),
    "head_prune": HeadPrune(),
    "lat": Lat(),
    "ltp": Ltp(),
    "tome": Tome(),
}
