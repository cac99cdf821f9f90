"""What engines answer under load, dense against compressed: texts a second with a 95th percentile of 100 ms or less.

    python tests/benchmarks/serving.py ray --dense DIR --compressed DIR --data texts.jsonl --task SST-2
    python tests/benchmarks/serving.py vllm ... (in the environment that tests/engines/vllm.sh keeps)
    python tests/benchmarks/serving.py ray ... --steady 600
    python tests/benchmarks/serving.py ray ... --tokenizer DIR

With --tokenizer, the directories of --dense and --compressed are made first where they aren't there: of BERT-base's
shape, with random weights, on which no time depends, for texts of 256 tokens; the compressed one keeps what a MiniLM
keeps on IMDB.

Each side is served on loopback, one at a time, by one process of one thread, and asked over HTTP for one text a
request, at times that don't wait for answers (Poisson). The rate rises by --step until the 95th percentile of the
latency passes --limit (or twice that of a lone request, where a lone one takes half of the limit or more), or the
answers come slower than the questions. What is kept is the last rate that held, and beside it the ratio that `wordelim
bench` measures for the same texts. A side takes at most --rates times --seconds, and 20,000 requests. Before, --clients
ask one text after the other without a break for --saturate seconds: how many are answered a second, whatever an answer
takes; the first fifth isn't counted.

--steady SECONDS asks the compressed side for so long at half the rate that held (--rate N: at that one), compares every
answer with wordelim.load's, and notes the memory of the replica; then it kills the replica and waits for its return.
What is found lies in --results as serving-ENGINE-TASK.json.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import datasets
import numpy as np
import psutil
import torch
from results import RESULTS
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

import wordelim
from wordelim.data.read import read
from wordelim.system.machine import environment

Ask = Callable[[str], Awaitable[tuple[bool, Any]]]
MOST = 20_000
KEEP = (0.83, 0.66, 0.56, 0.47, 0.38, 0.3, 0.2, 0.13, 0.13, 0.13, 0.13, 0)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# --- the engines ------------------------------------------------------------------------------------------


@contextmanager
def ray_serves(directory: str, dense: bool) -> Iterator[tuple[str, Callable[[str], dict[str, Any]]]]:
    """The URL of Ray Serve with one replica, and what is asked there for a text."""
    import ray
    from ray import serve

    from wordelim.serving.answers import Answers
    from wordelim.serving.ray import Replica, Settings, deploy

    class Dense(Replica):
        def load(self, settings: Settings) -> Answers:
            model = AutoModelForSequenceClassification.from_pretrained(settings.directory, dtype=torch.float32)
            return Answers(model, AutoTokenizer.from_pretrained(settings.directory))

    port = free_port()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        chosen = Settings(directory=os.path.abspath(directory))
        serve.run(deploy(chosen, Dense if dense else Replica))
        yield f"http://127.0.0.1:{port}/", lambda text: {"inputs": text, "truncate": True}
    finally:
        serve.shutdown()
        ray.shutdown()


@contextmanager
def vllm_serves(directory: str, dense: bool) -> Iterator[tuple[str, Callable[[str], dict[str, Any]]]]:
    """The same of vLLM's server; the dense model is run by vLLM's own class."""
    port = free_port()
    command = [sys.executable, "-c", "from vllm.entrypoints.cli.main import main; main()", "serve", directory]
    options = ["--runner", "pooling", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    settings = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(
        [*command, *options, "--served-model-name", "it", "--disable-uvicorn-access-log"],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit(f"vLLM doesn't start: run {' '.join(command[-2:])} to see why.")
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        limit = {"truncate_prompt_tokens": -1}
        yield f"http://127.0.0.1:{port}/classify", lambda text: {"model": "it", "input": text, **limit}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


ENGINES = {"ray": ray_serves, "vllm": vllm_serves}


# --- load -------------------------------------------------------------------------------------------------


async def at_rate(ask: Ask, texts: Sequence[str], rate: float, seconds: float, seed: int) -> dict[str, Any]:
    """Ask at a rate for so long; latencies in seconds, of which the first tenth isn't counted."""
    gaps, taken, failed, waiting = random.Random(seed), [], 0, []

    async def one(text: str, counted: bool) -> None:
        nonlocal failed
        begun = time.perf_counter()
        fine, _ = await ask(text)
        failed += not fine
        if counted:
            taken.append(time.perf_counter() - begun)

    begun, due = time.perf_counter(), 0.0
    for text in itertools.islice(itertools.cycle(texts), MOST):
        due += gaps.expovariate(rate)
        if due > seconds:
            break
        await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
        waiting.append(asyncio.create_task(one(text, due > seconds / 10)))
    await asyncio.gather(*waiting)
    total = time.perf_counter() - begun
    quantiles = np.quantile(taken, [0.5, 0.95, 0.99]) * 1000
    return {
        "rate": round(rate, 2),
        "answered": round(len(waiting) / total, 2),
        "requests": len(waiting),
        "failed": failed,
        "milliseconds": dict(zip(("p50", "p95", "p99"), quantiles.round(1).tolist(), strict=True)),
    }


