"""Runs one rival at one strength on one task with one seed."""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
from glue import TASKS, Benchmark, fine_tune, headed, sets_of
from results import RESULTS
from safetensors.torch import load_model, save_model
from transformers import AutoTokenizer, PreTrainedModel, set_seed

from wordelim import Retention, eliminate_
from wordelim.data.encode import sequences_of
from wordelim.data.split import carve
from wordelim.errors import UnsupportedModelError
from wordelim.evaluation.compare import compare
from wordelim.evaluation.inference import logits_of
from wordelim.evaluation.timing import measure_speed
from wordelim.system.machine import environment
from wordelim.tasks import task_for
from wordelim.training.fit import Fit
from wordelim.training.teacher import Teacher

from . import RIVALS
from .rival import Given, Rival, counted_flops, dense_flops, flops_ratio

__all__ = ["main"]

_BATCH = 32
_SHOWN = ("examples", "dense", "compressed", "drop", "drop_interval_95")
_NUMBERS = ("train", "fine_tune_epochs", "epochs", "learning_rate", "seed")


@dataclass(frozen=True)
class _Posed:
    """A task's texts as a dense model reads them."""

    dense: PreTrainedModel
    task: Any
    benchmark: Benchmark
    encoded: Mapping[str, datasets.Dataset]


def main(about: str, given: list[str] | None = None) -> None:
    """The command line.

    Args:
        about: its help.
        given: its arguments; those of the process unless given.
    """
    parser = _parser(about)
    arguments = parser.parse_args(given)
    benchmark, rival = TASKS[arguments.task], RIVALS[arguments.rival]
    sets = sets_of(arguments.task, arguments.data)
    if arguments.train:
        _, sets["train"] = carve(sets["train"], arguments.train, seed=0)
    model, rate, seed = Path(arguments.model).name, arguments.learning_rate, arguments.seed
    cached = f"{arguments.task}-{model}-{len(sets['train'])}-rate{rate:g}-seed{seed}"
    unusual = "".join(f"-{name}{value:g}" for name, value in _unusual(parser, arguments).items() if name != "seed")

    def place_of(name: str, strength: float) -> Path:
        named = f"rival-{arguments.task}-{model}-{name}-{strength:g}{unusual}-seed{seed}.json"
        return Path(arguments.results / named)

    place = place_of(arguments.rival, arguments.strength)
    weights = arguments.cache / f"{cached}-{arguments.rival}-{arguments.strength:g}{unusual}.safetensors"
    if arguments.time_only:
        _time_again(arguments, benchmark, rival, sets, place, weights)
        return
    if place.exists() and not arguments.again:
        print(f"{place} is there already: --again makes it anew.")
        return
    arguments.results.mkdir(parents=True, exist_ok=True)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    dense = arguments.cache / cached
    if not (dense / "config.json").exists():
        epochs = arguments.fine_tune_epochs or benchmark.epochs
        fine_tune(arguments.model, replace(benchmark, epochs=epochs), sets["train"], dense, rate, seed)

    def keep_of(strength: float) -> list[float]:
        found = place_of("elimination", strength)
        if not found.exists():
            raise SystemExit(f"{found} isn't there yet: run --rival elimination --strength {strength:g} first.")
        return list(json.loads(found.read_text())["shape"]["keep"])

    set_seed(seed)
    posed = _pose(benchmark.head.from_pretrained(dense, dtype=torch.float32), dense, benchmark, sets)
    how = Fit(epochs=arguments.epochs, learning_rate=rate, batch_size=_BATCH, seed=seed)
    begun = time.process_time()
    made, shape = rival.train(_given(posed, sets, how, keep_of), arguments.strength)
    seconds = time.process_time() - begun
    made.eval().requires_grad_(False)
    save_model(made, str(weights))
    if arguments.save:
        made.save_pretrained(arguments.save)
        posed.task.tokenizer.save_pretrained(arguments.save)
    result = {
        "task": benchmark.name,
        "model": model,
        "rival": arguments.rival,
        "strength": arguments.strength,
        "strength_is": rival.strength,
        "seed": seed,
        "metric": benchmark.metric,
        "epochs": arguments.epochs,
        "train": len(sets["train"]),
        "shape": shape,
        **{name: _judged(posed, made, name) for name in ("validation", "test")},
        "cpu_seconds": round(seconds, 1),
        "command": _command(parser, arguments),
        **environment(posed.dense.device),
        **_timed(posed, made, rival, arguments.rounds),
    }
    place.write_text(json.dumps(result, indent=1) + "\n")
    told = {name: result[name]["drop"] for name in ("validation", "test")}
    print(place.stem, told, result["test"]["flops_ratio"], result["speed"]["unpadded"], flush=True)


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--model", required=True, help="encoder to fine-tune: a directory, or a hub name")
    parser.add_argument("--data", type=Path, required=True, help="folder of the task's texts")
    parser.add_argument("--rival", required=True, choices=RIVALS)
    parser.add_argument("--strength", type=float, required=True, help="how fast: see above")
    parser.add_argument("--cache", type=Path, default=Path("glue-cache"), help="where models are kept, glue.py's too")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--train", type=int, help="use this many training texts")
    parser.add_argument("--fine-tune-epochs", type=float, help="epochs of fine-tuning; the task's own unless given")
    parser.add_argument("--epochs", type=float, default=4.0, help="epochs of retraining, a search included")
    parser.add_argument("--learning-rate", type=float, default=5e-5, help="highest, of fine-tuning and retraining")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5, help="how often speed is measured")
    parser.add_argument("--again", action="store_true", help="make a result anew that is there already")
    parser.add_argument("--save", type=Path, help="leave the model in this directory too: a student loads from there")
    parser.add_argument("--time-only", action="store_true", help="measure the speed of a result anew, nothing else")
    return parser


