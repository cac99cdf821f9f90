"""The launches of a layer compile for cards that aren't here, and spill nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton isn't installed: it comes with torch builds for CUDA")
TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
MOST = 200  # registers of a thread, of programs of 128: two fit on a multiprocessor


def run(folder, script, *arguments):
    """The lines of JSON that a script says in a process that has Triton's interpreter off."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(folder)}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.skipif(not TOOL.exists(), reason="Triton came without cuobjdump")
@pytest.mark.parametrize(
    ("capability", "dtype", "size"),
    [
        (80, "bf16", 64),
        (90, "bf16", 64),
        *(
            pytest.param(capability, dtype, size, marks=pytest.mark.long)
            for capability in (80, 90)
            for dtype, size in (("fp16", 64), ("bf16", 32), ("bf16", 128), ("fp32", 64), ("fp32", 128))
        ),
    ],
)
def test_nothing_spills_and_products_are_the_tensor_cores(capability, dtype, size, tmp_path):
    programs = run(tmp_path, "offline.py", capability, dtype, size)
    names = {found["kernel"] for found in programs}
    assert {"attend", "attend score", "attend gather", "attend gather, package"} <= names
    assert {f"choose, {most}, softmax {by}" for most in (256, 512, 1024) for by in (False, True)} <= names
    for found in programs:
        assert found["spilled"] == 0, found
        assert found["REG"] <= MOST, found
        if found["kernel"].startswith("attend") and dtype != "fp32":
            assert found["tensor_cores"], found


@pytest.mark.long
def test_launches_are_bound_and_few_programs_are_made(tmp_path):
    (programs,) = run(tmp_path, "binding.py")
    assert programs.keys() == {"_attend", "_choose", "_take", "_weigh", "_add_norm"}
    assert programs["_attend"] == 4  # with scores, of all rows, of those that a map leaves, and with packages
    assert programs["_choose"] <= 8  # texts of up to 64 and up to 128 rows, by maps or not, with packages and without
    assert programs["_weigh"] == 1
    assert programs["_take"] == 2
    assert programs["_add_norm"] <= 3
