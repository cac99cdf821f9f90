"""Two processes, as torchrun and accelerate launch them, on the processor."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest
import torch

import wordelim
from wordelim.cli import main
from wordelim.system.processes import agree, from_main, join

LEARN = ("--method", "learned", "--target-speedup", "1.5", "--epochs", "1", "--batch-size", "4", "--max-drop", "100")


@pytest.fixture
def here(make_model_dir, make_texts, tmp_path, monkeypatch):
    make_model_dir(labels=2)
    make_texts(48).to_csv(tmp_path / "train.csv")
    make_texts(16, 1).to_csv(tmp_path / "dev.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def launch(function, processes=2):
    """Run a function in processes that know of each other; the exit code, stdout and stderr of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            _run(function, rank, processes, port)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return [(code, *(Path(f"{name}{rank}").read_text() for name in ("out", "err"))) for rank, code in enumerate(codes)]


def _run(function, rank, processes, port):
    from accelerate.state import AcceleratorState, PartialState

    code = 1
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}{rank}", os.O_CREAT | os.O_WRONLY), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        AcceleratorState._reset_state(True)
        PartialState._reset_state()
        function(rank)
        code = 0
    except SystemExit as exit_:
        code = exit_.code
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wordelim_with(*arguments):
    def run(rank):
        sys.argv = ["wordelim", *arguments]
        main()

    return run


def test_two_processes_make_one_model(here):
    arguments = ("compress", "dense", "--train", "train.csv", "--validation", "dev.csv", "-o", "out", *LEARN, "--json")
    (code, out, err), (other, *said) = launch(wordelim_with(*arguments))
    assert (code, other) == (0, 0), err
    assert said[0] == ""
    assert not [line for line in said[1].splitlines() if not line.startswith("[rank1]:")]  # torch's own log
    report = json.loads(out)
    own = [line for line in err.splitlines() if not line.startswith("[rank0]:")]  # the others are torch's
    assert own[-2:] == ["Written: out", "The report, to open in a browser: out/report.html"]
    assert report == json.loads((here / "out" / "wordelim_report.json").read_text())
    assert list(wordelim.retention_of(wordelim.load("out")).keep) == report["retention"]["keep"]
    assert report["validation"]["flops_ratio"] > 1.4
    steps = [entry["step"] for entry in report["training"] if entry["stage"] == "search"]
    assert max(steps) == 6  # 48 texts, 4 in each of 2 processes
    assert not (here / "out.wordelim-work").exists()


def test_two_processes_fail_as_one(here):
    arguments = ("compress", "dense", "--train", "train.csv", "--validation", "dev.csv", "-o", "out")
    (code, out, err), (other, *said) = launch(wordelim_with(*arguments, "--target-speedup", "90"))
    assert (code, other) == (3, 3)
    assert said == ["", ""]
    assert out == ""
    assert "FLOPs ratio of 90 is out of reach" in err
    assert (here / "out.wordelim_report.json").exists()


def test_processes_that_differ_are_told(here):
    def run(rank):
        join(cpu=True)
        sys.stdout.write(from_main(lambda: f"rank {rank}\n"))
        agree("keep counts", (0.5, 0.0))
        agree("keep counts", (0.5, 0.1 * rank))

    for code, out, err in launch(run):
        assert code == 1
        assert out == "rank 0\n"
        assert "WordelimError: Process 1 has other keep counts ((0.5, 0.1)) than process 0 ((0.5, 0.0))" in err
    assert not torch.distributed.is_initialized()
