"""What the processes of one run, launched by torchrun or accelerate, do together."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import WordelimError

__all__ = ["agree", "as_one", "from_main", "is_main", "join", "local_rank", "processes", "wait"]

Value = TypeVar("Value")

# What launchers leave in the environment: torchrun and accelerate the first three, those of MPI the others.
_LAUNCHED = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE"),
    *("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    *("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
)

# Seconds of waiting for other processes after which that is said.
_LAST_PORT = 65535
_PATIENCE = 10.0


@dataclass(frozen=True)
class _Launch:
    rank: int = 0
    local_rank: int = 0
    size: int = 1


def _launch() -> _Launch:
    """What the launcher said of this process. A rank without others, as a shell may have left, is no launch.

    Raises:
        WordelimError: what it said is no number, or doesn't fit together.
    """
    size = _number("WORLD_SIZE", 1, least=1)
    rank = _number("RANK", 0)
    local_rank = 0 if os.environ.get("LOCAL_RANK") == "-1" else _number("LOCAL_RANK", 0)  # as launchers say "none"
    if size == 1:
        return _Launch()
    repair = "start with torchrun or accelerate launch, or unset WORLD_SIZE"
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise WordelimError(f"WORLD_SIZE is {size}, but {name} isn't set: {repair}.")
    port = _number("MASTER_PORT", 0, least=1)
    if port > _LAST_PORT:
        raise WordelimError(f"MASTER_PORT is {port}, but the last port is {_LAST_PORT}: {repair}.")
    if rank >= size:
        raise WordelimError(f"RANK is {rank}, but WORLD_SIZE is {size}, of which the last is {size - 1}: {repair}.")
    return _Launch(rank, local_rank, size)


def _number(name: str, otherwise: int, *, least: int = 0) -> int:
    value = os.environ.get(name, "")
    if not value:
        return otherwise
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) >= least):
        raise WordelimError(
            f"The environment variable {name} is {value!r}: give a whole number of at least {least}, or unset it."
        )
    return int(value)


def processes() -> int:
    """How many processes the launcher started; 1 without a launcher."""
    return _launch().size


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return _launch().rank == 0


def local_rank() -> int:
    """The number of this process among those on its machine."""
    return _launch().local_rank


@contextmanager
def as_one(*, always: bool = False) -> Iterator[None]:
    """Hide what is left of a launcher from libraries, lest they wait for others.

    Args:
        always: also where there are others, for what each process does by itself.
    """
    hide = always or processes() == 1
    left = {name: os.environ[name] for name in _LAUNCHED if name in os.environ} if hide else {}
    for name in left:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(left)


def join(*, cpu: bool) -> None:
    """Meet the other processes, if there are any; after a while of waiting that is logged."""
    if processes() == 1:
        return
    from accelerate import PartialState

    launch, place = _launch(), f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    who = f"Process {launch.rank} of {launch.size} waits for the others at {place}"
    said = threading.Timer(_PATIENCE, lambda: logging.getLogger(__name__).warning("%s; else unset WORLD_SIZE.", who))
    said.daemon = True
    said.start()
    try:
        PartialState(cpu=cpu)
    finally:
        said.cancel()


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
