"""What else could decide which word vectors stay, and what could become of the rest, on a plain BERT encoder.

    python tests/benchmarks/variants.py mrpc --model minilm-l6 --data data/mrpc --speed 2.5 --variant column \\
        --variant "column package"

Fine-tunes the encoder (kept in --cache), or takes one that is (--dense), finds the schedule of a speed (a ratio of
FLOPs) with the calibrated search, and measures each variant at it before and after the same retraining. A variant is a
set of words:

    column   attention received, summed over heads and rows (the paper's)
    first    the first row's attention
    value    attention received, each head's weighted by the size of what it would pass on
    output   the same behind the output projection
    learned  a linear map of each row that enters the layer, trained to rank rows as gradient times input of what leaves
             the layer ranks them in the dense model
    mass     the count depends on the text: a layer keeps the fewest rows that hold a share of the significance, between
             half and twice what the schedule keeps; the share is such that it keeps as many on the mean over texts
    package  dropped rows go on as one row, their mean weighted by significance; the schedule keeps so much less that
             the FLOPs on test texts are the same

    embeddings  the input embeddings are retrained too
    dropout     there is dropout while retraining

Several of the first five are normalised and added. Prints a line of JSON a variant: points lost with their 95 %
interval, and how far the logits are from the dense ones, on validation texts carved from train and on test texts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import glue
import heads
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

import wordelim
from wordelim.data.encode import INPUTS
from wordelim.data.split import carve
from wordelim.elimination.keep import highest, shares_of
from wordelim.elimination.padded import Packaged
from wordelim.elimination.rows import gather
from wordelim.evaluation.inference import logits_of
from wordelim.evaluation.statistics import paired_bootstrap
from wordelim.search.method import METHODS, Context
from wordelim.system.machine import has_fast_bf16
from wordelim.tasks import task_for
from wordelim.tasks.divergence import divergence
from wordelim.training.distillation import DistillationTrainer
from wordelim.training.fit import Fit, fit
from wordelim.training.teacher import Teacher

TASKS = {**glue.TASKS, "trecqa": heads.TASKS["trecqa"]}


class Encoder(nn.Module):
    """A BERT encoder that drops word vectors, padded; its layers are shared with the dense one.

    Args:
        layers: of the dense encoder.
        variant: the words above.
        keep: the fraction of its tokens that leave each layer.
        maps: of "learned", [layers, width].
    """

    def __init__(
        self, layers: nn.ModuleList, variant: frozenset[str], keep: tuple[float, ...], maps: Tensor | None = None
    ) -> None:
        super().__init__()
        self.layer, self.variant, self.keep, self.maps = layers, variant, keep, maps
        self.shares: list[float] = []  # of "mass", of each layer that was measured
        self.held: list[tuple[Tensor, Tensor]] = []  # what each text's rows hold at the next, from high to low
        self.train(layers.training)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        x, package = hidden_states, False
        batch, width = x.shape[:2]
        real = torch.ones(batch, width, dtype=torch.bool)
        if attention_mask is not None:
            row = attention_mask[:, 0, 0]
            real = row if row.dtype == torch.bool else row > -1
        lengths = real.sum(1)
        for index, layer in enumerate(self.layer):
            own = layer.attention.self
            query, key, value = (_heads(module(x), own) for module in (own.query, own.key, own.value))
            scores = query @ key.transpose(-1, -2) * own.scaling
            p = scores.masked_fill(~real[:, None, None], float("-inf")).softmax(-1, dtype=torch.float32)
            dropped = functional.dropout(p.to(value.dtype), own.dropout.p, self.training)
            context = (dropped @ value).transpose(1, 2).flatten(2)
            kept: Any = torch.zeros(batch, 1, dtype=torch.long)
            alive, some = torch.ones(batch, 1, dtype=torch.bool), None
            if index < len(self.layer) - 1:
                with torch.no_grad():
                    significance = self._significance(p, value, real, layer.attention, x, index)
                left = torch.minimum((self.keep[index] * lengths - 1e-6).ceil().clamp(min=1).long(), lengths)
                text = slice(None, -1) if package else slice(None)
                if "mass" in self.variant:
                    left = self._by_mass(significance[:, text], left, real[:, text].sum(1), index, lengths)
                rows, alive = highest(significance[:, text], int(left.max()), 1, limit=left, mask=real[:, text])
                kept, some = rows, left < lengths
                if "package" in self.variant:
                    kept = Packaged(rows, shares_of(significance, rows, alive, real))
            x = layer.attention.output(gather(context, kept), gather(x, kept))
            x = layer.output(layer.intermediate(x), x)
            package = isinstance(kept, Packaged)
            real = torch.cat([alive, some[:, None]], 1) if package and some is not None else alive
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=x)

    def _by_mass(self, significance: Tensor, left: Tensor, alive: Tensor, index: int, lengths: Tensor) -> Tensor:
        held = significance.sort(1, descending=True).values.cumsum(1)
        held = held / held[:, -1:]
        if index == len(self.shares) and not self.training:
            self.held.append((held, torch.stack([left, alive, lengths], 1)))
        if index >= len(self.shares):
            return torch.minimum(left, alive)
        return _between((held < self.shares[index]).sum(1) + 1, left, alive)

    def _significance(self, p: Tensor, value: Tensor, real: Tensor, attention: Any, x: Tensor, index: int) -> Tensor:
        column = (p * real[:, None, :, None]).sum(2)  # [batch, heads, tokens]
        found: Any = 0.0
        if self.maps is not None:
            found = found + (x.float() @ self.maps[index]).masked_fill(~real, float("-inf")).softmax(1)
        if "column" in self.variant:
            found = found + _share(column.sum(1))
        if "first" in self.variant:
            found = found + _share(p[:, :, 0].sum(1))
        if "value" in self.variant:
            found = found + _share((column * value.float().norm(dim=-1)).sum(1))
        if "output" in self.variant:
            weight = attention.output.dense.weight.float()
            by_head = weight.view(len(weight), value.shape[1], -1).permute(1, 2, 0)
            found = found + _share((column * (value.float() @ by_head).norm(dim=-1)).sum(1))
        return found.masked_fill(~real, 0.0)  # type: ignore[no-any-return]


def _between(counts: Tensor, left: Tensor, alive: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(torch.minimum(counts, 2 * left), (left + 1) // 2), alive)


def measure_shares_(encoder: Encoder, ask: Callable[[], Any]) -> None:
    """Find the shares of "mass", layer by layer, on texts that ``ask`` sends through the model."""
    for _ in encoder.layer[:-1]:
        encoder.held.clear()
        ask()
        low, high = 0.0, 1.0
        for _ in range(20):
            share = (low + high) / 2
            kept = sum(float(_between((held < share).sum(1) + 1, *n.T[:2]).sum()) for held, n in encoder.held)
            wanted = sum(float(n[:, 0].sum()) for _, n in encoder.held)
            low, high = (share, high) if kept < wanted else (low, share)
        encoder.shares.append(high)
    encoder.held.clear()


def learned_maps(model: Any, batches: Iterable[dict[str, Tensor]], steps: int = 300) -> Tensor:
    """The maps of "learned", [layers, width], from the dense model's gradient times input on some texts."""
    layers = model.base_model.encoder.layer
    rows: list[list[tuple[Tensor, Tensor]]] = [[] for _ in layers]
    for batch in batches:
        outputs = model(**batch, output_hidden_states=True)
        logits, states = outputs.logits.float(), outputs.hidden_states
        grads = torch.autograd.grad(logits.gather(1, logits.abs().argmax(1, keepdim=True)).sum(), states[1:])
        for layer, (entered, left, grad) in enumerate(zip(states[:-1], states[1:], grads, strict=True)):
            worth = (left * grad).sum(-1).abs().masked_fill(batch["attention_mask"] == 0, -1.0)
            rows[layer].append((entered.detach().float(), worth.detach().float()))
    maps = []
    for seen in rows:
        weight = torch.zeros(seen[0][0].shape[-1], requires_grad=True)
        optimizer = torch.optim.AdamW([weight], lr=0.02, weight_decay=0.1)
        for step in range(steps):
            entered, worth = seen[step % len(seen)]
            score = entered @ weight
            one, two = torch.randint(worth.shape[1], (2, len(worth), 64))
            better = worth.gather(1, one) - worth.gather(1, two)
            real = (worth.gather(1, one) >= 0) & (worth.gather(1, two) >= 0)
            apart = (score.gather(1, one) - score.gather(1, two)) * better.sign()
            loss = (functional.softplus(-apart) * real).sum() / real.sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        maps.append(weight.detach())
    return torch.stack(maps)


