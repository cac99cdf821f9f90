"""Measure the engine: what padding, the cut of the last layer and dropped word vectors are worth on the clock.

    python tests/benchmarks/engine.py                                  every part that needs no files
    python tests/benchmarks/engine.py --part rte --part growth         some parts
    python tests/benchmarks/engine.py --part unpadded --part training --data DIR --tokenizer MODEL
    python tests/benchmarks/engine.py --part paper --data DIR --model sst2=DENSE:COMPRESSED --model imdb=DENSE
    python tests/benchmarks/engine.py --part gpu                       on a machine with a card

DIR of --data holds sst2/dev.jsonl, mrpc/dev.jsonl and imdb/test.jsonl.gz. Results go to --results, a file
engine-PART.json each, which render.py shows (but those of a card and of memory).
Models have random weights where no directory is asked for. A cell is timed as often as fits into --seconds, and left
out where one round would take longer than --longest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import card
import torch
from engine_cells import FAMILIES, MIXES, RTE, SHAPES, Cells, peak_memory
from results import RESULTS
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import wordelim
from wordelim.evaluation.inference import batches
from wordelim.evaluation.speedups import speedups
from wordelim.evaluation.timing import forward_of, workload
from wordelim.graph.cost import cost_of
from wordelim.graph.splice import eliminating_encoder
from wordelim.system.machine import environment, has_fast_bf16

Rows = list[dict[str, Any]]


def keep_all(cells: Cells, options: argparse.Namespace) -> Rows:
    """The rewritten model that drops nothing, with and without the cut of the last layer, over the dense one."""
    rows = []
    for shape in options.shapes or ("bert-base", "minilm-l6"):
        for dtype in options.dtypes:
            models = cells.models(shape, dtype, {"cut": 1.0, "uncut": 1.0})
            for batch, tokens in ((b, n) for b in options.batches or (1, 8) for n in options.lengths or (128,)):
                found = cells.even(models, batch, tokens)
                rows.append({"shape": shape, "dtype": dtype, "batch": batch, "tokens": tokens, **found})
    return rows


def eliminating(
    cells: Cells, options: argparse.Namespace, shapes: Any, batches: Any, lengths: Any, name: str = "compressed"
) -> Rows:
    """Word vectors dropped by RTE's fractions of the paper, no padding, over the dense model."""
    rows = []
    for shape in options.shapes or shapes:
        for dtype in options.dtypes:
            models = cells.models(shape, dtype, {name: RTE})
            for batch in options.batches or batches:
                for tokens in options.lengths or lengths:
                    found = cells.even(models, batch, tokens)
                    rows.append({"shape": shape, "dtype": dtype, "batch": batch, "tokens": tokens, **found})
    return rows


def rte(cells: Cells, options: argparse.Namespace) -> Rows:
    """Word vectors dropped, in batches of 8 and 32."""
    return eliminating(cells, options, ("bert-base",), (8, 32), (128, 256, 512))


def batch1(cells: Cells, options: argparse.Namespace) -> Rows:
    """Word vectors dropped, one text at a time."""
    return eliminating(cells, options, ("bert-base",), (1,), (128, 256, 512))


def families(cells: Cells, options: argparse.Namespace) -> Rows:
    """The same of base-size families as the search leaves them: linear maps decide, and packages go on."""
    return eliminating(cells, options, FAMILIES, (8,), (128, 256), "mapped")


def gpu(cells: Cells, options: argparse.Namespace) -> Rows:
    """The engine of a card: parity, speed against the fastest dense rivals, and its kernels."""
    return card.measure(cells, options)


def unpadded(cells: Cells, options: argparse.Namespace) -> Rows:
    """Nothing dropped, random batches of 32 real texts, over the dense model that pads them to their longest."""
    tokenizer, rows = AutoTokenizer.from_pretrained(options.tokenizer), []
    for shape in options.shapes or ("bert-base",):
        for dtype in options.dtypes:
            models = cells.models(shape, dtype, {"cut": 1.0, "uncut": 1.0})
            for task, mix in MIXES.items():
                encoded = mix.encoded(options.data, tokenizer, models["dense"].config, mix.length)
                sizes = {"max_length": mix.length, "batch_size": 32, "texts": 32 * mix.batches}
                found = cells.dynamic(models, workload(encoded, tokenizer, device=cells.device, **sizes))
                rows.append({"task": task, "shape": shape, "dtype": dtype, "max_length": mix.length, **found})
    return rows


