"""What the processes of one run, launched by torchrun or accelerate, do together."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import WordelimError

__all__ = ["agree", "from_main", "is_main", "join", "processes", "wait"]

Value = TypeVar("Value")


def processes() -> int:
    """How many processes the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def join(*, cpu: bool) -> None:
    """Meet the other processes, if there are any."""
    if processes() > 1:
        from accelerate import PartialState

        PartialState(cpu=cpu)


def wait() -> None:
    """Wait until every process is here."""
    if processes() > 1:
        from torch import distributed

        distributed.barrier()


def from_main(make: Callable[[], Value]) -> Value:
    """What ``make`` gives in the main process, in every process; the others don't call it."""
    if processes() == 1:
        return make()
    from torch import distributed

    made: list[Any] = [make() if is_main() else None]
    distributed.broadcast_object_list(made)
    return made[0]  # type: ignore[no-any-return]


def agree(what: str, value: Any) -> None:
    """Raise WordelimError unless every process has the same value."""
    if processes() == 1:
        return
    from torch import distributed

    values: list[Any] = [None] * processes()
    distributed.all_gather_object(values, value)
    for rank, other in enumerate(values):
        if other != values[0]:
            raise WordelimError(
                f"Process {rank} has other {what} ({other}) than process 0 ({values[0]}): give every process the same "
                "data, model and versions."
            )
