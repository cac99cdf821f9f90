"""vLLM itself serves compressed directories as wordelim.load answers; tests/engines/vllm.sh makes its environment."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
import torch

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import save

pytest.importorskip("vllm", reason="vLLM isn't installed: tests/engines/vllm.sh makes an environment with it")
pytestmark = pytest.mark.slow
# What vLLM needs on a machine that others use too: no threads bound to cores, and little memory for keys and values.
SETTINGS = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def engine():
    """``engine(directory)``: vLLM in this process, without its server."""
    from vllm import LLM

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SETTINGS, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}.items():
            patch.setenv(name, value)
        yield lambda directory: LLM(str(directory), runner="pooling", dtype="float32")


def test_classification(engine, served, texts, expected):
    scores, _ = expected
    classifier = engine(served / "classifier")
    assert type(wordelim.load(served / "classifier")).__name__ == "BertForSequenceClassification"
    found = torch.tensor([output.outputs.probs for output in classifier.classify(texts, use_tqdm=False)])
    torch.testing.assert_close(found, scores[: len(texts)], atol=1e-5, rtol=0)
    assert classifier.llm_engine.vllm_config.model_config.architecture.startswith("Wordelim")


def test_without_a_dtype_vllm_takes_half_precision_as_of_any_pooling_model(engine, served, texts, expected):
    from vllm import LLM

    classifier = LLM(str(served / "classifier"), runner="pooling")
    assert classifier.llm_engine.vllm_config.model_config.dtype == torch.float16
    found = classifier.classify(texts, use_tqdm=False)
    scores = torch.tensor([output.outputs.probs for output in found])
    torch.testing.assert_close(scores, expected[0][: len(texts)], atol=1e-2, rtol=0)


def test_embeddings(engine, served, texts, expected):
    _, embeddings = expected
    found = engine(served / "embedder").embed(texts, use_tqdm=False)
    torch.testing.assert_close(
        torch.tensor([output.outputs.embedding for output in found]), embeddings, atol=1e-5, rtol=0
    )


@pytest.fixture(scope="module")
def reranker(make_model, make_tokenizer, tmp_path_factory):
    """A compressed model of one output, whose tokenizer tells the texts of a pair apart."""
    model = wordelim.eliminate_(make_model("bert", labels=1), Retention.fractions([0.7, 0.4, 0.2]))
    return save(model, make_tokenizer("bert"), tmp_path_factory.mktemp("reranker") / "reranker")


def test_scores_of_pairs(engine, reranker, make_tokenizer, texts):
    query, documents = texts[0], texts[1:]
    model, tokenizer = wordelim.load(reranker), make_tokenizer("bert")
    with torch.inference_mode():
        pairs = [tokenizer(query, document, return_tensors="pt") for document in documents]
        assert all(pair["token_type_ids"].any() for pair in pairs)
        logits = torch.cat([model(**pair).logits[0] for pair in pairs])
    found = [output.outputs.score for output in engine(reranker).score(query, documents, use_tqdm=False)]
    torch.testing.assert_close(torch.tensor(found), logits.sigmoid(), atol=1e-5, rtol=0)


# --- its server ------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def command(directory, *options):
    return [
        sys.executable,
        "-c",
        "from vllm.entrypoints.cli.main import main; main()",
        "serve",
        str(directory),
        *("--runner", "pooling", "--dtype", "float32", "--host", "127.0.0.1"),
        *options,
    ]


@contextmanager
def serving(directory, log):
    """``ask(path, body)``: the status and the answer of ``vllm serve`` on a directory."""
    port = free_port()
    with log.open("wb") as written:
        process = subprocess.Popen(
            command(directory, "--port", str(port)),
            env={**os.environ, **SETTINGS},
            stdout=written,
            stderr=written,
            start_new_session=True,
        )

    def ask(path, body=None):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "{}")

    try:
        end = time.monotonic() + 300
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, log.read_text()[-3000:]
            try:
                if ask("/health")[0] == 200:
                    break
            except OSError:
                time.sleep(0.5)
        yield ask
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


@pytest.fixture(scope="module")
def server(reranker, tmp_path_factory):
    with serving(reranker, tmp_path_factory.mktemp("server") / "log") as ask:
        yield ask


def test_the_server_embeds(served, texts, expected, tmp_path):
    with serving(served / "embedder", tmp_path / "log") as ask:
        for path, field in (("/v1/embeddings", "embedding"), ("/pooling", "data")):
            status, said = ask(path, {"input": texts, "task": "embed"} if path == "/pooling" else {"input": texts})
            assert status == 200, said
            found = torch.tensor([one[field] for one in said["data"]])
            torch.testing.assert_close(found, expected[1], atol=1e-5, rtol=0)
        for body in (b"{", {}, {"input": "good " * 10_000}):
            status, said = ask("/v1/embeddings", body)
            assert 400 <= status < 500, (status, said)
        assert ask("/v1/embeddings", {"input": ""})[0] < 500
        assert ask("/v1/embeddings", {"input": texts})[0] == 200


def test_the_server_answers_and_refuses(server, reranker, texts, make_tokenizer):
    model, tokenizer = wordelim.load(reranker), make_tokenizer("bert")
    with torch.inference_mode():
        logits = [model(**tokenizer(texts[0], text, return_tensors="pt")).logits[0] for text in texts[1:]]
        alone = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    expected, single = torch.cat(logits).sigmoid(), torch.cat(alone).sigmoid()

    def check():
        status, said = server("/score", {"text_1": texts[0], "text_2": texts[1:]})
        assert status == 200, said
        scores = torch.tensor([one["score"] for one in said["data"]])
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)

    check()
    status, said = server("/rerank", {"query": texts[0], "documents": texts[1:]})
    found = {one["index"]: one["relevance_score"] for one in said["results"]}
    torch.testing.assert_close(torch.tensor([found[i] for i in range(len(found))]), expected, atol=1e-5, rtol=0)
    status, said = server("/classify", {"input": texts})
    torch.testing.assert_close(torch.tensor([one["probs"][0] for one in said["data"]]), single, atol=1e-5, rtol=0)
    refused = [
        ("/classify", b"{"),
        ("/classify", {"input": "good " * 10_000}),
        ("/classify", {}),
        ("/rerank", b"{"),
        ("/rerank", {"query": "good", "documents": ["good " * 10_000]}),
        ("/score", {"text_1": 7, "text_2": "good"}),
        ("/score", {"text_1": "good", "text_2": "good " * 10_000}),
    ]
    for path, body in refused:
        status, said = server(path, body)
        assert 400 <= status < 500, (path, str(body)[:60], status, said)
        assert said["error"]["message"]
    for path, body in (
        ("/classify", {"input": ""}),
        ("/score", {"text_1": "", "text_2": "good"}),
        ("/rerank", {"query": "good", "documents": [""]}),
    ):
        status, said = server(path, body)
        assert status < 500, (path, said)  # its special tokens alone are a text for vLLM
    check()


@pytest.mark.parametrize(
    ("name", "match"), [("newer", "version 99"), ("tagger", "isn't served in vLLM"), ("unknown", "quantization method")]
)
def test_what_cant_be_served_says_so(served, name, match, make_model, make_tokenizer, tmp_path):
    directory, plugins = served / name, {}
    if name == "tagger":
        tagger = wordelim.eliminate_(make_model("bert", head="token"), Retention.fractions([0.7, 0.4, 0.2]))
        directory = save(tagger, make_tokenizer("bert"), tmp_path / "tagger")
    if name == "unknown":  # without the plug-in the dense model isn't run in its place
        directory, plugins = served / "classifier", {"VLLM_PLUGINS": ""}
    environment = {**os.environ, **SETTINGS, **plugins}
    done = subprocess.run(command(directory), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert match in done.stdout + done.stderr