async def saturated(ask: Ask, texts: Sequence[str], clients: int, seconds: float) -> dict[str, Any]:
    """What is answered a second when so many ask without a break."""
    begun, more, ended, failed = time.perf_counter(), itertools.cycle(texts), [], 0

    async def client() -> None:
        nonlocal failed
        while time.perf_counter() - begun < seconds:
            fine, _ = await ask(next(more))
            failed += not fine
            ended.append(time.perf_counter() - begun)

    await asyncio.gather(*(client() for _ in range(clients)))
    counted = sum(seconds / 5 <= at <= seconds for at in ended)
    return {"clients": clients, "answered": round(counted / (0.8 * seconds), 3), "failed": failed}


async def rising(url: str, body: Any, texts: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Rates from low to high, until one doesn't hold."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:

        async def ask(text: str) -> tuple[bool, Any]:
            async with session.post(url, json=body(text)) as answer:
                return answer.status == 200, await answer.json()

        lone = []
        for text in texts[: options.lone]:
            begun = time.perf_counter()
            fine, said = await ask(text)
            if not fine:
                raise SystemExit(f"The engine refuses a text: {said}")
            lone.append(time.perf_counter() - begun)
        floor = float(np.quantile(lone[len(lone) // 5 :], 0.95)) * 1000
        full = await saturated(ask, texts, options.clients, options.saturate)
        print(json.dumps(full), file=sys.stderr)
        limit = options.limit if floor < options.limit / 2 else 2 * floor
        rate, runs = 0.4 / float(np.median(lone)), []
        for seed in range(options.rates):
            runs.append(await at_rate(ask, texts, rate, options.seconds, seed))
            print(json.dumps(runs[-1]), file=sys.stderr)
            late = runs[-1]["answered"] < 0.8 * runs[-1]["requests"] / options.seconds
            if runs[-1]["milliseconds"]["p95"] > limit or runs[-1]["failed"] or late:
                break
            rate *= options.step
        held = [run["answered"] for run in runs[:-1]] or [0.0]
        return {
            "lone_ms_p95": round(floor, 1),
            "limit_ms": round(limit, 1),
            "held": max(held),
            "saturated": full,
            "runs": runs,
        }


# --- steady load ------------------------------------------------------------------------------------------


def expected_of(directory: str, texts: Sequence[str]) -> list[tuple[str, float]]:
    """The label and its score that wordelim.load answers to each text alone."""
    model, tokenizer = wordelim.load(directory), AutoTokenizer.from_pretrained(directory)
    found = []
    for text in texts:
        with torch.inference_mode():
            rows = tokenizer(text, truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt")
            score, label = model(**rows).logits.softmax(1)[0].max(0)
        found.append((model.config.id2label[int(label)], float(score)))
    return found


def replica() -> psutil.Process:
    """The process of the replica."""
    return next(one for one in psutil.Process().children(recursive=True) if "ServeReplica" in " ".join(one.cmdline()))


async def steadily(url: str, body: Any, texts: Sequence[str], expected: Any, rate: float, seconds: float) -> Any:
    """Ask at a rate for so long, compare, and note the memory; then kill the replica and wait for its return."""
    known, memory, wrong, errors, asked = dict(zip(texts, expected, strict=True)), [], 0, 0, 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as session:

        async def one(text: str) -> bool:
            nonlocal wrong, errors
            try:
                async with session.post(url, json=body(text)) as answer:
                    said = await answer.json(content_type=None)
                    (label, score), fine = known[text], answer.status == 200
            except (TimeoutError, aiohttp.ClientError):
                errors += 1
                return False
            if fine and (said[0]["label"] != label or abs(said[0]["score"] - score) > 1e-5):
                wrong += 1
            errors += not fine
            return fine

        begun, waiting, gaps, due = time.perf_counter(), set(), random.Random(0), 0.0
        for text in itertools.cycle(texts):
            due += gaps.expovariate(rate)
            if due > seconds:
                break
            if not memory or due >= len(memory) * seconds / 20:
                memory.append(round(replica().memory_info().rss / 1e6, 1))
            await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
            asked += 1
            task = asyncio.create_task(one(text))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        await asyncio.gather(*waiting)
        steady = {"requests": asked, "errors": errors, "wrong": wrong, "megabytes": memory}
        os.kill(replica().pid, signal.SIGKILL)
        begun = time.perf_counter()
        while not await one(texts[0]):
            await asyncio.sleep(0.2)
        back = round(time.perf_counter() - begun, 1)
        again = [await one(text) for text in texts[:50]]
    return {
        "rate": rate,
        "seconds": seconds,
        **steady,
        "seconds_until_back": back,
        "answered_again": sum(again),
        "wrong_in_all": wrong,
    }


# --- models -----------------------------------------------------------------------------------------------


def make(dense: str, compressed: str, tokenizer: str, texts: Sequence[str]) -> None:
    """A classifier of BERT-base's shape with random weights, and what is compressed of it."""
    words = AutoTokenizer.from_pretrained(tokenizer, model_max_length=256)
    model = BertForSequenceClassification(BertConfig(vocab_size=len(words), max_position_embeddings=256))
    model.save_pretrained(dense)
    words.save_pretrained(dense)
    rows = datasets.Dataset.from_dict({"text": texts, "label": [number % 2 for number in range(len(texts))]})
    found = wordelim.compress_model(
        model, words, train=rows, validation=rows, keep=KEEP, retrain=False, max_drop=100, search_examples=32,
        measure_speed=False,
    )  # fmt: skip
    found.model.save_pretrained(compressed)
    words.save_pretrained(compressed)


def main() -> None:
    """Measure one engine on one task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--dense", required=True)
    parser.add_argument("--compressed", required=True)
    parser.add_argument("--tokenizer", help="of which model, to make the two where they aren't there")
    parser.add_argument("--data", required=True, help="texts, as `wordelim bench --data` takes them")
    parser.add_argument("--text", help="column of the texts, where it isn't a usual one")
    parser.add_argument("--task", required=True, help="a name for it")
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--lone", type=int, default=50, help="requests without any load, first")
    parser.add_argument("--limit", type=float, default=100.0, help="milliseconds that 95 of 100 answers may take")
    parser.add_argument("--step", type=float, default=1.2)
    parser.add_argument("--rates", type=int, default=14, help="rates at most")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each rate")
    parser.add_argument("--clients", type=int, default=16, help="that ask without a break")
    parser.add_argument("--saturate", type=float, default=30.0, help="seconds for which they do")
    parser.add_argument("--steady", type=float, default=0.0)
    parser.add_argument("--rate", type=float, help="of --steady")
    parser.add_argument("--no-bench", action="store_true")
    parser.add_argument("--bench-texts", type=int, default=128)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    torch.set_num_threads(1)
    rows = read(options.data)
    column = options.text or next(name for name in ("text", "sentence") if name in rows.column_names)
    texts = random.Random(0).sample(list(rows[column]), min(options.texts, len(rows)))
    if options.tokenizer and not Path(options.compressed).exists():
        make(options.dense, options.compressed, options.tokenizer, texts[:32])
    serves, found = ENGINES[options.engine], {"kind": "serving", "engine": options.engine, "task": options.task}
    sides = {"dense": options.dense, "compressed": options.compressed}
    if not (options.steady and options.rate):
        for side, directory in sides.items():
            with serves(directory, side == "dense") as (url, body):
                found[side] = asyncio.run(rising(url, body, texts, options))
        full = {side: found[side]["saturated"]["answered"] for side in sides}
        for name, of in (("ratio", {side: found[side]["held"] for side in sides}), ("saturated", full)):
            found[name] = round(of["compressed"] / of["dense"], 3) if of["dense"] else None  # not even the first rate
    if not options.no_bench:
        report = wordelim.bench(
            options.dense,
            options.compressed,
            data=options.data,
            text=options.text,
            texts=options.bench_texts,
            latency_texts=0,
        )
        against = report["measurements"][0]["throughput"]["against"]
        found["bench"] = {name: round(part["speedup"]["median"], 3) for name, part in against.items()}
    if options.steady and options.engine == "ray":
        rate = options.rate or found["compressed"]["held"] / 2
        expected = expected_of(options.compressed, texts)
        with serves(options.compressed, False) as (url, body):
            found["steady"] = asyncio.run(steadily(url, body, texts, expected, rate, options.steady))
    found |= environment("cpu")
    options.results.mkdir(exist_ok=True)
    path = options.results / f"serving-{options.engine}-{options.task.lower()}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: found.get(name) for name in ("ratio", "saturated", "bench", "steady")}))


if __name__ == "__main__":
    main()
