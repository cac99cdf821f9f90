"""The model card of a compressed model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from ..system.printable import bare_name, is_hub_name, one_line
from . import speed
from .columns import Column, compared, lost
from .compression import parts_of
from .markdown import code, table_lines
from .parts import Table
from .sections import meters

__all__ = ["HERE", "model_card", "source_name"]

HERE = "this directory"
"""What stands in a card for the place that the model is loaded from."""

_TAGS = ["wordelim", "power-bert", "word-vector-elimination"]


def model_card(report: Mapping[str, Any], model: PreTrainedModel) -> str:
    """A card that says what was done, on what it was measured, and how to load the model, as Markdown."""
    parts = parts_of(report)
    text = f"""---
{_data(report, parts).to_yaml()}
---

# {type(model).__name__}, compressed with wordelim

Made from {_source(report)} by dropping word vectors layer by layer
([PoWER-BERT](https://arxiv.org/abs/2001.08950)). Class, tokenizer and weight names are those of the dense model.

Word vectors kept after each layer: {_kept(report)}.

{_compared(report, parts)}

{_how(report)}The FLOPs ratio is against the dense encoder without padding.{_speed(report)}{_served(report)}
Everything measured, with settings, versions and seed, is in `wordelim_report.json` and, to read, in the report
beside it.

```python
import wordelim  # without it, transformers loads the dense model with these weights
from transformers import {type(model).__name__}

model = {type(model).__name__}.from_pretrained("{HERE}")
```

Answers don't depend on the batch or on padding. A compressed model serves no `output_hidden_states` and no
`output_attentions`; `wordelim.restore_(model)` gives the dense model with these weights.
"""
    return str(ModelCard(text))


def source_name(report: Mapping[str, Any]) -> str | None:
    """The hub name of the dense model, or the name of its directory without where that stands."""
    name = report.get("model")
    return None if name is None else bare_name(name)


def _data(report: Mapping[str, Any], parts: Mapping[str, Any]) -> ModelCardData:
    """The front matter; results are given where it is known what they were measured on."""
    name = report.get("model")
    sources = {part: (report.get("data") or {}).get(part, {}).get("source") for part in parts}
    task = report.get("task", "text-classification")
    results = [
        EvalResult(
            task_type=task,
            task_name=task.replace("-", " ").capitalize(),
            dataset_type=one_line(source),
            dataset_name=one_line(source),
            dataset_split=part,
            metric_type=report["metric"],
            metric_value=parts[part]["compressed"],
            metric_name=f"{report['metric']}, in points (dense: {parts[part]['dense']:.2f})",
        )
        for part, source in sources.items()
        if source is not None
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=task,
        base_model=None if name is None or not is_hub_name(name) else str(name),
        tags=_TAGS,
        model_name=f"{one_line(source_name(report) or 'model')}, compressed" if results else None,
        eval_results=results or None,
    )


def _source(report: Mapping[str, Any]) -> str:
    name = source_name(report)
    return "a model in memory" if name is None else code(name)


def _how(report: Mapping[str, Any]) -> str:
    """What was trained on what."""
    settings, data = report.get("settings"), report.get("data") or {}
    if not settings or "train" not in data:
        return ""
    search = "the keep counts were given" if settings.get("keep") else f"{settings['method']} search"
    trained = f"retrained with --epochs {settings['epochs']:g}, distilling from the dense model"
    return (
        f"How: {search}; {trained if settings['retrain'] else 'not retrained'}; {data['train']['examples']} training "
        f"texts, chosen on the validation texts, at most {settings['max_drop']:g} points to lose.\n"
    )


def _compared(report: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """Both models and the FLOPs ratio, each interval in brackets behind what it is of."""
    table = compared(
        ["texts", "examples"],
        [([name, str(part["examples"])], part) for name, part in parts.items()],
        more=[Column("flops_ratio", "FLOPs ratio", "{:.2f}x".format)],
        dense=f"{report['metric']}, dense",
    )
    at = table.head.index("95 % interval")
    rows = [[*row[: at - 1], f"{row[at - 1]} ({row[at]})", *row[at + 1 :]] for row in (table.head, *table.rows)]
    return "\n".join([*table_lines(Table(rows[0], rows[1:], numbers=len(rows[0])))][1:])


def _kept(report: Mapping[str, Any]) -> str:
    shares = " (shares of each text's own tokens)" if report["retention"]["kind"] == "fraction" else ""
    return ", ".join(said for _, _, said in meters(report).rows) + shares


def _served(report: Mapping[str, Any]) -> str:
    speeds = report.get("speeds")
    if not speeds:
        return ""
    drops = ", ".join(f"{asked}: {lost(part['validation']['drop'])}" for asked, part in speeds.items())
    return (
        f"\nThe same weights serve several speeds (points lost on validation: {drops}); choose one with\n"
        "`wordelim.load(directory, speed=...)` or `wordelim.set_speed_(model, ...)`."
    )


def _speed(report: Mapping[str, Any]) -> str:
    measured = report.get("speed")
    return f"\nMeasured speed-up over the dense model under SDPA: {speed.sentence(measured)}." if measured else ""
