"""What the machine is asked for."""

import sys
from pathlib import Path

import pytest

from wordelim.system.memory import give_back_memory

_MIB = 2**20


def _held():
    """Memory that this process has now."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' malloc isn't glibc's")
def test_memory_that_was_freed_is_given_back():
    small = 64 * 1024  # glibc takes larger ones from the system one by one, and returns them so
    blocks = [bytearray(b"x" * small) for _ in range(200 * _MIB // small)]
    above = bytearray(b"x" * small)  # what lives on behind them
    del blocks
    before = _held()
    give_back_memory()
    assert before - _held() > 100 * _MIB
    assert len(above) == small
