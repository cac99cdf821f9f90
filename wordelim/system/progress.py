"""What is told of the work as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    pass

__all__ = ["Foreseeing", "Progress", "expect"]

Progress = Callable[[str, float], None]
"""Called with the name of the running stage and the share of it that is done, 0..1."""


@runtime_checkable
class Foreseeing(Protocol):
    """A progress callback that is told what comes, too."""

    def expect(self, stages: Mapping[str, float]) -> None:
        """Take note of the stages to come, in their order, and what each takes relative to the others."""


def expect(progress: Progress, stages: Mapping[str, float]) -> None:
    """Tell a progress callback what comes, if it is one that wants to know."""
    if isinstance(progress, Foreseeing):
        progress.expect(stages)
