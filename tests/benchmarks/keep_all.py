"""Time a rewritten model that drops nothing against the dense one, interleaved.

python tests/benchmarks/keep_all.py
"""

from __future__ import annotations

import copy
import json
import time
from importlib.metadata import version
from unittest import mock

import numpy as np
import torch
from render import RESULTS
from render import main as render
from transformers import BertConfig, BertForSequenceClassification

import wordelim

SHAPES = {
    "BERT-base shape": BertConfig(),
    "MiniLM-L6 shape": BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536),
}
ROUNDS = 15


@torch.inference_mode()
def main() -> None:
    """Time every shape."""
    rows = []
    for name, config in SHAPES.items():
        torch.manual_seed(0)
        dense = BertForSequenceClassification(config).eval()
        keep_all = wordelim.Retention.keep_all(config.num_hidden_layers)
        cut = wordelim.eliminate_(copy.deepcopy(dense), keep_all)
        # Without the cut of the last layer, which saves work, to see what the rewriting itself costs.
        with mock.patch("wordelim.graph.model.CutToFirstToken"):
            uncut = wordelim.eliminate_(copy.deepcopy(dense), keep_all)
        for dtype in (torch.float32, torch.bfloat16):
            for batch, tokens in ((1, 128), (8, 128), (32, 32)):
                ids = torch.randint(1000, 20000, (batch, tokens))
                mask = torch.ones_like(ids)
                models = {"dense": dense.to(dtype), "cut": cut.to(dtype), "uncut": uncut.to(dtype)}
                times: dict[str, list[float]] = {key: [] for key in models}
                for round_ in range(ROUNDS + 2):
                    for key, model in models.items():
                        start = time.perf_counter()
                        model(input_ids=ids, attention_mask=mask)
                        if round_ > 1:
                            times[key].append(time.perf_counter() - start)
                over_dense = {key: float(np.median(np.array(times[key]) / np.array(times["dense"]))) for key in models}
                rows.append(
                    {
                        "model": name,
                        "batch": batch,
                        "tokens": tokens,
                        "dtype": str(dtype).removeprefix("torch."),
                        "with_cut": over_dense["cut"],
                        "without_cut": over_dense["uncut"],
                    }
                )
                print(rows[-1], flush=True)
    about = f"Random weights, {ROUNDS} rounds, medians, {torch.get_num_threads()} threads, torch {version('torch')}."
    RESULTS.mkdir(parents=True, exist_ok=True)
    result = {"about": about, "rows": rows, "command": "python tests/benchmarks/keep_all.py"}
    (RESULTS / "keep_all.json").write_text(json.dumps(result, indent=1) + "\n")
    render()


if __name__ == "__main__":
    main()
