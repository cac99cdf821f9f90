"""Fine-tune an encoder for each kind of head on real texts, compress it, and keep what it came to.

    python tests/benchmarks/heads.py chemprot --model minilm-l6 --data data/chemprot

--model is any encoder directory or hub name. The folder of --data holds train.jsonl, dev.jsonl and, for all but
xquad_en and stsb, test.jsonl. Choices are made on dev, and test is only reported on; xquad_en and stsb have no test,
so dev is reported on, and what choices are made on is carved from train. The embeddings of stsb aren't fine-tuned:
the model is compressed as it is. Each task leaves head-TASK-MODEL-calibrated.json in --results.
"""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
from glue import Benchmark, run
from transformers import (
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
)

from wordelim.data.read import read
from wordelim.data.split import carve

_RELATIONS = (
    "INHIBITOR ANTAGONIST AGONIST DOWNREGULATOR PRODUCT-OF SUBSTRATE INDIRECT-UPREGULATOR UPREGULATOR "
    "INDIRECT-DOWNREGULATOR ACTIVATOR AGONIST-ACTIVATOR AGONIST-INHIBITOR SUBSTRATE_PRODUCT-OF"
)
_TAGS = ("O", "B-Disease", "I-Disease")
_TWO_KINDS = ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease")
TASKS = {
    "chemprot": Benchmark("ChemProt, relations", 256, None, "f1_micro", 5, tuple(_RELATIONS.split())),
    "ncbi_disease": Benchmark(
        "NCBI disease, entities",
        256,
        None,
        "f1",
        5,
        _TAGS,
        head=AutoModelForTokenClassification,
    ),
    "bc5cdr": Benchmark(
        "BC5CDR, entities of two kinds", 256, None, "f1", 5, _TWO_KINDS, head=AutoModelForTokenClassification
    ),
    "trecqa": Benchmark("TREC-QA, reranking", 128, None, "mrr", 3, outputs=1, also=("map",)),
    "dream": Benchmark("DREAM, multiple choice", 256, None, "accuracy", 3, head=AutoModelForMultipleChoice),
    "xquad_en": Benchmark(
        "XQuAD, answers", 384, None, "f1", 8, head=AutoModelForQuestionAnswering, also=("exact_match",)
    ),
    "stsb": Benchmark(
        "STS-B, embeddings",
        128,
        None,
        "spearman",
        0,
        head=AutoModel,
        more={"target_speedup": 1.4, "learning_rate": 3e-4},
    ),
}


def main() -> None:
    """Run one task."""
    run(__doc__ or "", TASKS, ("calibrated",), "head", sets_of)


def sets_of(key: str, folder: Path) -> dict[str, datasets.Dataset]:
    """What to train on, choose on and report on."""
    train, dev = read(folder / "train.jsonl"), read(folder / "dev.jsonl")
    if key == "stsb":
        rest, validation = carve(train, 1000, seed=0)
        return {"train": rest, "validation": validation, "test": dev}
    if key == "xquad_en":
        contexts = sorted(set(train["context"]))
        chosen = {contexts[i] for i in np.random.default_rng(0).permutation(len(contexts))[: len(contexts) // 5]}
        parts = {
            name: train.filter(lambda row, kept=kept: (row["context"] in chosen) is kept)
            for name, kept in (("validation", True), ("train", False))
        }
        return {**parts, "test": dev}
    sets = {"train": train, "validation": dev, "test": read(folder / "test.jsonl")}
    if key == "dream":  # three sequences an example
        _, sets["validation"] = carve(dev, 1000, seed=0)
    if key == "trecqa":  # no order of documents is right for a query that has no answer among them
        for name in ("validation", "test"):
            answered = {row["query"] for row in sets[name] if row["label"] > 0}
            sets[name] = sets[name].filter(lambda row, answered=answered: row["query"] in answered)
    return sets


if __name__ == "__main__":
    main()
