"""The model card of a compressed model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from transformers import PreTrainedModel

__all__ = ["model_card"]


def model_card(report: Mapping[str, Any], model: PreTrainedModel) -> str:
    """A card that says what was done, on what it was measured, and how to load the model, as Markdown."""
    data = ModelCardData(
        library_name="transformers", pipeline_tag="text-classification", tags=["wordelim", "power-bert"]
    )
    rows = [
        f"| {name} | {part['examples']} | {part['dense']:.2f} | {part['compressed']:.2f} | {part['drop']:+.2f} "
        f"({part['drop_interval_95'][0]:+.2f} to {part['drop_interval_95'][1]:+.2f}) | {part['flops_ratio']:.2f}x |"
        for name, part in ((name, report[name]) for name in ("validation", "test") if name in report)
    ]
    text = f"""---
{data.to_yaml()}
---

# {type(model).__name__}, compressed with wordelim

Made from {_source(report)} by dropping word vectors layer by layer
([PoWER-BERT](https://arxiv.org/abs/2001.08950)). Class, tokenizer and weight names are those of the dense model.

Word vectors kept after each layer: {_kept(report)}.

| texts | examples | {report["metric"]}, dense | compressed | points lost (95 % interval) | FLOPs ratio |
|---|---|---|---|---|---|
{chr(10).join(rows)}

The FLOPs ratio is against the dense encoder without padding.{_speed(report)}{_served(report)}
Everything measured, with settings, versions and seed, is in `wordelim_report.json`.

```python
import wordelim  # without it, transformers loads the dense model with these weights
from transformers import {type(model).__name__}

model = {type(model).__name__}.from_pretrained("this directory")
```
"""
    return str(ModelCard(text))


def _source(report: Mapping[str, Any]) -> str:
    """The model's hub name, or the name of its directory without where that stands."""
    name = report.get("model")
    if name is None:
        return "a model in memory"
    path = Path(name).expanduser()
    return f"`{path.resolve().name if path.is_dir() else name}`"


def _kept(report: Mapping[str, Any]) -> str:
    retention = report["retention"]
    fractions = retention["kind"] == "fraction"
    values = [f"{100 * value:.3g} %" if fractions else f"{value:g}" for value in retention["keep"]]
    if report.get("last_layer_cut_to_first_token"):
        values[-1] = "the first alone, which is all that the head reads"
    return ", ".join(values) + (" (shares of each text's own tokens)" if fractions else "")


def _served(report: Mapping[str, Any]) -> str:
    speeds = report.get("speeds")
    if not speeds:
        return ""
    lost = ", ".join(f"{speed}: {part['validation']['drop']:+.2f}" for speed, part in speeds.items())
    return (
        f"\nThe same weights serve several speeds (points lost on validation: {lost}); choose one with\n"
        "`wordelim.load(directory, speed=...)` or `wordelim.set_speed_(model, ...)`."
    )


def _speed(report: Mapping[str, Any]) -> str:
    speed = report.get("speed")
    if speed is None:
        return ""
    threads = "1 thread" if speed["threads"] == 1 else f"{speed['threads']} threads"
    return (
        f"\nMeasured speed-up over the dense model under SDPA: {speed['dynamic']:.2f}x in random batches of "
        f"{speed['batch_size']} padded\nto their longest text, {speed['unpadded']:.2f}x in batches of equal length, "
        f"{speed['fixed']:.2f}x over texts padded to {speed['max_length']} tokens ({threads}, "
        f"{speed['dtype']}, {speed['texts']} texts)."
    )
