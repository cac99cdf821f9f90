"""Compress a real fine-tuned model on real texts through the command line, and keep its report.

    python tests/benchmarks/real_runs.py sst2 --model DIR --data DIR
    python tests/benchmarks/real_runs.py imdb --model DIR --data DIR

The report lies in --results as real-TASK.json, from where engine.py --part paper takes the retention. With --keep OUT
the compressed model stays in OUT. With --time-only the model is only timed anew, and the report gets the new speeds.

DIR of --data holds train.jsonl, dev.jsonl and test.jsonl for sst2 (columns sentence, label), train.jsonl.gz and
test.jsonl.gz for imdb (columns text, label). For imdb, 8,000 reviews of train are trained on, 1,500 others of train are
validated on, and 5,000 of test are reported on, all drawn with seed 0.
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
from timing import time_again

from wordelim.checkpoint.directory import load_dense
from wordelim.data.read import read
from wordelim.data.split import carve


def main() -> None:
    """Run one task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["sst2", "imdb"])
    parser.add_argument("--model", required=True, help="fine-tuned model to compress")
    parser.add_argument("--data", type=Path, required=True, help="folder of the task's texts")
    parser.add_argument("--about", default="MiniLM-L6 (6 layers, hidden 384), fine-tuned on the task")
    parser.add_argument("--keep", type=Path, help="leave the compressed model in this directory")
    parser.add_argument("--time-only", action="store_true", help="time what the result keeps again, nothing else")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    # What follows -- goes to wordelim compress as it is.
    own, _, options = " ".join(sys.argv[1:]).partition(" -- ")
    arguments = parser.parse_args(own.split())
    arguments.options = options.split()
    arguments.results.mkdir(parents=True, exist_ok=True)
    kept = arguments.results / f"real-{arguments.task}.json"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        splits = _sst2(arguments.data) if arguments.task == "sst2" else _imdb(arguments.data, folder)
        if arguments.time_only:
            result = json.loads(kept.read_text())
            result["speed"] = time_again(load_dense(arguments.model), result, read(splits["test"]))
        else:
            result = _compress(arguments, splits, arguments.keep or folder / "out")
    kept.write_text(json.dumps(result, indent=1) + "\n")


def _compress(arguments: argparse.Namespace, splits: dict[str, Path], output: Path) -> dict[str, Any]:
    length = [] if arguments.task == "sst2" else ["--max-length", "256"]
    files = [part for name, path in splits.items() for part in (f"--{name}", str(path))]
    command = ["compress", arguments.model, *files, *length, *arguments.options, "-o", str(output), "--json"]
    done = subprocess.run([sys.executable, "-m", "wordelim", *command], stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(done.stdout)
    shown = f"python tests/benchmarks/real_runs.py {arguments.task} --model MODEL --data DATA"
    names = (
        "retention",
        "metric",
        "validation",
        "test",
        "speed",
        "frontier",
        "data",
        "settings",
        "seconds",
    )
    return {
        "task": {"sst2": "SST-2", "imdb": "IMDB, 256 tokens"}[arguments.task],
        "about": arguments.about,
        "command": shown + (f" -- {' '.join(arguments.options)}" if arguments.options else ""),
        **{name: report[name] for name in (*names, "versions")},
    }


def _sst2(data: Path) -> dict[str, Path]:
    return {"train": data / "train.jsonl", "validation": data / "dev.jsonl", "test": data / "test.jsonl"}


def _imdb(data: Path, folder: Path) -> dict[str, Path]:
    rest, train = carve(read(data / "train.jsonl.gz"), 8000, seed=0)
    _, validation = carve(rest, 1500, seed=0)
    _, test = carve(read(data / "test.jsonl.gz"), 5000, seed=0)
    splits = {"train": train, "validation": validation, "test": test}
    for name, part in splits.items():
        part.to_json(folder / f"{name}.jsonl")
    return {name: folder / f"{name}.jsonl" for name in splits}


if __name__ == "__main__":
    main()
