"""Time exported programs in ONNX Runtime against the dense export, interleaved, in fp32 and int8.

python tests/benchmarks/export.py --work DIR                                   # BERT-base shape, RTE's fractions
python tests/benchmarks/export.py --work DIR --model IMDB=DENSE:COMPRESSED:TEST  # real models: speed and accuracy

Programs are made under DIR once and used again, so making them and timing them can be two runs (--make-only).
Results go to --results as export.json, which render.py shows.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from results import RESULTS

RTE = (153, 125, 111, 105, 85, 80, 72, 48, 35, 27, 22, 5)
SHAPES = ((1, 256), (8, 256))
ROUNDS = 9
KINDS = ("dense-fp32", "dense-int8", "compressed-fp32", "compressed-int8")


def main() -> None:
    """Make what is missing, time it, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DENSE:COMPRESSED:DATA")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--examples", type=int, default=1000, help="texts of DATA on which accuracy is measured")
    parser.add_argument("--note", default="", help="what to say of the models of --model in the docs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--make-only", action="store_true")
    options = parser.parse_args()
    if not options.model and not (options.work / "shape" / "compressed-int8.onnx").exists():
        _make_shape(options.work / "shape")
    for given in options.model:
        _make_real(options.work / given.partition("=")[0], *given.partition("=")[2].split(":")[:2])
    if options.make_only:
        return
    path = options.results / "export.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "torch", "transformers"))
    processor = Path("/proc/cpuinfo")  # on Linux alone
    vnni = " with instructions for int8 (VNNI)" if processor.exists() and "vnni" in processor.read_text() else ""
    about = f"ONNX Runtime on a CPU{vnni}, {options.threads} threads, {ROUNDS} rounds, medians; {versions}."
    if options.model:
        for given in options.model:
            name, _, paths = given.partition("=")
            dense, _, data = paths.split(":")
            row = _real(options.work / name, dense, data, options.threads, options.examples)
            result.setdefault("real", {})[name] = {"about": about, "note": options.note, **row}
    else:
        result["shape"] = {
            "about": f"BERT-base shape, random weights, RTE's fractions ({', '.join(map(str, RTE))} of 256). {about}",
            "rows": [_timed(options.work / "shape", batch, tokens, options.threads) for batch, tokens in SHAPES],
        }
    options.results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def _make_shape(place: Path) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    import wordelim

    torch.manual_seed(0)
    dense = BertForSequenceClassification(BertConfig()).eval()
    compressed = wordelim.eliminate_(copy.deepcopy(dense), wordelim.Retention.fractions([n / 256 for n in RTE]))
    _make(place, dense, compressed)


def _make_real(place: Path, dense_dir: str, compressed_dir: str) -> None:
    if (place / "compressed-int8.onnx").exists():
        return
    import torch

    from wordelim.checkpoint.directory import load, load_dense

    _make(place, load_dense(dense_dir, dtype=torch.float32), load(compressed_dir, dtype=torch.float32))


def _make(place: Path, dense: Any, compressed: Any) -> None:
    import torch

    from wordelim.exporting.formats import FORMATS
    from wordelim.exporting.program import quantize_onnx, write_program

    form = FORMATS["onnx"]
    ids = torch.randint(5, 1000, (2, 64))
    sample = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    place.mkdir(parents=True, exist_ok=True)
    for name, model in (("dense", dense.eval()), ("compressed", compressed.eval())):
        start = time.perf_counter()
        write_program(model, sample, place, form)
        (place / form.program).rename(place / f"{name}-fp32.onnx")
        shutil.copy(place / f"{name}-fp32.onnx", place / f"{name}-int8.onnx")
        quantize_onnx(place / f"{name}-int8.onnx")
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


def _sessions(place: Path, threads: int) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Else the threads of the program before go on spinning beside the one that is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return {kind: onnxruntime.InferenceSession(place / f"{kind}.onnx", options) for kind in KINDS}


def _timed(place: Path, batch: int, tokens: int, threads: int) -> dict[str, Any]:
    """Milliseconds of each program on one batch without padding, and the ratios that are asked about."""
    ids = np.random.default_rng(0).integers(5, 1000, (batch, tokens))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {"batch": batch, "tokens": tokens, **_ratios(_sessions(place, threads), [inputs])}


def _ratios(sessions: dict[str, Any], batches: list[dict[str, Any]]) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for round_ in range(ROUNDS + 1):
        for name, session in sessions.items():
            start = time.perf_counter()
            for batch in batches:
                _run(session, batch)
            if round_:
                seconds[name].append(time.perf_counter() - start)

    def ratio(slow: str, fast: str) -> float:
        return round(float(np.median(np.array(seconds[slow]) / np.array(seconds[fast]))), 3)

    return {
        "milliseconds": {name: round(1e3 * float(np.median(of)) / len(batches), 2) for name, of in seconds.items()},
        "fp32": ratio("dense-fp32", "compressed-fp32"),
        "int8": ratio("dense-int8", "compressed-int8"),
        "dense_int8_over_fp32": ratio("dense-fp32", "dense-int8"),
        "compressed_int8_over_dense_fp32": ratio("dense-fp32", "compressed-int8"),
    }


def _run(session: Any, batch: dict[str, Any]) -> Any:
    (logits,) = session.run(["logits"], {value.name: batch[value.name] for value in session.get_inputs()})
    return logits


def _real(place: Path, dense_dir: str, data: str, threads: int, examples: int) -> dict[str, Any]:
    """Accuracy of each program on labelled texts, and speed on them in random batches of 8 and one by one."""
    from transformers import AutoConfig

    from wordelim.checkpoint.loading import load_tokenizer
    from wordelim.data.columns import find_columns
    from wordelim.data.encode import encode
    from wordelim.data.read import read
    from wordelim.evaluation.inference import batches

    config, tokenizer = AutoConfig.from_pretrained(dense_dir), load_tokenizer(dense_dir)
    texts = read(data)
    texts = texts.select(range(min(len(texts), examples)))
    encoded = encode(texts, tokenizer, find_columns(texts), config, max_length=min(256, tokenizer.model_max_length))
    labels = np.array(encoded.dataset["labels"])
    sessions = _sessions(place, threads)

    def made(order: list[int], size: int) -> list[dict[str, Any]]:
        given = batches(encoded.dataset, tokenizer, order, size)
        return [{name: values.numpy() for name, values in batch.items()} for batch in given]

    by_length = np.argsort(encoded.lengths, kind="stable").tolist()
    accuracy = {}
    for kind in KINDS:
        answers = np.concatenate([_run(sessions[kind], batch).argmax(1) for batch in made(by_length, 16)])
        accuracy[kind] = round(100 * float((answers == labels[by_length]).mean()), 2)
    chosen = np.random.default_rng(0).permutation(len(texts))[:64].tolist()
    return {
        "examples": len(texts),
        "lengths": encoded.spread,
        "accuracy": accuracy,
        "batches_of_8": _ratios(sessions, made(chosen, 8)),
        "one_by_one": _ratios(sessions, made(chosen[:16], 1)),
    }


if __name__ == "__main__":
    main()
