"""How often the promise holds: choosing a speed on few validation texts, over and over, by several rules.

    python tests/benchmarks/promise.py sst2 --model my-bert-sst2 --fine-tuned 10000 --data data/sst2

Compresses a fine-tuned model to one set of weights for many speeds, and takes its answers at each speed to a large pool
of texts that neither it nor the dense model was trained on. Then many times: some texts of the pool are the validation
texts, a rule chooses on them, and the rest tells what is lost in truth. Rules: ``measured`` takes the fastest speed
whose drop as measured is within bounds, as the figures alone would; ``bootstrap`` asks a bound of confidence 0.8, from
slow to fast, as :func:`wordelim.compression.choose.decide` does; a number is the confidence of the bound that the
product asks instead, :func:`wordelim.evaluation.smoothed.smoothed_bound`. Prints for each how often no more than
--max-drop was lost in truth, and the FLOPs ratio chosen, a geometric mean.

    python tests/benchmarks/promise.py sst2 ... --whole 5 --train 3000

With --whole the model is compressed so many times instead, as `wordelim compress` does it with its defaults, each time
with other texts to train on, to choose on and to judge by. Prints a line a run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from glue import TASKS, sets_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import wordelim
from wordelim import Settings
from wordelim.data.split import carve
from wordelim.evaluation.inference import logits_of
from wordelim.evaluation.smoothed import smoothed_bound
from wordelim.evaluation.statistics import paired_bootstrap
from wordelim.graph.cost import cost_of
from wordelim.graph.speeds import speeds_of
from wordelim.system.machine import has_fast_bf16
from wordelim.tasks import task_for

SPEEDS = (1.25, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
BETWEEN = 2
RULES = ("measured", "bootstrap", 0.8, 0.9)


def main() -> None:
    """Compress, ask, choose many times, and print a line a rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--model", required=True, help="fine-tuned on --fine-tuned texts, as glue.py does it")
    parser.add_argument("--data", type=Path, required=True, help="folder of the task's texts")
    parser.add_argument("--fine-tuned", type=int, required=True, help="training texts that the model has seen")
    parser.add_argument("--train", type=int, default=5000, help="of these, texts to retrain on")
    parser.add_argument("--pool", type=int, default=6000, help="texts that answer for the truth")
    parser.add_argument("--validation", type=int, action="append", help="texts to choose on; 300 and 1,000 by default")
    parser.add_argument("--times", type=int, default=400, help="how often a choice is made")
    parser.add_argument("--whole", type=int, help="compress so many times for each number of texts to choose on")
    parser.add_argument("--confidence", type=float, default=Settings().confidence, help="of --whole")
    parser.add_argument("--max-drop", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    benchmark, sets = TASKS[given.task], sets_of(given.task, given.data)
    unseen, seen = carve(sets["train"], given.fine_tuned, seed=0)
    pool = sets["test"] if given.task == "imdb" else unseen
    _, pool = carve(pool, min(given.pool, len(pool) - 1), seed=0)
    if given.whole:
        compress_whole(given, seen, pool)
        return
    _, train = carve(seen, min(given.train, len(seen) - 1), seed=given.seed)
    model = AutoModelForSequenceClassification.from_pretrained(given.model)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    task = task_for(type(model).__name__, model.config, tokenizer, pool, metric=benchmark.metric)
    metric, bf16 = task.metric(benchmark.metric), has_fast_bf16("cpu")
    encoded = task.encode(pool, task.find_columns(pool), max_length=benchmark.max_length).dataset
    truth = task.truth(encoded)
    dense = logits_of(model, encoded, task, bf16=bf16)
    _, validation = carve(sets["validation"], min(300, len(sets["validation"]) - 1), seed=0)
    options: dict[str, Any] = {"max_length": benchmark.max_length, "metric": benchmark.metric, "measure_speed": False}
    wordelim.compress_model(
        model, tokenizer, train=train, validation=validation, speeds=SPEEDS, seed=given.seed, max_drop=100.0, **options
    )
    ladder, cost = rungs(list(speeds_of(model).values())), cost_of(model)
    ratios = np.array([cost.ratio(encoded["length"], retention) for retention in ladder])
    compressed = []
    for retention in ladder:
        wordelim.eliminate_(model, retention)
        compressed.append(logits_of(model, encoded, task, bf16=bf16))
    for ratio, each in zip(ratios, compressed, strict=True):
        print(
            f"at {ratio:.2f}x {metric(dense, truth) - metric(each, truth):.2f} points are lost on the pool", flush=True
        )
    for texts in given.validation or (300, 1000):
        for rule in RULES:
            found = []
            for time in range(given.times):
                order = np.random.default_rng(time).permutation(len(truth))
                chosen_on, rest = order[:texts], order[texts:]
                rung = choose(rule, metric, dense, compressed, truth, chosen_on, given.max_drop, time)
                found.append(
                    (metric(dense[rest], truth[rest]) - metric(compressed[rung][rest], truth[rest]), ratios[rung])
                )
            lost, speeds = np.array(found).T
            result = {
                "task": benchmark.name,
                "validation": texts,
                "rule": rule,
                "kept_%": round(100 * float((lost <= given.max_drop).mean()), 1),
                "lost": round(float(lost.mean()), 2),
                "flops_ratio": round(float(np.exp(np.log(speeds).mean())), 3),
            }
            print(json.dumps(result), flush=True)


def compress_whole(given: argparse.Namespace, seen: datasets.Dataset, pool: datasets.Dataset) -> None:
    """Compress over and over, and print what each run lost on the texts of the pool that it did not choose on."""
    benchmark, tokenizer = TASKS[given.task], AutoTokenizer.from_pretrained(given.model)
    for seed, texts in product(range(given.seed, given.seed + given.whole), given.validation or (300, 1000)):
        _, train = carve(seen, min(given.train, len(seen) - 1), seed=seed)
        test, validation = carve(pool, texts, seed=seed)
        report = wordelim.compress_model(
            AutoModelForSequenceClassification.from_pretrained(given.model),
            tokenizer,
            train=train,
            validation=validation,
            test=test,
            max_length=benchmark.max_length,
            metric=benchmark.metric,
            max_drop=given.max_drop,
            confidence=given.confidence,
            seed=seed,
            measure_speed=False,
        ).report
        run = {
            "task": benchmark.name,
            "validation": texts,
            "seed": seed,
            "met": report["met"],
            "choice": report["choice"],
            "retrained": list(dict.fromkeys(entry["stage"] for entry in report.get("training", ()))),
        }
        lost = {f"lost_on_{name}": report[name]["drop"] for name in ("validation", "test")}
        print(json.dumps({**run, **lost, "flops_ratio": report["test"]["flops_ratio"]}), flush=True)


def rungs(retentions: Sequence[wordelim.Retention]) -> list[wordelim.Retention]:
    """Retentions with some between each two."""
    found = [retentions[0]]
    for slow, fast in pairwise(retentions):
        for step in range(1, BETWEEN + 2):
            keep = [a + (b - a) * step / (BETWEEN + 1) for a, b in zip(slow.keep, fast.keep, strict=True)]
            found.append(replace(fast, keep=tuple(round(value, 3) for value in keep)))
    return found


def choose(
    rule: str | float,
    metric: Any,
    dense: Any,
    compressed: Sequence[Any],
    truth: Any,
    rows: Any,
    max_drop: float,
    seed: int,
) -> int:
    """The rung that a rule chooses on some texts; the slowest where none holds."""
    held = 0
    for rung, each in enumerate(compressed):
        given = metric, dense[rows], each[rows], truth[rows]
        drop = metric(dense[rows], truth[rows]) - metric(each[rows], truth[rows])
        if rule == "measured":
            held = rung if drop <= max_drop else held
            continue
        if rule == "bootstrap":
            bound = paired_bootstrap(*given, resamples=400, seed=seed, confidence=0.6).high
        else:
            bound = smoothed_bound(*given, seed=seed, confidence=float(rule))
        if max(bound, drop) > max_drop:
            break
        held = rung
    return held


if __name__ == "__main__":
    main()