def training(cells: Cells, options: argparse.Namespace) -> Rows:
    """Forward and backward with word vectors dropped, in the packed layout over the padded one."""
    tokenizer, rows = AutoTokenizer.from_pretrained(options.tokenizer), []
    shape = (options.shapes or ["minilm-l6"])[0]
    models = {
        layout: cells.models(shape, "float32", {"compressed": RTE})["compressed"].train()
        for layout in ("padded", "packed")
    }
    for layout, model in models.items():
        eliminating_encoder(model).layout = layout
    for task, mix in MIXES.items():
        encoded = mix.encoded(options.data, tokenizer, models["padded"].config, mix.length)
        taken = encoded.select(range(min(len(encoded), 128)))
        orders = {"random": taken, "of like length": taken.sort("length")}
        for order, texts in orders.items():
            made = list(batches(texts, tokenizer, range(len(texts)), 32))
            found = cells.steps(models, made)
            rows.append({"task": task, "shape": shape, "max_length": mix.length, "batches": order, **found})
    return rows


def memory(cells: Cells, options: argparse.Namespace) -> Rows:
    """Peak memory of one attention of BERT-base that drops, over one that doesn't."""
    rows = []
    for batch in options.batches or (32,):
        for tokens in options.lengths or (512,):
            peaks = {
                name: peak_memory((options.shapes or ["bert-base"])[0], batch, tokens, keep, str(cells.device))
                for name, keep in (("sdpa", 1.0), ("eliminating", RTE[0]))
            }
            rows.append({"batch": batch, "tokens": tokens, "keep": RTE[0], **peaks})
    return rows


def paper(cells: Cells, options: argparse.Namespace) -> Rows:
    """The paper's protocol: the dense model padded to a fixed length, in batches of 128."""
    rows = []
    for entry in options.model:
        task, _, places = entry.partition("=")
        dense_dir, _, compressed_dir = places.partition(":")
        mix = MIXES[task]
        tokenizer = AutoTokenizer.from_pretrained(dense_dir)
        dense = AutoModelForSequenceClassification.from_pretrained(dense_dir, dtype=torch.float32).eval()
        layers, known = dense.config.num_hidden_layers, options.results / f"real-{task}.json"
        if compressed_dir:
            compressed, about = wordelim.load(compressed_dir).float().eval(), "trained"
            retention = wordelim.retention_of(compressed)
        else:
            if known.exists():
                retention = wordelim.Retention.from_dict(json.loads(known.read_text())["retention"])
                about = "the trained model's retention, on the dense weights"
            else:
                retention, about = cells.retention(layers, RTE), "RTE's fractions of the paper, on the dense weights"
            compressed = cells.rewritten(dense, retention)
        kept = cells.rewritten(dense, wordelim.Retention.keep_all(layers))
        models = {"dense": dense, "keep-all": kept, "compressed": compressed}
        encoded = mix.encoded(options.data, tokenizer, dense.config, mix.fixed)
        work = workload(
            encoded, tokenizer, max_length=mix.fixed, batch_size=128, texts=options.texts, device=cells.device
        )
        forwards = {name: forward_of(model.to(cells.device)) for name, model in models.items()}
        cost = cost_of(kept)
        flops = 2 * cost.spent([mix.fixed] * len(work.lengths)) + 5 * cost.spent(work.lengths)
        rounds = cells.rounds(flops, "float32") or 1
        found = speedups(forwards, work, cost, retention, rounds=rounds)
        rows.append({"task": task, "retention": retention.to_dict(), "about": about, "rounds": rounds, **found})
        rows[-1]["fixed_length"] = mix.fixed
    return rows


def growth(cells: Cells, options: argparse.Namespace) -> Rows:
    """How time grows with length, with the batch, and with what is dropped."""
    shape, rows = (options.shapes or ["bert-base"])[0], []
    sweeps = {
        "length": [(4, n) for n in options.lengths or (32, 64, 128, 256, 512)],
        "batch": [(b, 32) for b in options.batches or (1, 2, 4, 8, 16, 32, 64, 128)],
    }
    models = cells.models(shape, "float32", {"cut": 1.0, "compressed": RTE})
    for sweep, points in sweeps.items():
        for batch, tokens in points:
            found = cells.even(models, batch, tokens)
            rows.append({"sweep": sweep, "shape": shape, "batch": batch, "tokens": tokens, **found})
    layers = SHAPES[shape].num_hidden_layers
    del models["cut"]
    for factor in (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5):
        keep = [factor ** (layer + 1) for layer in range(layers)]
        wordelim.eliminate_(models["compressed"], cells.retention(layers, keep))
        found = cells.even(models, 4, (options.lengths or (256,))[-1])
        rows.append({"sweep": "elimination", "shape": shape, "factor": factor, **found})
    return rows


