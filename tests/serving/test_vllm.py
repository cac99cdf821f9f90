"""vLLM itself serves compressed directories as wordelim.load answers; tests/engines/vllm.sh has an environment for it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

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


def test_classification_and_pairs(engine, served, asked, texts, expected):
    scores, _ = expected
    classifier = engine(served / "classifier")
    assert type(wordelim.load(served / "classifier")).__name__ == "BertForSequenceClassification"
    found = torch.tensor([output.outputs.probs for output in classifier.classify(texts, use_tqdm=False)])
    torch.testing.assert_close(found, scores[: len(texts)], atol=1e-5, rtol=0)
    assert classifier.llm_engine.vllm_config.model_config.architecture.startswith("Wordelim")


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
