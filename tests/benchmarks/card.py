"""What `engine.py --part gpu` measures on a card: parity with the CPU, speed against the fastest dense rivals, kernels.

Rivals: the dense model called as it is, and replayed from a CUDA graph; where texts differ in length also the
rewritten model that drops nothing, which pads nothing, from a graph. On a machine without a card the same code runs on
whatever is there, so that nothing silly fails on the first card.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from engine_cells import RTE, Cells
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

import wordelim
from wordelim.elimination.card import plain
from wordelim.elimination.card.engine import Buffers
from wordelim.elimination.card.plan import Bucket
from wordelim.elimination.kernels import triton_serves
from wordelim.elimination.significance import to_text
from wordelim.evaluation.timing import Batch, Forward, interleave
from wordelim.graph.graphed import Graphed
from wordelim.graph.splice import eliminating_encoder

__all__ = ["measure"]

Rows = list[dict[str, Any]]

# Texts, tokens of each, and by how much the compressed model is to be faster than the fastest dense one.
EVEN = ((1, 128, 0.9), (1, 512, 0.9), (8, 256, 1.3), (32, 256, 2.0), (32, 512, 2.0), (128, 256, 2.5), (128, 512, 2.5))
RAGGED = ((8, 1.3), (32, 2.0), (128, 2.5))
# Microseconds that the first layer's launches were reckoned to take for 32 texts of 256 tokens in 16 bits on an H200.
ESTIMATES = {
    "query, key, value": 47,
    "attention, scores": 34,
    "choice": 4.4,
    "taking": 5.6,
    "output": 11,
    "norm": 7.7,
    "inner": 38,
    "activation": 18,
    "outer": 36,
    "last norm": 7.7,
}
_LIMIT = 480.0  # seconds for all; cells that come later are left out, and said to be


def measure(cells: Cells, options: argparse.Namespace) -> Rows:
    """Everything, each row named by ``what``."""
    begun = time.monotonic()
    card = cells.device.type == "cuda"
    rows: Rows = []
    _noted(rows, "kernels", lambda: _kernels_are_exact(cells.device))
    texts = _texts(200 if card else 4, card)
    _noted(rows, "parity", lambda: _parity(cells, texts, options))
    for shape in options.shapes or ("bert-base", "bert-large"):
        for dtype in options.dtypes:
            models = _models(cells, shape, dtype)
            given = [(b, n, None) for b in options.batches or () for n in options.lengths or (128,)]
            for batch, tokens, goal in given or EVEN:
                name = {"what": "even", "shape": shape, "dtype": dtype, "batch": batch, "tokens": tokens}
                even = _even(cells, batch, tokens)
                given_to = (cells, name, models, [even], [tokens] * batch, goal, begun)
                _noted(rows, "even", partial(_timed, *given_to))
            for batch, goal in RAGGED if card else ((2, None),):
                name = {"what": "ragged", "shape": shape, "dtype": dtype, "batch": batch}
                made = [_padded(texts[start : start + batch], cells.device) for start in range(0, len(texts), batch)]
                lengths = [len(text) for text in texts]
                _noted(rows, "ragged", partial(_timed, cells, name, models, made, lengths, goal, begun))
            if card and shape == "bert-base" and torch.bfloat16 == getattr(torch, dtype):
                for name in ("compressed", "linear"):
                    _noted(rows, "profile", partial(_profile, cells, name, models[name]))
            del models
            if card:
                torch.cuda.empty_cache()
    rows.append({"what": "time", "seconds": round(time.monotonic() - begun, 1)})
    return rows


def _noted(rows: Rows, what: str, measured: Callable[[], Iterable[dict[str, Any]]]) -> None:
    """Add what is measured, and say it at once; what fails on a card is noted, for the rest is dear."""
    try:
        for row in measured():
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    except Exception as error:
        if not torch.cuda.is_available():
            raise
        rows.append({"what": what, "failed": f"{type(error).__name__}: {error}"[:2000]})
        print(traceback.format_exc(), file=sys.stderr, flush=True)


def _texts(number: int, card: bool) -> list[list[int]]:
    """Token ids of real texts that every installation has, up to 256 of each; random ones without a card."""
    if not card:
        draw = np.random.default_rng(0)
        return [draw.integers(1000, 20000, length).tolist() for length in draw.integers(2, 12, number)]
    from wordelim.demo import MODEL_DIR
    from wordelim.demo.corpus import load

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    return list(tokenizer(load("test")["text"][:number], truncation=True, max_length=256)["input_ids"])


def _padded(texts: Sequence[Sequence[int]], device: torch.device) -> Batch:
    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
    mask = torch.arange(width) < torch.tensor([len(text) for text in texts])[:, None]
    return {"input_ids": ids.to(device), "attention_mask": mask.long().to(device)}


def _even(cells: Cells, batch: int, tokens: int) -> Batch:
    ids = torch.randint(1000, 20000, (batch, tokens), generator=torch.Generator().manual_seed(0)).to(cells.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _models(cells: Cells, shape: str, dtype: str) -> dict[str, PreTrainedModel]:
    """Each with weights of its own: a compressed one puts its query, key and value together in memory."""
    made = cells.models(shape, dtype, {"keep-all": 1.0, "compressed": RTE})
    made = {name: copy.deepcopy(model) for name, model in made.items()}
    made["linear"] = copy.deepcopy(made["compressed"])
    _decide(made["linear"], package=True, linear=True)
    return made


def _decide(model: PreTrainedModel, *, package: bool, linear: bool) -> None:
    """Let a compressed model make packages, and random linear maps decide which word vectors stay."""
    retention, width = wordelim.retention_of(model), model.config.hidden_size
    generator = torch.Generator().manual_seed(0)
    maps = tuple(to_text(torch.randn(width, generator=generator)) for _ in retention.keep)
    significance: Any = maps if linear else "attention"
    wordelim.eliminate_(model, replace(retention, package=package, significance=significance, version=None))


def _parity(cells: Cells, texts: Sequence[Sequence[int]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """How far logits are from those of the packed layout on the CPU in fp32, of the dense model and the compressed."""
    shape = (options.shapes or ["bert-base"])[0]
    models = Cells(torch.device("cpu"), cells.seconds, cells.longest).models(shape, "float32", {"compressed": RTE})
    for package, linear in ((False, False), (True, False), (True, True)):
        _decide(models["compressed"], package=package, linear=linear)
        batches = [_padded(texts[start : start + 32], torch.device("cpu")) for start in range(0, len(texts), 32)]
        exact = {name: _logits(model, batches) for name, model in models.items()}
        scale = float(exact["compressed"].std())
        for dtype in ("float32", "float16", "bfloat16") if cells.device.type == "cuda" else ("float32",):
            row: dict[str, Any] = {"what": "parity", "texts": len(texts), "dtype": dtype}
            row |= {"package": package, "linear": linear}
            for name, model in models.items():
                there = copy.deepcopy(model).to(cells.device, getattr(torch, dtype))
                found = _logits(there, batches)
                again = _logits(there, batches)  # from graphs, where there are some
                apart = (found - exact[name]).abs()
                row[name] = {"largest": float(apart.max()) / scale, "mean": float(apart.mean()) / scale}
                row[name] |= {"same again": bool(torch.equal(found, again)), "finite": bool(found.isfinite().all())}
            yield row


@torch.inference_mode()
def _logits(model: PreTrainedModel, batches: Sequence[Batch]) -> Tensor:
    found = [model(**{name: of.to(model.device) for name, of in batch.items()}).logits for batch in batches]
    return torch.cat([logits.float().cpu() for logits in found])


def _forward(model: Any, device: torch.device) -> Forward:
    def forward(batch: Batch) -> object:
        with torch.inference_mode():
            result = model(**batch)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return result

    return forward


def _timed(
    cells: Cells,
    name: dict[str, Any],
    models: Mapping[str, PreTrainedModel],
    batches: Sequence[Batch],
    lengths: Sequence[int],
    goal: float | None,
    begun: float,
) -> Rows:
    """Milliseconds of each way, and how much faster the compressed model is than the fastest dense rival."""
    if time.monotonic() - begun > _LIMIT:
        return [{**name, "left_out": "no time was left"}]
    ways: dict[str, Any] = {"dense": models["dense"], "compressed": models["compressed"]}
    ways |= {f"{each} graphed": Graphed(model) for each, model in models.items()}
    runs = {way: (_forward(model, cells.device), batches) for way, model in ways.items()}
    interleave(runs, 1)  # the first call of a size runs launch by launch, the second is captured
    rounds = max(3, min(15, int(cells.seconds)))
    seconds = {way: taken.sum(1) for way, taken in interleave(runs, rounds).items()}
    taken = {way: float(1000 * np.median(each)) for way, each in seconds.items()}
    rivals = ["dense", "dense graphed"] + ["keep-all graphed"] * (len(set(lengths)) > 1)
    fastest = min(rivals, key=taken.__getitem__)
    ratio, linear = (
        float(np.median(seconds[fastest] / seconds[f"{each} graphed"])) for each in ("compressed", "linear")
    )
    bucket = Bucket.of(lengths[: len(batches[0]["input_ids"])])
    found: dict[str, Any] = {"rounds": rounds, "milliseconds": taken, "fastest_dense": fastest, "speedup": ratio}
    found |= {"speedup_linear": linear}
    found |= {"goal": goal, "reached": None if goal is None else ratio >= goal, "bucket": bucket._asdict()}
    return [{**name, **found}]


def _kernels_are_exact(device: torch.device) -> Iterator[dict[str, Any]]:
    """Every launch's results against plain operations in fp64."""
    if not triton_serves(torch.float32, 64):
        return
    from wordelim.elimination.card import kernels

    lengths = (512, 1, 65, 300, 64, 17, 2) if device.type == "cuda" else (20, 1)
    retention, heads = wordelim.Retention.fractions([0.6, 0.0], package=True), 2
    buffers = Buffers(retention, Bucket.of(lengths), 1, torch.float32, device, False)
    buffers.plan(lengths, None, None)
    level, after, total = *buffers.levels[:2], sum(lengths)
    generator = torch.Generator().manual_seed(0)
    for size in (32, 64, 128) if device.type == "cuda" else (32,):
        drawn = torch.randn(level.rows, 3 * heads * size, generator=generator)
        for dtype in (torch.float32, torch.float16, torch.bfloat16) if device.type == "cuda" else (torch.float32,):
            parts = drawn.to(device, dtype).chunk(3, 1)
            context, received = kernels.score(*parts, heads, size**-0.5, level)
            exact, columns = plain.score(*(part.double() for part in parts), heads, size**-0.5, level)
            index, shares, _ = kernels.choose(received, level, after, 1, True, None)
            same, expected, _ = plain.choose(columns, level, after, 1, True, None)
            assert shares is not None
            assert expected is not None
            numbers, kept = drawn[0, : heads * size].to(device), int(after.ends[-1])
            weights, exactly = kernels.weigh(parts[2], numbers, level), plain.weigh(parts[2].double(), numbers, level)
            given = (size**-0.5, parts[0], index, shares, level, after)
            own, around = kernels.attend_kept(*parts, heads, *given)
            asked, plainly = plain.attend_kept(*parts, heads, *given)
            assert around is not None
            assert plainly is not None
            made = after.ends.diff() > after.kept
            yield {
                "what": "kernels",
                "dtype": str(dtype).removeprefix("torch."),
                "head_size": size,
                "context": float((context - exact)[:total].abs().max()),
                "shares": float((shares - expected)[:total].abs().max()),
                "weights": float((weights - exactly)[:total].abs().max()),
                "kept_context": float((own - asked)[:kept].abs().max()),
                "packages": float((around - plainly)[made].abs().max()),
                "rows_that_differ": int((index != same)[:kept].sum()),
            }


