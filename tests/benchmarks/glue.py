"""Fine-tune an encoder on a task of the paper, compress it by several methods, and keep what each came to.

    python tests/benchmarks/glue.py rte --model minilm-l6 --data data/rte
    python tests/benchmarks/glue.py rte --model minilm-l6 --data data/rte --part learned    # one part alone

--model is any encoder directory or hub name (bert-base-uncased, albert-base-v2, ...). The folder of --data holds
train.jsonl and dev.jsonl (for imdb train.jsonl.gz, test.jsonl.gz). Dense checkpoints and what they were compressed to
stay in --cache; parts can run beside each other: each leaves glue-TASK-MODEL-PART.json in --results, with another than
the usual rate, speed or seed in its name, and render.py shows it. A compression that was killed goes on from what it
left in --cache. --untimed leaves speed to --time-only, which measures that of what stands in --results anew, with the
weights of --model and any linear maps, on which time does not depend, and attention deciding where that did: so parts
can be trained on a card, or beside each other, and timed on a quiet processor.

Parts: calibrated and learned choose their own keep counts; attention, random and first then use those of --keep-of
(calibrated unless told) with equal retraining, and differ in what decides which word vectors stay: the attention that
they receive, chance, or their place in the text (the paper's ablation). Choices are made on texts carved from train;
dev is only reported on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import psutil
import torch
from results import RESULTS
from timing import time_again
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    set_seed,
)

import wordelim
from wordelim import Retention, restore_
from wordelim.adapters import family_of
from wordelim.compression.journal import journal
from wordelim.compression.prepare import Given
from wordelim.compression.run import run as compress
from wordelim.compression.settings import Settings
from wordelim.data.read import read
from wordelim.data.split import carve
from wordelim.elimination.significance import Selector
from wordelim.graph.encoder import EliminatingEncoder
from wordelim.system.machine import environment, has_fast_bf16
from wordelim.tasks import Task, task_for
from wordelim.training.fit import Fit, LittleMemory
from wordelim.training.retrain import retrain_
from wordelim.training.teacher import Teacher

PARTS = ("calibrated", "learned", "attention", "random", "first")
CHOOSING = ("calibrated", "learned")
BY_KEEP = ("attention", "random", "first")
_COLUMNS = ("text", "text_pair", "label")
_STEPS = 100  # after how many reports of a stage its memory is printed
_NUMBERS = (
    "train",
    "fine_tune_epochs",
    "epochs",
    "search_epochs",
    "learning_rate",
    "target_speedup",
    "max_drop",
    "seed",
)


@dataclass(frozen=True)
class Benchmark:
    """A task: its name, length, the paper's speed-up (None where it has none), metric, and epochs of fine-tuning."""

    name: str
    max_length: int
    paper: float | None
    metric: str
    epochs: float
    names: tuple[str, ...] = ()  # of the classes or tags; () for numbers as they are
    outputs: int | None = None  # logits; None for as many as there are names, or 2
    head: Any = AutoModelForSequenceClassification
    also: tuple[str, ...] = ()  # metrics that are reported beside it
    more: Mapping[str, Any] = field(default_factory=dict)  # settings of the compression


TASKS = {
    "rte": Benchmark("RTE", 256, 3.4, "accuracy", 5, ("entailment", "not_entailment")),
    "mrpc": Benchmark("MRPC", 128, 2.7, "f1", 5),
    "cola": Benchmark("CoLA", 64, 4.5, "mcc", 4),
    "stsb": Benchmark("STS-B", 64, 2.0, "spearman", 4, outputs=1),
    "sst2": Benchmark("SST-2", 64, 2.4, "accuracy", 1),
    "imdb": Benchmark("IMDB", 256, 2.7, "accuracy", 1),
}


def main() -> None:
    """Run the parts that were asked for."""
    run(__doc__ or "", TASKS, PARTS, "glue", sets_of)


