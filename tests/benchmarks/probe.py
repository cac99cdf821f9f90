"""Does probe foretell what compress reaches? Probe a model, compress it to several speeds, and keep both.

    python tests/benchmarks/probe.py sst2 --model DIR --data DIR --speeds 1.5,2,3,4
    python tests/benchmarks/probe.py imdb --model DIR --data DIR

DIR of --data is as in real_runs.py. What is found lies in --results as probe-TASK.json. Without --speeds only the probe
is run, to be read beside what real_runs.py keeps. With --speeds the model is compressed to each FLOPs ratio with one
pass over --examples training texts, whatever is lost, and judged on the validation texts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from results import RESULTS

from wordelim.data.read import read
from wordelim.data.split import carve

LENGTH = {"sst2": [], "imdb": ["--max-length", "256"]}


def main() -> None:
    """Probe one task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(LENGTH))
    parser.add_argument("--model", required=True, help="fine-tuned model")
    parser.add_argument("--data", type=Path, required=True, help="folder of the task's texts")
    parser.add_argument("--speeds", default="", help="FLOPs ratios to compress to, comma-separated")
    parser.add_argument("--examples", type=int, default=4000, help="training texts for each")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train, validation = _splits(arguments.task, arguments.data)
        carve(train, arguments.examples, seed=1)[1].to_json(folder / "train.jsonl")
        validation.to_json(folder / "validation.jsonl")
        files = {name: str(folder / f"{name}.jsonl") for name in ("train", "validation")}
        common = [arguments.model, "--validation", files["validation"], *LENGTH[arguments.task]]
        result = {
            "task": {"sst2": "SST-2", "imdb": "IMDB, 256 tokens"}[arguments.task],
            "key": arguments.task,
            "command": f"python tests/benchmarks/probe.py {arguments.task} --model MODEL --data DATA"
            + (f" --speeds {arguments.speeds}" if arguments.speeds else ""),
            "probe": _wordelim("probe", *common),
            "examples": arguments.examples,
            "compressed": [],
        }
        _keep(result, arguments.results)
        for speed in filter(None, arguments.speeds.split(",")):
            options = ["--train", files["train"], "--target-speedup", speed, "--max-drop", "100", "--epochs", "1"]
            report = _wordelim("compress", *common, *options, "-o", str(folder / f"out-{speed}"))
            names = ("flops_ratio", "drop", "drop_interval_95")
            found = {name: report["validation"][name] for name in names}
            result["compressed"].append({**found, "retention": report["retention"]})
            print(speed, found, flush=True)
            _keep(result, arguments.results)
    _keep(result, arguments.results)


def _keep(result: dict[str, Any], folder: Path) -> None:
    """After each speed anew: what is there is true, even where the rest is never run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"probe-{result['key']}.json").write_text(json.dumps(result, indent=1) + "\n")


def _wordelim(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "wordelim", *words, "--json"]
    report: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return report


def _splits(task: str, data: Path) -> tuple[Any, Any]:
    """Training and validation texts as real_runs.py takes them."""
    if task == "sst2":
        return read(data / "train.jsonl"), read(data / "dev.jsonl")
    rest, train = carve(read(data / "train.jsonl.gz"), 8000, seed=0)
    return train, carve(rest, 1500, seed=0)[1]


if __name__ == "__main__":
    main()