def _profile(cells: Cells, name: str, model: PreTrainedModel) -> Rows:
    """Microseconds of the first layer's launches for 32 texts of 256 tokens, beside what they were reckoned to take."""
    encoder, lengths = eliminating_encoder(model), (256,) * 32
    with torch.inference_mode():
        engine = encoder.on_a_card.engine(encoder, model.dtype, cells.device, 256)
        if engine is None:
            return [{"what": "profile", "model": name, "left_out": "the engine doesn't serve this model here"}]
        width = model.config.hidden_size
        buffers = Buffers(encoder.retention, Bucket.of(lengths), width, model.dtype, cells.device, False)
        buffers.plan(lengths, None, None)
        buffers.rows.normal_()
        for _ in range(3):
            engine.launched(buffers)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(5):
                engine.launched(buffers)
            torch.cuda.synchronize()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels.sort(key=lambda event: event.time_range.start)
    each = len(kernels) // 5
    last = [(event.name[:90], event.time_range.elapsed_us()) for event in kernels[-each:]]
    whole = {"model": name, "launches": each, "microseconds": sum(taken for _, taken in last)}
    # The first layer's, in order; a product may take two launches.
    estimated = ESTIMATES if name == "compressed" else None
    return [{"what": "profile", **whole, "first_launches": last[:14], "estimated": estimated}]