def run(
    about: str,
    tasks: Mapping[str, Benchmark],
    parts: Sequence[str],
    kind: str,
    read_sets: Callable[[str, Path], dict[str, datasets.Dataset]],
) -> None:
    """The command line of a script that fine-tunes, compresses and reports.

    Args:
        about: its help.
        kind: what the files of results begin with.
        read_sets: from a task's key and the folder of its texts to train, validation and test.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=tasks)
    parser.add_argument("--model", required=True, help="encoder to fine-tune: a directory, or a hub name")
    parser.add_argument("--teacher", help="fine-tuned model with the same tokenizer to distil from while fine-tuning")
    parser.add_argument("--data", type=Path, required=True, help="folder of the task's texts")
    parser.add_argument("--part", action="append", choices=parts, help="run this part alone; may be repeated")
    parser.add_argument("--cache", type=Path, default=Path("glue-cache"), help="where fine-tuned models are kept")
    parser.add_argument("--train", type=int, help="use this many training texts")
    parser.add_argument("--fine-tune-epochs", type=float, help="epochs of fine-tuning; the task's own unless given")
    parser.add_argument("--epochs", type=float, default=4.0, help="epochs of retraining, in all")
    parser.add_argument("--search-epochs", type=float, default=2.0, help="epochs of the learned search")
    parser.add_argument(
        "--learning-rate", type=float, default=5e-5, help="highest, of fine-tuning; given, of retraining too"
    )
    parser.add_argument("--target-speedup", type=float, help="FLOPs ratio to reach, instead of the fastest that holds")
    parser.add_argument("--max-drop", type=float, default=1.0, help="points that may be lost on validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-of", choices=CHOOSING, default="calibrated", help="whose counts the ablation keeps")
    parser.add_argument("--untimed", action="store_true", help="don't measure speed")
    parser.add_argument("--time-only", action="store_true", help="time what the results keep again, nothing else")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    arguments = parser.parse_args()
    task = tasks[arguments.task]
    if arguments.fine_tune_epochs is not None:
        task = replace(task, epochs=arguments.fine_tune_epochs)
    arguments.results.mkdir(parents=True, exist_ok=True)
    model = Path(arguments.model).name
    sets = read_sets(arguments.task, arguments.data)
    if arguments.train:
        _, sets["train"] = carve(sets["train"], arguments.train, seed=0)
    rate = arguments.learning_rate
    cached = f"{arguments.task}-{model}-{len(sets['train'])}-rate{rate:g}-seed{arguments.seed}"
    unusual = "" if rate == parser.get_default("learning_rate") else f"-rate{rate:g}"
    speed = arguments.target_speedup
    aimed = "" if speed is None else f"-speedup{speed:g}"
    repeated = "" if arguments.seed == parser.get_default("seed") else f"-seed{arguments.seed}"
    named = f"{kind}-{arguments.task}-{model}{unusual}{aimed}{repeated}"
    dense = Path(arguments.model) if task.epochs == 0 else arguments.cache / cached
    if not arguments.time_only and not (dense / "config.json").exists():
        fine_tune(arguments.model, task, sets["train"], dense, rate, arguments.seed, teacher=arguments.teacher)
    for part in arguments.part or parts:
        given = arguments.keep_of if part in BY_KEEP else None
        method = f"{part}-of-{given}" if given == "learned" else part
        place = arguments.results / f"{named}-{method}.json"
        output = arguments.cache / f"{cached}{aimed}-{method}"
        if arguments.time_only:
            if place.exists():
                result = json.loads(place.read_text())
                result["speed"] = time_again(headed(arguments.model, task), result, sets["test"])
                result["timed_on"] = environment("cpu")["machine"]
                place.write_text(json.dumps(result, indent=1) + "\n")
                print(part, result["speed"], flush=True)
            continue
        keep = None if given is None else _keep(place.with_name(f"{named}-{given}.json"), given)
        whole = task.head.from_pretrained(dense).to("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = AutoTokenizer.from_pretrained(dense)
        if part in SELECTORS:
            decide_(whole, SELECTORS[part])
        more = {**({"learning_rate": rate} if unusual else {}), **task.more}
        more |= {"target_speedup": speed} if speed and not keep else {}
        settings = Settings(
            metric=task.metric,
            max_length=task.max_length,
            max_drop=arguments.max_drop,
            epochs=arguments.epochs,
            search_epochs=arguments.search_epochs,
            method="learned" if part == "learned" else "calibrated",
            keep=keep,
            seed=arguments.seed,
            measure_speed=not arguments.untimed,
            **more,
        )
        with journal(output.with_name(f"{output.name}-work"), resume=True) as kept:
            found = compress(whole, tokenizer, Given(sets, dict.fromkeys(_COLUMNS), {}), settings, kept, _Told())
        found.model.save_pretrained(output)
        tokenizer.save_pretrained(output)
        names = ("retention", "metric", "validation", "test", "seconds", "peak_memory_gib")
        names += ("settings", "machine", "versions", "warnings", "choice", "tried")
        names += () if arguments.untimed else ("speed",)
        script = f"tests/benchmarks/{Path(sys.argv[0]).name}"
        result = {
            "task": task.name,
            "paper": task.paper,
            "model": model,
            "part": method,
            "train": len(sets["train"]),
            "met": found.met,
            "command": f"python {script} {arguments.task} --model MODEL --data DATA --part {part}"
            + (" --teacher TEACHER" if arguments.teacher else "")
            + (" --keep-of learned" if given == "learned" else "")
            + "".join(
                f" --{name.replace('_', '-')} {vars(arguments)[name]:g}"
                for name in _NUMBERS
                if vars(arguments)[name] != parser.get_default(name)
            ),
            **{name: found.report[name] for name in names},
            "timed_on": found.report["machine"],
            "also": {metric: _lost(dense, output, sets["test"], task, metric) for metric in task.also},
        }
        for name in ("validation", "test"):
            result[name].pop("worst_flips")  # texts of the data set, which has an owner
        place.write_text(json.dumps(result, indent=1) + "\n")
        print(part, result["test"], result.get("speed"), result["retention"]["keep"], flush=True)


class _Told:
    """Prints the stages of a compression as they come, and what memory the process holds, again and again."""

    def __init__(self) -> None:
        self.stage, self.reports, self.begun = "", 0, time.process_time()

    def __call__(self, stage: str, share: float) -> None:
        self.reports = self.reports + 1 if stage == self.stage else 0
        if self.reports % _STEPS == 0:
            held = psutil.Process().memory_info().rss / 2**30
            seconds = time.process_time() - self.begun
            print(f"{seconds:.0f} s of CPU, {held:.2f} GiB: {stage}, {share:.0%}", flush=True)
        self.stage = stage


def _lost(dense: Path, output: Path, test: datasets.Dataset, task: Benchmark, metric: str) -> dict[str, Any]:
    report = wordelim.check(dense, output, data=test, metric=metric, max_length=task.max_length).report
    return {name: report["result"][name] for name in ("dense", "compressed", "drop", "drop_interval_95")}


def sets_of(key: str, folder: Path) -> dict[str, datasets.Dataset]:
    """Train, validation carved from it, and dev (IMDB: test) to report on."""
    suffix = ".jsonl.gz" if key == "imdb" else ".jsonl"
    train = read(folder / f"train{suffix}")
    test = read(folder / f"{'test' if key == 'imdb' else 'dev'}{suffix}")
    train, validation = carve(train, min(1500, len(train) // 10), seed=0)
    if len(test) > 5000:
        _, test = carve(test, 5000, seed=0)
    return {"train": train, "validation": validation, "test": test}


class _Trainer(Trainer):
    """Trains a dense model on what its head is asked."""

    def __init__(self, *args: Any, task: Task, **options: Any) -> None:
        super().__init__(*args, **options)
        self.task = task

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        known = {name: values for name, values in inputs.items() if name not in self.task.targets}
        return self.task.loss(model(**(known if self.task.own_loss else inputs)), inputs)


def headed(encoder: str, benchmark: Benchmark) -> Any:
    """The encoder under the task's head, which is new where the encoder has none or one of another size."""
    labels = benchmark.outputs or len(benchmark.names) or 2
    problem = "regression" if benchmark.metric == "spearman" else None
    model = benchmark.head.from_pretrained(
        encoder, num_labels=labels, dtype=torch.float32, problem_type=problem, ignore_mismatched_sizes=True
    )
    if benchmark.names:
        model.config.id2label = dict(enumerate(benchmark.names))
        model.config.label2id = {name: index for index, name in enumerate(benchmark.names)}
    return model


