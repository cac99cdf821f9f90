"""Time the calibrated search on 512 reviews of up to 256 tokens, and keep its frontier as search.json.

python tests/benchmarks/search.py --model DIR --data DIR
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from results import RESULTS
from transformers import AutoTokenizer

from wordelim.checkpoint.directory import load_dense
from wordelim.data.columns import find_columns
from wordelim.data.encode import encode
from wordelim.data.read import read
from wordelim.data.split import carve
from wordelim.search.method import Context
from wordelim.search.methods.calibrated import Calibrated
from wordelim.tasks import Task


def main() -> None:
    """Search once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="fine-tuned IMDB classifier")
    parser.add_argument("--data", type=Path, required=True, help="folder with IMDB's train.jsonl.gz")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    arguments = parser.parse_args()
    model = load_dense(arguments.model).float().eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    _, sample = carve(read(arguments.data / "train.jsonl.gz"), 512, seed=0)
    encoded = encode(sample, tokenizer, find_columns(sample), model.config, max_length=256)
    start = time.perf_counter()
    found = Calibrated()(Context.of(model, Task(model.config, tokenizer), encoded.dataset)).candidates
    result = {
        "about": f"MiniLM-L6 on 512 IMDB reviews cut at 256 tokens, {torch.get_num_threads()} threads.",
        "seconds": time.perf_counter() - start,
        "frontier": [{**c.to_dict(), "keep": list(c.retention.keep)} for c in found],
        "command": "python tests/benchmarks/search.py --model MODEL --data DATA",
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "search.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
