"""Fewer layers, fewer word vectors and int8, alone and on top of each other, in PyTorch, ONNX Runtime and OpenVINO.

    python tests/benchmarks/stack.py mrpc --data data/mrpc --work work \
        --dense DENSE --distilled STUDENT --eliminated FAST --both FAST-STUDENT

Four directories: a fine-tuned model; its student of fewer layers (rivals.py --rival distilbert --save STUDENT leaves
one); and what each of them was compressed to (glue.py leaves that in its cache; of the student with --model STUDENT
--fine-tune-epochs 0).

Each runs in fp32 and in int8, where PyTorch quantizes linear modules dynamically and the runtimes get what wordelim
export writes, calibrated on training texts where that needs some. Speed is over the dense model in fp32 in the same
engine, interleaved, in batches of texts of one length, so that nothing computes padding. Points lost are on all test
texts, against the dense model in PyTorch. Of what drops word vectors, the share that a program in int8 keeps otherwise
than the model in fp32 is told too. Programs are made under --work once; results go to stack-TASK.json.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from glue import TASKS, sets_of
from results import RESULTS

import wordelim
from wordelim.evaluation.compare import compare
from wordelim.evaluation.examples import Examples
from wordelim.evaluation.inference import batches, logits_of
from wordelim.evaluation.timing import forward_of, interleave
from wordelim.exporting.parity import compare as keep_alike
from wordelim.exporting.runtime import ExportedModel
from wordelim.system.machine import environment
from wordelim.verbs.opened import Opened, open_model

MODELS = ("dense", "distilled", "eliminated", "both")
PRECISIONS = ("fp32", "int8")
ENGINES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}  # and their packages
_BATCH, _TEXTS, _KEPT = 8, 128, 100
_QUANTIZED = "onednn"  # PyTorch's engine for int8, where there is one to choose


def main(given: list[str] | None = None) -> None:
    """Run every engine that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the task's texts")
    for name in MODELS:
        parser.add_argument(f"--{name}", required=True, help="a directory")
    parser.add_argument("--work", type=Path, required=True, help="where programs are made, and found again")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="this one alone; may be repeated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="how often speed is measured")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    task, sets = TASKS[options.task], sets_of(options.task, options.data)
    opened = {name: open_model(vars(options)[name], "dense", "compressed", dtype=torch.float32) for name in MODELS}
    test = opened["dense"].pose(sets["test"], metric=task.metric, max_length=task.max_length)
    place = options.results / f"stack-{options.task}.json"
    result = json.loads(place.read_text()) if place.exists() else {"engines": {}}
    answers = test.answers(logits_of(opened["dense"].model, test.dataset, test.task))
    for engine in options.engine or ENGINES:
        models = _made(engine, opened, options, sets["train"], task.max_length)
        rows = {name: _lost(model, test, answers) for name, model in models.items()}
        for name, model in models.items():
            source = opened[name.split()[0]]
            if isinstance(model, ExportedModel) and source.kind == "compressed":
                rows[name]["kept_otherwise"] = _otherwise(source.model, model.directory, test)
        speeds = _speeds(models, test, options.rounds)
        result["engines"][engine] = {name: row | speeds[name] for name, row in rows.items()}
        print(engine, json.dumps(result["engines"][engine], indent=1), flush=True)
        del models
        gc.collect()
    result |= {
        "task": task.name,
        "model": Path(options.dense).name,
        "metric": task.metric,
        "layers": {name: of.config.num_hidden_layers for name, of in opened.items()},
        "tokens": round(float(np.mean(test.lengths)), 1),
        "examples": len(test.dataset),
        "flops_ratio": {name: _flops(of, test) for name, of in opened.items() if of.kind == "compressed"},
        "batch_size": _BATCH,
        "threads": options.threads,
        "rounds": options.rounds,
        "command": f"python tests/benchmarks/stack.py {options.task} --data DATA --work WORK --dense DENSE"
        " --distilled STUDENT --eliminated FAST --both FAST-STUDENT",
        **environment("cpu"),
    }
    result["versions"] |= {package: version(package) for name, package in ENGINES.items() if name in result["engines"]}
    options.results.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(result, indent=1) + "\n")


def _made(
    engine: str, opened: Mapping[str, Opened], options: argparse.Namespace, train: datasets.Dataset, max_length: int
) -> dict[str, Any]:
    """Each model in each precision, such as ``"both int8"``, ready to be called."""
    if engine == "torch":
        if _QUANTIZED in torch.backends.quantized.supported_engines:
            torch.backends.quantized.engine = _QUANTIZED
        ready = {f"{name} fp32": of.model.eval() for name, of in opened.items()}
        return ready | {f"{name} int8": _quantized(of.model) for name, of in opened.items()}
    found = {}
    for name in opened:
        for precision in PRECISIONS:
            program = options.work / f"{name}-{engine}-{precision}"
            if not program.exists():
                int8 = precision == "int8"
                wordelim.export(
                    vars(options)[name], program, format=engine, int8=int8, data=train, max_length=max_length
                )
            found[f"{name} {precision}"] = ExportedModel(program, threads=options.threads)
    return found


def _quantized(model: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this way of quantizing will end
        return torch.ao.quantization.quantize_dynamic(copy.deepcopy(model).eval(), {torch.nn.Linear}, dtype=torch.qint8)


def _lost(model: Any, test: Examples, dense: Any) -> dict[str, Any]:
    """Points that are lost on the test texts."""
    own = test.answers(logits_of(model, test.dataset, test.task))
    found = compare(test.task, test.metric, dense, own, test.dataset)
    return {name: found[name] for name in ("drop", "drop_interval_95")}


def _otherwise(model: Any, directory: Path, test: Examples) -> float:
    """Share of the word vectors that a model keeps which its program doesn't, on some test texts, each alone."""
    texts = list(batches(test.sequences, test.task.tokenizer, list(range(min(_KEPT, len(test.sequences)))), 1))
    found = keep_alike(model, directory, texts, texts)
    return round(found.kept_otherwise / max(1, found.kept), 4)


def _speeds(models: Mapping[str, Any], test: Examples, rounds: int) -> dict[str, dict[str, float]]:
    """Of each, how many times as fast as the dense model in fp32 it is, and milliseconds of a batch; medians."""
    texts = test.workload(batch_size=_BATCH, texts=_TEXTS, seed=0, device=torch.device("cpu")).unpadded
    seconds = interleave({name: (forward_of(model), texts) for name, model in models.items()}, rounds)
    totals = {name: of.sum(1) for name, of in seconds.items()}
    return {
        name: {
            "speed": round(float(np.median(totals["dense fp32"] / of)), 3),
            "milliseconds": round(1e3 * float(np.median(of)) / len(texts), 2),
        }
        for name, of in totals.items()
    }


def _flops(opened: Opened, test: Examples) -> float:
    """FLOPs ratio of a compressed model to itself as it was dense."""
    assert opened.retention is not None
    return round(opened.cost().ratio(test.sizes(opened.retention), opened.retention), 3)


if __name__ == "__main__":
    main()