def fine_tune(
    encoder: str,
    benchmark: Benchmark,
    texts: datasets.Dataset,
    place: Path,
    rate: float,
    seed: int,
    *,
    teacher: str | None = None,
) -> None:
    """Fine-tune an encoder on a task, distilling from ``teacher`` if there is one, and leave the model in ``place``."""
    set_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = headed(encoder, benchmark).to(device)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    task = task_for(type(model).__name__, model.config, tokenizer, texts, metric=benchmark.metric)
    train = task.encode(texts, task.find_columns(texts), max_length=benchmark.max_length).dataset
    if teacher is not None:
        knows = benchmark.head.from_pretrained(teacher, dtype=torch.float32).eval().to(device)
        everything = Retention.keep_all(model.config.num_hidden_layers)
        how = Fit(epochs=benchmark.epochs, learning_rate=2 * rate, seed=seed)  # it has more to learn
        retrain_(model, Teacher(knows, task), task, train, [everything], how)
        restore_(model)
        _leave(model, tokenizer, place)
        return
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingArguments(
            scratch,
            num_train_epochs=benchmark.epochs,
            learning_rate=rate,
            warmup_steps=0.06,
            per_device_train_batch_size=32,
            train_sampling_strategy="group_by_length",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=has_fast_bf16(device),
            use_cpu=device == "cpu",
            seed=seed,
        )
        callbacks = [LittleMemory()]
        _Trainer(
            model, settings, train_dataset=train, data_collator=task.collate, callbacks=callbacks, task=task
        ).train()
    _leave(model, tokenizer, place)


def _leave(model: Any, tokenizer: Any, place: Path) -> None:
    part = place.with_name(f"{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(place)


def _keep(place: Path, part: str) -> list[float]:
    if not place.exists():
        raise SystemExit(f"{place} isn't there yet: run --part {part} first.")
    return list(json.loads(place.read_text())["retention"]["keep"])


def decide_(model: Any, selector: Selector) -> None:
    """Let something else than attention decide which word vectors stay, in whatever encoder is put in a model."""

    def tell(base: Any, inputs: Any) -> None:
        encoder = getattr(base, family_of(base).encoder)
        if isinstance(encoder, EliminatingEncoder):
            encoder.selector = selector

    model.base_model.register_forward_pre_hook(tell)


def by_chance(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scaling: float) -> torch.Tensor:
    """Random significance, the same for the same word vector whatever else is in the batch."""
    return (query.float().sum((1, 3)) * 12.9898).sin() * 43758.5453 % 1


def by_place(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scaling: float) -> torch.Tensor:
    """The earlier in the text, the more significant."""
    places = torch.arange(key.shape[2], device=key.device, dtype=torch.float32)
    return (1 / (1 + places)).expand(key.shape[0], -1)


SELECTORS = {"random": by_chance, "first": by_place}


if __name__ == "__main__":
    main()