def _heads(x: Tensor, of: Any) -> Tensor:
    return x.unflatten(2, (-1, of.attention_head_size)).transpose(1, 2)


def _share(values: Tensor) -> Tensor:
    return values / values.sum(1, keepdim=True)


def evened(keep: tuple[float, ...], lengths: list[int], flops: Any) -> tuple[float, ...]:
    """Fractions, raised to one power, at which a package more a layer costs no more FLOPs."""
    template = wordelim.Retention.keep_all(len(keep))

    def ratio(power: float, package: bool) -> float:
        fractions = tuple(fraction**power for fraction in keep)
        return float(flops.ratio(lengths, replace(template, keep=fractions, package=package)))

    low, high, goal = 1.0, 4.0, ratio(1.0, False)
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if ratio(middle, True) < goal else (low, middle)
    return tuple(round(fraction**high, 4) for fraction in keep)


def main() -> None:
    """Measure the variants that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    encoder = parser.add_mutually_exclusive_group(required=True)
    encoder.add_argument("--model", help="BERT encoder to fine-tune")
    encoder.add_argument("--dense", type=Path, help="one that is fine-tuned, so that seeds share it")
    parser.add_argument("--data", type=Path, required=True, help="folder of the task's texts")
    parser.add_argument("--variant", action="append", required=True, help="words, as above; may be repeated")
    parser.add_argument("--speed", type=float, required=True, help="FLOPs ratio")
    parser.add_argument("--train", type=int, help="use this many training texts")
    parser.add_argument("--test", type=int, help="report on this many validation and test texts")
    parser.add_argument("--fine-tune-epochs", type=float, help="the task's own unless given")
    parser.add_argument("--epochs", type=float, default=1.0, help="of retraining; 0 measures without")
    parser.add_argument("--cache", type=Path, default=Path("glue-cache"), help="where fine-tuned models are kept")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    of = glue if given.task in glue.TASKS else heads
    benchmark, sets = TASKS[given.task], of.sets_of(given.task, given.data)
    for name, texts in (("train", given.train), ("validation", given.test), ("test", given.test)):
        if texts and texts < len(sets[name]):
            _, sets[name] = carve(sets[name], texts, seed=0)
    epochs = given.fine_tune_epochs or benchmark.epochs
    dense = given.dense or given.cache / f"variants-{given.task}-{len(sets['train'])}-{epochs:g}-seed{given.seed}"
    if not dense.exists():
        glue.fine_tune(given.model, replace(benchmark, epochs=epochs), sets["train"], dense, 5e-5, given.seed)
    tokenizer, bf16 = AutoTokenizer.from_pretrained(dense), has_fast_bf16("cpu")

    def load() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(dense, dtype=torch.float32).eval()

    knows = load().requires_grad_(False)
    task = task_for(type(knows).__name__, knows.config, tokenizer, sets["train"], metric=benchmark.metric)
    teacher, metric, columns = Teacher(knows, task), task.metric(benchmark.metric), task.find_columns(sets["train"])
    encoded = {name: task.encode(rows, columns, max_length=benchmark.max_length).dataset for name, rows in sets.items()}
    drawn = np.random.default_rng(given.seed).permutation(len(encoded["train"]))[:512]
    sample = encoded["train"].select(drawn.tolist())
    context = Context.of(load(), task, sample, speeds=[given.speed])
    (found,) = METHODS.make("calibrated", wordelim.Settings())(context).candidates
    batches = [
        {
            name: value
            for name, value in task.collate([sample[row] for row in range(start, start + 32)]).items()
            if name in INPUTS
        }
        for start in range(0, len(sample), 32)
    ]
    said = {name: logits_of(knows, encoded[name], task, bf16=bf16) for name in ("validation", "test")}

    def judged(model: Any) -> dict[str, Any]:
        points = {}
        for name, theirs in said.items():
            mine = logits_of(model, encoded[name], task, bf16=bf16)
            answers = (task.answers(metric, each, encoded[name]) for each in (theirs, mine))
            lost = paired_bootstrap(metric.of_answers(), *answers, task.truth(encoded[name]), seed=given.seed)
            far = float(divergence(theirs, mine, task.kind))
            points[name] = {
                "lost": round(lost.drop, 2),
                "interval": [round(end, 2) for end in (lost.low, lost.high)],
                "far": round(far, 4),
            }
        return points

    for words in given.variant:
        variant, keep, model = frozenset(words.split()), found.retention.keep, load()
        if "package" in variant:
            keep = evened(keep, encoded["test"]["length"], context.flops)
        maps = learned_maps(load(), batches) if "learned" in variant else None
        encoder = model.base_model.encoder = Encoder(model.base_model.encoder.layer, variant, keep, maps)
        if "mass" in variant:
            measure_shares_(encoder, lambda model=model: logits_of(model, sample, task, bf16=bf16))
        line = {
            "task": benchmark.name,
            "seed": given.seed,
            "speed": given.speed,
            "variant": words,
            "before": judged(model),
        }
        if given.epochs:
            how = Fit(epochs=given.epochs, seed=given.seed)
            train = teacher.note(encoded["train"])
            begun = process_time()
            also = {word: word in variant for word in ("dropout", "embeddings")}
            fit(partial(DistillationTrainer, teacher=teacher, **also), model, task, train, how)
            line["seconds"] = round(process_time() - begun)
            line["after"] = judged(model)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
