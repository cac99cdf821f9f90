"""What `engine.py` measures with: models of given shapes, cells that are timed as often as time allows, peak memory."""

from __future__ import annotations

import copy
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    PretrainedConfig,
    PreTrainedModel,
)

import wordelim
from wordelim import Retention
from wordelim.adapters import family_of
from wordelim.data.columns import find_columns
from wordelim.data.encode import encode
from wordelim.data.read import read
from wordelim.elimination.extract import HardExtract
from wordelim.elimination.significance import received_attention, to_text
from wordelim.evaluation.timing import Batch, Forward, Workload, forward_of, interleave
from wordelim.graph.cost import cost_of
from wordelim.graph.encoder import rebuild
from wordelim.graph.splice import eliminating_encoder

RTE = tuple(count / 256 for count in (153, 125, 111, 105, 85, 80, 72, 48, 35, 27, 22, 5))
"""What the paper keeps on RTE, of 256 tokens."""

_DEBERTA: dict[str, Any] = {
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 256,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_MODERN = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2, "pad_token_id": 0}
_ALBERT = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}

FAMILIES: dict[str, PretrainedConfig] = {
    "bert-base": BertConfig(),
    "mpnet-base": MPNetConfig(),
    "deberta-v3-base": DebertaV2Config(vocab_size=30000, hidden_size=768, intermediate_size=3072, **_DEBERTA),
    "modernbert-12": ModernBertConfig(vocab_size=30000, num_hidden_layers=12, **_MODERN),
    "albert-base": AlbertConfig(num_hidden_layers=12, **_ALBERT),
    "distilbert": DistilBertConfig(),
}
"""Base-size shapes. ModernBERT has twelve of its 22 layers; two have a smaller vocabulary, which takes no time."""

SHAPES: dict[str, PretrainedConfig] = {
    **FAMILIES,
    "bert-large": BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
    "minilm-l6": BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536),
    "tiny": BertConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64),
}


@dataclass(frozen=True)
class Mix:
    """Real texts: their file, the length at which they are cut, the paper's fixed length, batches to time."""

    file: str
    length: int
    fixed: int
    batches: int

    def encoded(self, folder: Path, tokenizer: Any, config: Any, length: int) -> datasets.Dataset:
        """2,000 random texts as tokens, cut at ``length``."""
        texts = read(folder / self.file)
        texts = texts.select(np.random.default_rng(0).permutation(len(texts))[:2000])
        columns = find_columns(texts.remove_columns("label"), need_label=False)
        return encode(texts, tokenizer, columns, config, max_length=length).dataset


MIXES = {
    "sst2": Mix("sst2/dev.jsonl", 64, 64, 2),
    "mrpc": Mix("mrpc/dev.jsonl", 128, 128, 1),
    "imdb": Mix("imdb/test.jsonl.gz", 256, 512, 1),
}