PARTS: dict[str, Callable[[Cells, argparse.Namespace], Rows]] = {
    "keep-all": keep_all,
    "unpadded": unpadded,
    "rte": rte,
    "batch1": batch1,
    "families": families,
    "training": training,
    "memory": memory,
    "paper": paper,
    "growth": growth,
    "gpu": gpu,
}


def _missing(part: str, options: argparse.Namespace) -> str | None:
    """Which option a part can't do without."""
    if part in ("unpadded", "training", "paper") and options.data is None:
        return "--data"
    if part in ("unpadded", "training") and options.tokenizer is None:
        return "--tokenizer"
    if part == "paper" and not options.model:
        return "--model"
    if part == "gpu" and options.device is None and not torch.cuda.is_available():
        return "a card, or --device"
    return None


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: tuple(int(part) for part in text.split(","))  # noqa: E731
    names = lambda text: tuple(text.split(","))  # noqa: E731
    parser.add_argument("--part", action="append", choices=list(PARTS), help="what to measure; repeat for several")
    parser.add_argument("--data", type=Path, help="folder of real texts")
    parser.add_argument("--tokenizer", help="model directory whose tokenizer counts their tokens")
    parser.add_argument("--model", action="append", default=[], help="TASK=DENSE[:COMPRESSED], for the part paper")
    parser.add_argument("--device", help="cpu or cuda; for the part gpu the card, else the processor unless given")
    parser.add_argument(
        "--dtypes", type=names, help="such as float32,bfloat16; both, and 16 bits on a card, unless given"
    )
    parser.add_argument("--shapes", type=names, help=f"out of {', '.join(SHAPES)}")
    parser.add_argument("--batches", type=numbers, help="such as 1,8,32")
    parser.add_argument("--lengths", type=numbers, help="such as 128,256,512")
    parser.add_argument("--texts", type=int, default=128, help="texts of the part paper, in batches of up to 128")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for a cell")
    parser.add_argument("--longest", type=float, default=90.0, help="longest estimated round that is still measured")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    options = parser.parse_args(arguments)
    for entry in options.model:
        if entry.partition("=")[0] not in MIXES or not entry.partition("=")[2]:
            parser.error(f"--model {entry}: give TASK=DENSE[:COMPRESSED], with a task out of {', '.join(MIXES)}.")
    for shape in options.shapes or ():
        if shape not in SHAPES:
            parser.error(f"--shapes {shape}: choose out of {', '.join(SHAPES)}.")
    for part in options.part or ():
        missing = _missing(part, options)
        if missing:
            parser.error(f"The part {part} needs {missing}.")
    options.part = options.part or [part for part in PARTS if _missing(part, options) is None]
    return options


def _command(part: str, options: argparse.Namespace, dtypes: tuple[str, ...] | None) -> str:
    """What was run, without this machine's paths."""
    command = ["python tests/benchmarks/engine.py", "--part", part]
    if part in ("unpadded", "training", "paper"):
        command.append("--data DATA")
    if part in ("unpadded", "training"):
        command.append("--tokenizer MODEL")
    if part == "paper":
        for entry in options.model:
            task, _, places = entry.partition("=")
            command.append(f"--model {task}={'DENSE:COMPRESSED' if ':' in places else 'DENSE'}")
    chosen = {"dtypes": dtypes, "shapes": options.shapes, "batches": options.batches, "lengths": options.lengths}
    command += [f"--{name} {','.join(map(str, values))}" for name, values in chosen.items() if values]
    return " ".join([*command, f"--seconds {options.seconds:g}"])


def main(arguments: list[str] | None = None) -> None:
    """Measure every part asked for."""
    options = _options(arguments)
    given = options.dtypes
    for part in options.part:
        device = torch.device(options.device or ("cuda" if part == "gpu" else "cpu"))
        fast = ("bfloat16", "float16") if part == "gpu" else ("float32", "bfloat16")
        options.dtypes = given or fast
        cells = Cells(device, seconds=options.seconds, longest=options.longest)
        print(part, file=sys.stderr, flush=True)
        rows = PARTS[part](cells, options)
        result = {
            "part": part,
            "command": _command(part, options, given),
            "rows": rows,
            "bf16_is_native": has_fast_bf16(device),
            "gflops": {dtype: round(speed / 1e9, 1) for dtype, speed in cells.speed.items()},
            **environment(device),
        }
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / f"engine-{part}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
