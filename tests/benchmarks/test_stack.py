"""Models on top of each other are timed and judged in every precision, and shown."""

import copy
import json

import datasets
import pytest

from wordelim import Retention, eliminate_
from wordelim.checkpoint.directory import save


@pytest.mark.slow
def test_each_model_in_each_precision(script, make_model, make_tokenizer, texts, tmp_path):
    rows = datasets.Dataset.from_dict({"sentence": texts * 4, "label": [0, 1] * (len(texts) * 2)})
    for name in ("train", "dev"):
        rows.to_json(tmp_path / f"{name}.jsonl")
    dense, tokenizer = make_model("bert", layers=3, labels=2), make_tokenizer("bert")
    fast = eliminate_(copy.deepcopy(dense), Retention.fractions([0.5, 0.5, 0.0]))
    dense.save_pretrained(tmp_path / "dense")
    tokenizer.save_pretrained(tmp_path / "dense")
    save(fast, tokenizer, tmp_path / "fast")
    of = {"dense": "dense", "distilled": "dense", "eliminated": "fast", "both": "fast"}
    call = [
        "sst2",
        f"--data={tmp_path}",
        f"--work={tmp_path / 'work'}",
        f"--results={tmp_path}",
        "--engine=torch",
        "--threads=1",
    ]
    script("stack").main([*call, "--rounds=1", *(f"--{name}={tmp_path / place}" for name, place in of.items())])
    found = json.loads((tmp_path / "stack-sst2.json").read_text())
    engine = found["engines"]["torch"]
    assert list(engine) == [f"{name} {of}" for of in ("fp32", "int8") for name in script("stack").MODELS]
    assert engine["dense fp32"]["speed"] == 1
    assert engine["dense fp32"]["drop"] == engine["distilled fp32"]["drop"] == 0
    assert engine["eliminated int8"]["drop"] == engine["both int8"]["drop"]
    assert found["flops_ratio"]["both"] > 1
    assert str(tmp_path) not in json.dumps(found)
    (row,) = script("results").merged([], tmp_path)
    shown = script("stack_render").stack_section([row])
    assert (
        f"| SST-2 | both, 3 layers, FLOPs {found['flops_ratio']['both']:.2f}x | {engine['both fp32']['speed']:.2f}x"
        in shown
    )
    assert script("stack_render").stack_section([]) == ""