@dataclass
class Cells:
    """Times cells on one device, each as often as fits into ``seconds``; none whose round takes over ``longest``."""

    device: torch.device
    seconds: float
    longest: float
    speed: dict[str, float] = field(default_factory=dict)

    def rounds(self, flops: float, dtype: str) -> int:
        """How often to time runs of ``flops`` in all; 0 for not at all. At least 3 times, at most 15."""
        if dtype not in self.speed:
            self.speed[dtype] = _speed(self.device, dtype)
        estimate = flops / self.speed[dtype]
        return 0 if estimate > self.longest else max(3, min(15, int(self.seconds / estimate) - 1))

    def retention(self, layers: int, keep: float | Sequence[float]) -> Retention:
        """The same fraction in each layer, or given ones stretched over the layers."""
        if isinstance(keep, float):
            return Retention.fractions([keep] * layers)
        return Retention.fractions([keep[layer * len(keep) // layers] for layer in range(layers)])

    def rewritten(self, dense: PreTrainedModel, retention: Retention) -> PreTrainedModel:
        """A rewritten model that shares the dense one's weights."""
        shared = {id(parameter): parameter for parameter in dense.parameters()}
        model = copy.deepcopy(dense, shared)  # type: ignore[arg-type]
        wordelim.eliminate_(model, retention)
        if retention.restore:  # which this head doesn't ask for: the last layer stays whole
            encoder, base = eliminating_encoder(model), model.base_model
            options = (model.config, family_of(model), encoder.implementation, retention)
            base.encoder = rebuild(False, "auto", received_attention, encoder.dense, *options)
        return model

    def models(self, shape: str, dtype: str, keep: Mapping[str, float | Sequence[float]]) -> dict[str, PreTrainedModel]:
        """A dense model with random weights, and rewritten ones that share them.

        ``uncut`` has a whole last layer, and of ``mapped`` linear maps decide and what is dropped goes on as a package.
        """
        torch.manual_seed(0)
        config = copy.deepcopy(SHAPES[shape])
        dense = AutoModelForSequenceClassification.from_config(config).to(self.device, getattr(torch, dtype)).eval()
        models = {"dense": dense}
        for name, kept in keep.items():
            retention = self.retention(config.num_hidden_layers, kept)
            if name == "uncut":
                retention = replace(retention, restore=True)
            if name == "mapped":
                maps = tuple(to_text(torch.randn(config.hidden_size)) for _ in retention.keep)
                retention = replace(retention, significance=maps, package=True)
            models[name] = self.rewritten(dense, retention)
        return models

    def even(self, models: Mapping[str, PreTrainedModel], batch: int, tokens: int) -> dict[str, Any]:
        """Time every model on one batch of random texts of equal length."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(1000, 20000, (batch, tokens), generator=generator).to(self.device)
        given = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}]
        return self._time(models, dict.fromkeys(models, given), [tokens] * batch, [tokens] * batch)

    def dynamic(self, models: Mapping[str, PreTrainedModel], work: Workload) -> dict[str, Any]:
        """Time every model on the same padded batches of real texts, and see that all say the same."""
        widths = [width for batch in work.dynamic for width in [batch["input_ids"].shape[1]] * len(batch["input_ids"])]
        found = self._time(models, dict.fromkeys(models, work.dynamic), widths, work.lengths)
        with torch.inference_mode():
            logits = {name: model(**work.dynamic[0]).logits for name, model in models.items()}
        difference = max(float((logits[name] - logits["dense"]).abs().max()) for name in models)
        return {
            **found,
            "texts": len(work.lengths),
            "padding": sum(widths) / sum(work.lengths),
            "difference": difference,
        }

    def steps(self, models: Mapping[str, PreTrainedModel], batches: Sequence[Batch]) -> dict[str, Any]:
        """Time forward and backward of every model in training on the same batches, against the one named padded."""
        real = sum(int(batch["attention_mask"].sum()) for batch in batches)
        cost = cost_of(models["padded"])
        lengths = [int(length) for batch in batches for length in batch["attention_mask"].sum(1)]
        flops = 3 * len(models) * cost.spent(lengths, wordelim.retention_of(models["padded"]))
        rounds = self.rounds(flops, "float32") or 1
        taken = interleave({name: (_step_of(model), batches) for name, model in models.items()}, rounds)
        seconds = {name: each.sum(1) for name, each in taken.items()}
        return {
            "padding": sum(batch["input_ids"].numel() for batch in batches) / real,
            "rounds": rounds,
            "milliseconds": {name: float(1000 * np.median(each)) for name, each in seconds.items()},
            "speedup": float(np.median(seconds["padded"] / seconds["packed"])),
        }

    def _time(
        self,
        models: Mapping[str, PreTrainedModel],
        batches: Mapping[str, Sequence[Batch]],
        widths: Sequence[int],
        lengths: Sequence[int],
    ) -> dict[str, Any]:
        """Milliseconds of each, its speed-up over ``dense``, the FLOPs ratio; ``rounds`` 0 where it takes too long."""
        dense, costs = models["dense"], {name: cost_of(model) for name, model in models.items() if name != "dense"}
        padded = next(iter(costs.values())).spent(widths)
        flops = {name: cost.spent(lengths, wordelim.retention_of(models[name])) for name, cost in costs.items()}
        rounds = self.rounds(padded + sum(flops.values()), str(dense.dtype).removeprefix("torch."))
        result: dict[str, Any] = {"rounds": rounds, "flops_ratio": {n: padded / f for n, f in flops.items()}}
        if rounds:
            runs = {name: (forward_of(model), batches[name]) for name, model in models.items()}
            seconds = {name: taken.sum(1) for name, taken in interleave(runs, rounds).items()}
            result["milliseconds"] = {name: float(1000 * np.median(taken)) for name, taken in seconds.items()}
            result["speedup"] = {name: float(np.median(seconds["dense"] / seconds[name])) for name in flops}
        return result


def _step_of(model: PreTrainedModel) -> Forward:
    def step(batch: Batch) -> None:
        labels = torch.zeros(len(batch["input_ids"]), dtype=torch.long)
        model(**batch, labels=labels).loss.backward()
        model.zero_grad()

    return step


def _speed(device: torch.device, dtype: str) -> float:
    """FLOPs a second of a linear module as in BERT-base."""
    rows, weight = (torch.randn(shape, device=device).to(getattr(torch, dtype)) for shape in ((256, 768), (3072, 768)))
    times = []
    for _ in range(4):
        start = time.perf_counter()
        torch.nn.functional.linear(rows, weight)[0, 0].item()
        times.append(time.perf_counter() - start)
    return 2 * 256 * 768 * 3072 / min(times)


def peak_memory(shape: str, batch: int, tokens: int, keep: float, device: str) -> dict[str, float]:
    """Megabytes of one attention in a process of its own: ``inputs`` (query, key, value), and ``more`` at its peak."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_memory, shape, batch, tokens, keep, device).result()


def _peak_memory(shape: str, batch: int, tokens: int, keep: float, device: str) -> dict[str, float]:
    config = copy.deepcopy(SHAPES[shape])
    config.num_hidden_layers = 2
    dense = AutoModelForSequenceClassification.from_config(config).to(device).eval()
    model = wordelim.eliminate_(dense, Retention.fractions([keep, keep]))
    attention = next(module for module in model.modules() if isinstance(module, HardExtract))
    seen: dict[str, float] = {}

    def before(module: Any, given: Any) -> None:
        seen["inputs"] = sum(tensor.numel() * tensor.element_size() for tensor in given[:3]) / 1e6
        seen["before"] = _memory(device, reset=True)

    def after(module: Any, given: Any, output: Any) -> None:
        seen["more"] = _memory(device) - seen.pop("before")

    attention.register_forward_pre_hook(before)
    attention.register_forward_hook(after)
    ids = torch.randint(1000, 20000, (batch, tokens), device=device)
    with torch.inference_mode():
        for _ in range(2):  # the first call pays for threads and buffers that stay
            model(input_ids=ids)
    return {name: round(value, 1) for name, value in seen.items()}


def _memory(device: str, *, reset: bool = False) -> float:
    """Peak memory in megabytes since the last reset, and after one what is in use now."""
    if torch.device(device).type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 1e6
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
