"""What wordelim would do to a model, or has done."""

from __future__ import annotations

import os
from typing import Any

from ..checkpoint.sentence_transformers import embedding_of
from ..data.encode import usable_positions
from ..data.label_names import require_names
from ..graph.cost import cost_of
from ..graph.passes import extraction_nodes
from ..graph.splice import eliminate_, eliminating_encoder, retention_of
from ..retention import Retention
from ..tasks import task_for
from .opened import open_model

__all__ = ["inspect_model"]

_LENGTHS = (32, 64, 128, 256, 512)


def inspect_model(model_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Say whether a model is supported, where elimination stands or would stand, and what it keeps.

    Args:
        model_dir: a directory, or a hub name.

    Raises:
        WordelimError: the model can't be loaded or isn't supported; the message says why.
    """
    opened = open_model(model_dir, "dense", "compressed")
    model, compressed = opened.model, opened.kind == "compressed"
    embedding_of(opened.companions, opened.head)  # one that isn't served is refused
    if not compressed:
        eliminate_(model, Retention.keep_all(getattr(model.config, "num_hidden_layers", 1)))
    if task_for(opened.head, model.config, None).names:
        require_names(model.config)
    encoder = eliminating_encoder(model)
    cost = cost_of(model)
    retention = retention_of(model)
    longest = usable_positions(model.config) or max(_LENGTHS)
    return {
        "model": str(model_dir),
        "class": opened.head,
        "family": model.config.model_type,
        "supported": True,
        "compressed": compressed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": cost.layers,
        "last_layer_cut_to_first_token": cost.first_token,
        "splices": [_place(node.args[1]) for node in extraction_nodes(encoder.graph)],
        "retention": retention.told() if compressed else None,
        "flops_ratio": {str(n): round(cost.ratio([n], retention), 3) for n in _LENGTHS if n <= longest},
    }


def _place(key: Any) -> str:
    """The module in which an attention stands: the parent of its key projection."""
    while key.op not in ("call_module", "get_attr"):
        key = key.args[0]
    return str(key.target).rpartition(".")[0]