def _command(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """What was called, without paths."""
    told = (
        f"python tests/benchmarks/rivals.py {arguments.task} --model MODEL --data DATA --rival {arguments.rival}"
        f" --strength {arguments.strength:g}"
    )
    unusual = _unusual(parser, arguments)
    return told + "".join(f" --{name.replace('_', '-')} {value:g}" for name, value in unusual.items())


def _unusual(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, Any]:
    """Numbers that aren't as they are unless given, by which results tell apart."""
    values = {name: vars(arguments)[name] for name in _NUMBERS}
    return {name: value for name, value in values.items() if value != parser.get_default(name)}


def _pose(
    dense: PreTrainedModel, place: Path | str, benchmark: Benchmark, sets: Mapping[str, datasets.Dataset]
) -> _Posed:
    dense = dense.eval().requires_grad_(False)
    tokenizer, train = AutoTokenizer.from_pretrained(place), sets["train"]
    task = task_for(type(dense).__name__, dense.config, tokenizer, train, metric=benchmark.metric)
    columns = task.find_columns(train)
    encoded = {name: task.encode(rows, columns, max_length=benchmark.max_length).dataset for name, rows in sets.items()}
    return _Posed(dense, task, benchmark, encoded)


def _given(
    posed: _Posed, sets: Mapping[str, datasets.Dataset], how: Fit, keep_of: Callable[[float], list[float]]
) -> Given:
    benchmark = posed.benchmark
    return Given(
        posed.dense,
        posed.task,
        {name: sets[name] for name in ("train", "validation")},
        {name: posed.encoded[name] for name in ("train", "validation")},
        Teacher(posed.dense, posed.task),
        how,
        {"metric": benchmark.metric, "max_length": benchmark.max_length, **benchmark.more},
        keep_of,
    )


def _judged(posed: _Posed, made: PreTrainedModel, name: str) -> dict[str, Any]:
    """Points lost and FLOPs on a set."""
    task, texts, metric = posed.task, posed.encoded[name], posed.task.metric(posed.benchmark.metric)
    dense, own = (task.answers(metric, logits_of(model, texts, task), texts) for model in (posed.dense, made))
    found = compare(task, metric, dense, own, texts)
    return {part: found[part] for part in _SHOWN} | {
        "flops_ratio": round(flops_ratio(posed.dense, made, texts, task), 3),
        "tokens": round(sum(texts["length"]) / len(texts), 1),
    }


def _timed(posed: _Posed, made: PreTrainedModel, rival: Rival, rounds: int) -> dict[str, Any]:
    """Speeds against the dense model, and of a plain model, where that can be, with the last layer cut besides."""
    texts = sequences_of(posed.encoded["test"])

    def speed(model: PreTrainedModel) -> dict[str, Any]:
        width = posed.benchmark.max_length
        return measure_speed(
            posed.dense, model, texts, posed.task.tokenizer, max_length=width, batch_size=_BATCH, rounds=rounds
        )

    found: dict[str, Any] = {"speed": speed(made)}
    if rival.plain:
        with suppress(UnsupportedModelError):  # MPNet's scores by position want all heads
            cut = eliminate_(copy.deepcopy(made), Retention.keep_all(made.config.num_hidden_layers))
            spent = counted_flops(cut, posed.encoded["test"], posed.task)
            ratio = dense_flops(posed.dense).spent(posed.encoded["test"]["length"]) / spent
            found["cut"] = {"flops_ratio": round(ratio, 3), "speed": speed(cut)}
    return found | {"timed_on": environment(posed.dense.device)["machine"]}


def _time_again(
    arguments: argparse.Namespace,
    benchmark: Benchmark,
    rival: Rival,
    sets: Mapping[str, datasets.Dataset],
    place: Path,
    weights: Path,
) -> None:
    if not place.exists():
        raise SystemExit(f"{place} isn't there: run it without --time-only first.")
    result = json.loads(place.read_text())
    if not weights.exists() and arguments.rival == "ltp":
        raise SystemExit(f"{weights} isn't there, and how many rows LTP drops its weights decide: run it with --again.")
    posed = _pose(headed(arguments.model, benchmark), arguments.model, benchmark, sets)
    made = rival.build(posed.dense, result["shape"]).eval()
    if weights.exists():
        load_model(made, str(weights))
    result |= _timed(posed, made, rival, arguments.rounds)
    place.write_text(json.dumps(result, indent=1) + "\n")
    print(place.stem, result["test"]["flops_ratio"], result["speed"]["unpadded"], flush=True)
