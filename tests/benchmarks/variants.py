"""What decides which word vectors stay, and what becomes of the rest: variants tried on a plain BERT encoder.

    python tests/benchmarks/variants.py mrpc --model minilm-l6 --data data/mrpc --variant column --variant "column first"

Fine-tunes the encoder (kept in --cache), finds with the calibrated search the schedule of each --speed (a ratio of
FLOPs), and measures each variant at that schedule before and after the same retraining. A variant is a set of words:

    column   attention received, summed over heads and rows (the paper's)     first     the first row's attention
    value    each head's share weighted by the norm of its value              output    ... of its projected value
    package  dropped rows go on as one row, their mean weighted by significance
    mass     each text keeps the fewest rows that hold a share of the significance, on average as many as the schedule
    still    retraining without dropout              frozen   ... with the word embeddings as they are
    layers   retraining also pulls the rows kept by each layer to the dense model's

Several of the first line are normalised and added. Results are appended to --results, one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from glue import TASKS, _sets, fine_tune
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import wordelim
from wordelim.data.split import carve
from wordelim.elimination.keep import highest
from wordelim.evaluation.inference import logits_of
from wordelim.search.method import METHODS, Context
from wordelim.system.machine import has_fast_bf16
from wordelim.tasks import task_for
from wordelim.tasks.divergence import divergence
from wordelim.training.distillation import DistillationTrainer
from wordelim.training.fit import Fit, fit

SCORES = ("column", "first", "value", "output")


class Encoder(nn.Module):
    """A BERT encoder that drops word vectors, padded; its layers are shared with the dense one.

    Args:
        layers: of the dense encoder.
        variant: see above.
        keep: the fraction of its tokens that leave each layer.
    """

    def __init__(self, layers: nn.ModuleList, variant: frozenset[str], keep: tuple[float, ...]) -> None:
        super().__init__()
        self.layer, self.variant, self.keep = layers, variant, keep
        self.tau: list[float] | None = None  # of "mass", by layer
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []  # of each layer: states, where they stood, which are real
        self.counted: list[tuple[Tensor, list[Tensor]]] | None = None
        self.train(layers.training)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        x, variant = hidden_states, self.variant
        batch, width = x.shape[:2]
        real = torch.ones(batch, width, dtype=torch.bool) if attention_mask is None else _real(attention_mask)
        lengths = real.sum(1)
        where = torch.arange(width).expand(batch, -1)
        package = torch.zeros(batch, width, dtype=torch.bool)
        self.kept, path = [], []
        for index, layer in enumerate(self.layer):
            attention = layer.attention
            q, k, v = (
                _heads(module(x), attention.self)
                for module in (attention.self.query, attention.self.key, attention.self.value)
            )
            scores = q @ k.transpose(-1, -2) * attention.self.scaling
            probabilities = scores.masked_fill(~real[:, None, None], float("-inf")).softmax(-1, dtype=torch.float32)
            last = index == len(self.layer) - 1
            if last:
                rows, alive = torch.zeros(batch, 1, dtype=torch.long), torch.ones(batch, 1, dtype=torch.bool)
            else:
                with torch.no_grad():
                    significance = self._significance(probabilities, v, real, attention)
                limit = self._limit(index, significance, lengths, real)
                most = int(limit.max()) + ("package" in variant)
                if "package" in variant:  # it stays whatever its significance, beyond the count
                    limit = limit + package.any(1)
                    most = min(int(limit.max()), x.shape[1])
                rows, alive = highest(
                    significance, most, 1, limit=limit.clamp(max=real.sum(1)), mask=real, protected=package
                )
            states = attention.self.dropout if hasattr(attention.self, "dropout") else None
            p = probabilities.to(v.dtype)
            p = functional.dropout(p, states.p, self.training) if states is not None else p
            if "package" in variant and not last and bool((~_taken(rows, alive, x.shape[1]) & real).any()):
                stays = _taken(rows, alive, x.shape[1]) & ~package
                weight = torch.where(real & ~stays, significance, 0.0)
                weight = torch.where(package, weight.clamp(min=1e-6), weight)
                total = weight.sum(1, keepdim=True)
                has = total[:, 0] > 0
                weight = (weight / total.clamp(min=1e-9)).to(x.dtype)
                packed = weight[:, None] @ x
                pc = weight[:, None] @ _merge(p @ v)
                # The kept rows without the old package, then the new one behind them.
                old = package.gather(1, rows) & alive
                order = (~alive | old).long().sort(dim=1, stable=True).indices
                rows, alive = rows.gather(1, order), (alive & ~old).gather(1, order)
                longest = int(alive.sum(1).max())
                rows, alive = rows[:, :longest], alive[:, :longest]
                context = _merge(p.gather(2, rows[:, None, :, None].expand(-1, p.shape[1], -1, p.shape[3])) @ v)
                context = torch.cat([context, pc], 1)
                residual = torch.cat([_rows(x, rows), packed], 1)
                where = torch.cat([where.gather(1, rows), torch.zeros(batch, 1, dtype=torch.long)], 1)
                real = torch.cat([alive, has[:, None]], 1)
                package = torch.cat([torch.zeros_like(alive), has[:, None]], 1)
            else:
                context = _merge(p.gather(2, rows[:, None, :, None].expand(-1, p.shape[1], -1, p.shape[3])) @ v)
                residual, where = _rows(x, rows), where.gather(1, rows)
                real = alive if alive is not None else torch.ones_like(rows, dtype=torch.bool)
                package = package.gather(1, rows) & real
            x = attention.output(context, residual)
            x = layer.output(layer.intermediate(x), x)
            path.append(real.sum(1))
            self.kept.append((x, where, real & ~package))
        if self.counted is not None:
            self.counted.append((lengths, path))
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=x)

    def _significance(self, p: Tensor, v: Tensor, real: Tensor, attention: Any) -> Tensor:
        votes = p * real[:, None, :, None]
        found: Any = 0.0
        column = votes.sum(2)  # [batch, heads, tokens]
        if "column" in self.variant:
            found = found + _share(column.sum(1))
        if "first" in self.variant:
            found = found + _share(p[:, :, 0].sum(1))
        if "value" in self.variant:
            found = found + _share((column * v.float().norm(dim=-1)).sum(1))
        if "output" in self.variant:
            weight = attention.output.dense.weight  # [width, width]
            by_head = weight.view(weight.shape[0], v.shape[1], -1).permute(1, 2, 0)
            found = found + _share((column * (v.float() @ by_head.float()).norm(dim=-1)).sum(1))
        return found.masked_fill(~real, 0.0)

    def _limit(self, index: int, significance: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
        wanted = (self.keep[index] * lengths - 1e-6).ceil().clamp(min=1).long()
        if self.tau is None:
            return torch.minimum(wanted, real.sum(1))
        share = significance.sort(1, descending=True).values.cumsum(1) / significance.sum(1, keepdim=True)
        need = (share < self.tau[index] - 1e-6).sum(1) + 1
        low, high = (0.5 * wanted).ceil().long().clamp(min=1), (1.5 * wanted).ceil().long()
        return torch.minimum(need.clamp(low, high), real.sum(1))


def _real(mask: Tensor) -> Tensor:
    row = mask[:, 0, 0]
    return row if row.dtype == torch.bool else row > -1


def _heads(x: Tensor, of: Any) -> Tensor:
    return x.unflatten(2, (-1, of.attention_head_size)).transpose(1, 2)


def _merge(context: Tensor) -> Tensor:
    return context.transpose(1, 2).flatten(2)


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    return x.gather(1, rows[..., None].expand(-1, -1, x.shape[2]))


def _share(values: Tensor) -> Tensor:
    return values / values.sum(1, keepdim=True)


def _taken(rows: Tensor, alive: Tensor | None, width: int) -> Tensor:
    alive = torch.ones_like(rows, dtype=torch.bool) if alive is None else alive
    return torch.zeros(rows.shape[0], width + 1, dtype=torch.bool).scatter_(1, torch.where(alive, rows, width), True)[
        :, :width
    ]


class LayersTrainer(DistillationTrainer):
    """Also pulls the rows that each layer keeps to what the dense model's layer makes of them."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any) -> Any:
        states: list[Tensor] = []
        hooks = [
            layer.register_forward_hook(
                lambda module, args, output: states.append(output if isinstance(output, Tensor) else output[0])
            )
            for layer in self.teacher.base_model.encoder.layer
        ]
        try:
            loss = super().compute_loss(model, inputs, return_outputs, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()
        total = 0.0
        for (mine, where, real), theirs in zip(self.compressed.base_model.encoder.kept[:-1], states[:-1], strict=True):
            aim = _rows(theirs, where).float()[real]
            total = total + functional.mse_loss(mine.float()[real], aim) / aim.pow(2).mean()
        return loss + total / (len(states) - 1)


def main() -> None:
    """Run the variants that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--variant", action="append", required=True)
    parser.add_argument("--speed", type=float, action="append", required=True)
    parser.add_argument("--train", type=int)
    parser.add_argument("--fine-tune-epochs", type=float)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dense", type=Path)
    parser.add_argument("--screen", action="store_true", help="before retraining alone, on training texts left out")
    parser.add_argument("--results", type=Path, required=True)
    a = parser.parse_args()
    benchmark = TASKS[a.task]
    sets = _sets(a.task, a.data)
    if a.train and a.train < len(sets["train"]):
        _, sets["train"] = carve(sets["train"], a.train, seed=0)
    if len(sets["test"]) > a.test:
        _, sets["test"] = carve(sets["test"], a.test, seed=0)
    dense = a.dense
    if not dense.exists():
        fine_tune(a.model, replace(benchmark, epochs=a.fine_tune_epochs), sets["train"], dense, 5e-5, a.seed)
    tokenizer = AutoTokenizer.from_pretrained(dense)

    def load() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(dense, dtype=torch.float32).eval()

    teacher = load().requires_grad_(False)
    task = task_for(type(teacher).__name__, teacher.config, tokenizer, sets["train"], metric=benchmark.metric)
    metric = task.metric(benchmark.metric)
    encoded = {
        n: task.encode(s, task.find_columns(s), max_length=benchmark.max_length).dataset for n, s in sets.items()
    }
    bf16 = has_fast_bf16("cpu")
    sample = encoded["train"].select(np.random.default_rng(a.seed).permutation(len(encoded["train"]))[:512].tolist())
    model = load()
    context = Context.of(model, task, sample, speeds=sorted(a.speed))
    found = METHODS.make("calibrated", wordelim.Settings())(context).candidates
    said = {n: logits_of(teacher, encoded[n], task, bf16=bf16) for n in ("validation", "test")}
    for speed in a.speed:
        keep = next(c.retention.keep for c in found if c.flops_ratio >= speed * 0.99)
        for words in a.variant:
            variant = frozenset(words.split())
            model = load()
            even = evened(keep, encoded["test"]["length"][:2000], context.flops) if "package" in variant else keep
            model.base_model.encoder = Encoder(model.base_model.encoder.layer, variant, even)
            if "still" in variant:
                for module in model.modules():
                    module.p = 0.0 if isinstance(module, nn.Dropout) else getattr(module, "p", None)
            if "frozen" in variant:
                model.base_model.embeddings.word_embeddings.requires_grad_(False)
            if "mass" in variant:
                calibrate(model, task, sample, bf16)
            start = time.process_time()
            row = {
                "task": benchmark.name,
                "seed": a.seed,
                "speed": speed,
                "variant": words,
                "keep": keep,
                "epochs": a.epochs,
                "rate": a.rate,
            }
            row["before"] = judge(model, task, metric, encoded, said, bf16)
            if not a.screen:
                trainer = LayersTrainer if "layers" in variant else DistillationTrainer
                fit(
                    partial(trainer, teacher=teacher, retentions=(), temperature=2.0),
                    model,
                    task,
                    encoded["train"],
                    Fit(epochs=a.epochs, learning_rate=a.rate, seed=a.seed),
                )
                row["after"] = judge(model, task, metric, encoded, said, bf16)
            row["ratio"] = ratio(model, task, encoded["test"], context.flops)
            row["cpu"] = round(time.process_time() - start)
            with a.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print({n: v for n, v in row.items() if n != "keep"}, flush=True)


def evened(keep: tuple[float, ...], lengths: list[int], flops: Any) -> tuple[float, ...]:
    """Fractions, raised to one power, at which a package more a layer costs no more FLOPs."""
    n = torch.tensor(lengths, dtype=torch.float64)

    def spent(power: float, package: int) -> float:
        left, path = n, []
        for fraction in keep[:-1]:
            wanted = (fraction**power * n - 1e-6).ceil().clamp(min=1)
            path.append(torch.minimum(torch.where(wanted < n, wanted + package, wanted), left))
            left = path[-1]
        return float(flops.total(n, [*path, torch.ones_like(n)]).sum())

    low, high = 1.0, 4.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle, 1) > spent(1.0, 0) else (low, middle)
    return tuple(round(fraction**high, 4) for fraction in keep)


def judge(model: Any, task: Any, metric: Any, encoded: Any, said: Any, bf16: bool) -> dict[str, Any]:
    """Points lost on validation and test, and how far the logits are from the dense ones."""
    out = {}
    for name in ("validation", "test"):
        logits = logits_of(model, encoded[name], task, bf16=bf16)
        mine, theirs = (task.points(metric, each, encoded[name]) for each in (logits, said[name]))
        out[name] = {"drop": round(theirs - mine, 3), "far": round(float(divergence(said[name], logits, task.kind)), 5)}
    return out


@torch.no_grad()
def calibrate(model: Any, task: Any, sample: datasets.Dataset, bf16: bool) -> None:
    """Find the shares at which texts keep on average as many rows as by fractions, layer by layer."""
    encoder = model.base_model.encoder
    encoder.tau = []
    few = sample.select(range(min(256, len(sample))))
    for index in range(len(encoder.keep) - 1):
        low, high = 0.0, 1.0
        for _ in range(9):
            middle = (low + high) / 2
            encoder.tau = [*encoder.tau[:index], middle, *[1.1] * (len(encoder.keep) - index - 1)]
            encoder.counted = []
            logits_of(model, few, task, bf16=bf16)
            wanted = sum(float((encoder.keep[index] * n - 1e-6).ceil().sum()) for n, _ in encoder.counted)
            got = sum(float(path[index].sum()) for _, path in encoder.counted)
            low, high = (middle, high) if got < wanted else (low, middle)
        encoder.tau = [*encoder.tau[:index], (low + high) / 2, *[1.1] * (len(encoder.keep) - index - 1)]
    encoder.counted = None


@torch.no_grad()
def ratio(model: Any, task: Any, texts: datasets.Dataset, flops: Any) -> float:
    """FLOPs of the dense encoder over those of this one, the package among them."""
    encoder = model.base_model.encoder
    encoder.counted = []
    logits_of(model, texts.select(range(min(500, len(texts)))), task)
    spent = whole = 0.0
    for lengths, path in encoder.counted:
        n = lengths.double()
        whole += float(flops.total(n, [n] * flops.layers).sum())
        spent += float(flops.total(n, [*(p.double() for p in path[:-1]), torch.ones_like(n)]).sum())
    encoder.counted = None
    return round(whole / spent, 3)


if __name__ == "__main__":
    main()
