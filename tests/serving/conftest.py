"""Compressed directories to serve, and what is asked of them."""

import pytest
import torch

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import save
from wordelim.checkpoint.loading import load_tokenizer

KEEP = [0.7, 0.4, 0.2]


@pytest.fixture(scope="module")
def served(make_model, make_tokenizer, tmp_path_factory):
    """A folder with ``classifier`` and ``embedder``, compressed, ``dense``, and ``newer``, of a later format."""
    folder = tmp_path_factory.mktemp("served")
    classifier, tokenizer = make_model("bert"), make_tokenizer("bert")
    classifier.config.id2label = {0: "bad", 1: "good", 2: "neither"}
    classifier.save_pretrained(folder / "dense")
    tokenizer.save_pretrained(folder / "dense")
    for name, model in (("classifier", classifier), ("embedder", make_model("bert", head="none"))):
        save(wordelim.eliminate_(model, Retention.fractions(KEEP)), tokenizer, folder / name)
    classifier.config.quantization_config["version"] = 99
    classifier.save_pretrained(folder / "newer")
    tokenizer.save_pretrained(folder / "newer")
    return folder


@pytest.fixture(scope="module")
def asked(texts):
    """Texts of 1 to 30 words, and pairs of them."""
    return [*texts, *({"text": a, "text_pair": b} for a, b in zip(texts, reversed(texts), strict=True))]


@pytest.fixture(scope="module")
def expected(served, asked, texts):
    """What wordelim.load answers to each alone: probabilities [texts and pairs, labels], embeddings [texts, width]."""

    def outputs(name, inputs):
        model, tokenizer = wordelim.load(served / name), load_tokenizer(served / name)
        for one in inputs:
            pair = (one["text"], one["text_pair"]) if isinstance(one, dict) else (one,)
            with torch.inference_mode():
                yield model(**tokenizer(*pair, return_tensors="pt"))

    logits = torch.cat([output.logits for output in outputs("classifier", asked)])
    states = [output.last_hidden_state[0].mean(0) for output in outputs("embedder", texts)]
    return logits.softmax(1), torch.nn.functional.normalize(torch.stack(states), dim=-1)
