"""Ray itself, started once here, serves and scores as wordelim.load answers."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import datasets
import psutil
import pytest
import torch

from wordelim.errors import WordelimError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # else its processes wait for all others here
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray isn't installed"),
]
DOCS = Path(__file__).parents[2] / "docs"
SERVING = (DOCS / "serving.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", (DOCS / "distributed.md").read_text(encoding="utf-8"), re.S)
NAMES = ("bad", "good", "neither")


def start_ray(tries=3):
    """Ray waits 30 seconds for its own processes, which a busy machine may take longer to start."""
    import ray

    for left in reversed(range(tries)):
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
            return
        except Exception as error:  # of no class of its own
            ray.shutdown()
            if not left or "timed out" not in str(error):
                raise


@contextmanager
def local_ray():
    import ray
    from ray import serve

    start_ray()
    try:
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield serve, Client(port)
    finally:
        serve.shutdown()
        ray.shutdown()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Client:
    """Asks an application over HTTP."""

    def __init__(self, port):
        self.port = port

    def __call__(self, body, path="/", method=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def replicas():
    named = [process for process in psutil.Process().children(recursive=True) if process.is_running()]
    return [process for process in named if "ServeReplica:classifier" in " ".join(process.cmdline())]


REFUSED = [
    (b"{", 400, "not valid JSON"),
    (b"\xff", 400, "The body"),
    ([], 400, "The body is"),
    ({"inputs": []}, 400, "inputs holds 0 texts"),
    ({"inputs": ""}, 400, "Input 1 is empty"),
    ({"inputs": ["good", " \n"]}, 400, "Input 2 is empty"),
    ({"inputs": [7]}, 400, "Input 1 is 7"),
    ({"inputs": {"text": "good", "pair": "bad"}}, 400, "Input 1 has the fields"),
    ({"inputs": "good \ud800"}, 400, "half a character"),
    ({"inputs": "good", "trunc": True}, 400, "'trunc' is unknown"),
    ({"inputs": "good", "truncate": 1}, 400, "truncate is 1"),
    ({"inputs": "good", "top_k": 0}, 400, "top_k is 0"),
    ({"inputs": "good " * 10_000}, 413, "10002 tokens, but the model takes 64"),
]


def test_ray_serves_and_scores(served, asked, texts, expected, subtests, monkeypatch):
    """One test, for Ray takes seconds to start."""
    scores, embeddings = expected
    monkeypatch.chdir(served)
    with local_ray() as (serve, ask):
        from wordelim.serving.ray import Replica, Settings, app

        os.symlink("classifier", "my-bert-fast")
        serve_run("--name", "classifier")
        serve.run(app("embedder", max_tokens=128, wait=0.01), name="embedder", route_prefix="/embedder")

        with subtests.test("the commands of docs/serving.md"):
            asking = shlex.split(re.search(r"^curl .*$", SERVING, re.MULTILINE)[0].replace("8000", str(ask.port)))
            if shutil.which("curl"):
                done = subprocess.run([*asking, "--silent", "--fail"], capture_output=True, timeout=60, check=True)
                assert json.loads(done.stdout) == ask(asking[-1].encode())[1]
            status, said = ask(asking[-1].encode())
            assert status == 200
            assert [{*one} for one in said] == [{"label", "score"}] * 2

        with subtests.test("classification and pairs, in one request and in many at once"):
            status, together = ask({"inputs": asked, "top_k": None})
            assert status == 200
            with ThreadPoolExecutor(8) as pool:
                alone = list(pool.map(lambda one: ask({"inputs": one, "top_k": None})[1][0], asked))
            for answers in (together, alone):
                found = [[{one["label"]: one["score"] for one in of}[name] for name in NAMES] for of in answers]
                torch.testing.assert_close(torch.tensor(found), scores, atol=1e-5, rtol=0)
            assert (scores[: len(texts)] - scores[len(texts) :]).abs().max() > 1e-3
            assert ask({"inputs": texts[0]})[1] == pipeline_says(texts[:1])

        with subtests.test("embeddings"):
            status, found = ask({"inputs": texts}, "/embedder")
            torch.testing.assert_close(torch.tensor(found), embeddings, atol=1e-5, rtol=0)
            assert ask({"inputs": {"text": "a", "text_pair": "b"}}, "/embedder")[0] == 400

        with subtests.test("what can't be answered is refused, and the next one is answered"):
            for body, status, match in REFUSED:
                code, answer = ask(body)
                assert code == status, (body, answer)
                assert match in answer["error"]
            assert ask(b"", method="GET")[0] == 405
            cut = ask({"inputs": "good " * 10_000, "truncate": True})[1]
            assert cut == pipeline_says(["good " * 10_000])

        with subtests.test("directories that can't be served"):
            refused = {"dense": "holds no compressed model", "newer": "version 99", "./nowhere": "doesn't exist"}
            for name, match in refused.items():
                with pytest.raises(WordelimError, match=match):
                    app(name)
            with pytest.raises(WordelimError, match="max_tokens is 8, but one text of classifier may have 64"):
                Replica(Settings(directory="classifier", max_tokens=8))

        with subtests.test("a replica that is killed comes back"):
            (before,) = replicas()
            os.kill(before.pid, signal.SIGKILL)
            before.wait(10)
            end = time.monotonic() + 60
            while ask_or_none(ask) is None and time.monotonic() < end:
                time.sleep(0.1)
            again = ask({"inputs": asked, "top_k": None})
            assert again == (200, together)
            assert [process.pid for process in replicas()] != [before.pid]
        serve.shutdown()

        with subtests.test("Ray Data, as docs/distributed.md has it"):
            datasets.Dataset.from_dict({"text": texts * 3}).to_parquet("texts.parquet")
            block = next(found for found in BLOCKS if "ray.data" in found)
            exec(block, {})
            scored = datasets.Dataset.from_parquet("scored/*.parquet")
            found = {row["text"]: {"label": row["label"], "score": row["score"]} for row in scored}
            assert len(scored) == len(texts) * 3
            for text, answer in zip(texts, pipeline_says(texts), strict=True):
                assert found[text]["label"] == answer["label"]
                assert found[text]["score"] == pytest.approx(answer["score"], abs=1e-5)


def serve_run(*options):
    """The command of docs/serving.md, to the Ray that runs here."""
    import ray

    name, *words = shlex.split(re.search(r"^serve run .*$", SERVING, re.MULTILINE)[0])
    command = [Path(sys.executable).with_name(name), *words, *options, "--non-blocking"]
    address = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    done = subprocess.run(command, env=os.environ | address, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


def ask_or_none(ask):
    try:
        status, _ = ask({"inputs": "good"})
    except OSError:
        return None
    return True if status == 200 else None


def pipeline_says(inputs):
    from transformers import pipeline

    import wordelim  # noqa: F401

    return pipeline("text-classification", "classifier", device="cpu")(inputs, truncation=True)
