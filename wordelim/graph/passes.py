"""Rewrite a traced encoder so that word vectors are really dropped.

Each pass is requires / apply / ensures: it refuses a graph that it can't serve, changes it, and checks what it left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

from torch import fx, nn

from ..elimination.attention import Attention, split_heads
from ..elimination.enter import Enter
from ..elimination.extract import FirstToken, HardExtract
from ..elimination.restore import fill_with_mean, put_aside, put_back
from ..elimination.rows import first_rows, leave
from ..errors import UnsupportedModelError
from ..retention import Retention
from .rewire import note_origins, projection_of, replace_attention, tokens_at
from .tokenwise import first_queries, refuse_stale_rows
from .trace import attention

__all__ = ["CutToFirstToken", "Pass", "RestoreAtExit", "SpliceElimination", "attention_nodes", "extraction_nodes"]


class Pass(ABC):
    """A rewriting of an encoder's graph, in place."""

    def requires(self, module: fx.GraphModule) -> None:
        """Raise UnsupportedModelError when the graph can't be served."""
        if not attention_nodes(module.graph):
            raise UnsupportedModelError(
                "No attention goes through transformers' attention interface here: the encoder is already rewritten, "
                "or computes attention itself."
            )

    @abstractmethod
    def apply(self, module: fx.GraphModule) -> None:
        """Change the graph."""

    def ensures(self, module: fx.GraphModule) -> None:
        """Raise UnsupportedModelError when something before an elimination is still used behind it at full length."""
        for node in extraction_nodes(module.graph):
            refuse_stale_rows(module, node)

    def __call__(self, module: fx.GraphModule) -> None:
        self.requires(module)
        self.apply(module)
        module.graph.eliminate_dead_code()
        module.graph.lint()
        module.recompile()
        self.ensures(module)


class SpliceElimination(Pass):
    """Put a :class:`HardExtract` where each attention stands, and drop the same rows on the residual branch.

    The gather stands directly behind attention, so the output projection, the residual addition, normalisation and the
    feed-forward network run on the kept rows alone.
    """

    def __init__(self, retention: Retention) -> None:
        self.retention = retention

    def apply(self, module: fx.GraphModule) -> None:
        for layer, node in enumerate(attention_nodes(module.graph)):
            extract = HardExtract(layer, _attention_of(node))
            replace_attention(module, node, f"extract_{layer}", extract, query=node.args[0])
        cast(Enter, module.get_submodule("enter")).retention = self.retention


class CutToFirstToken(Pass):
    """Leave only the first token in the last layer, for a head that reads nothing else. Exact: its row is unchanged."""

    def apply(self, module: fx.GraphModule) -> None:
        node = attention_nodes(module.graph)[-1]
        query, key = node.args[:2]
        assert isinstance(query, fx.Node) and isinstance(key, fx.Node)
        projection = projection_of(module, query)
        tokens = tokens_at(module, node)  # first, for with one layer it changes what the projection reads
        if projection is None:
            with module.graph.inserting_before(node):
                query = module.graph.call_function(first_queries, (query, tokens))
        else:
            with module.graph.inserting_before(projection):
                first = module.graph.call_function(first_rows, (projection.args[0], tokens))
                row = module.graph.call_module(str(projection.target), (first,))
                row.meta["first_row"] = True
            with module.graph.inserting_before(node):
                query = module.graph.call_function(split_heads, (row, key))
        replace_attention(module, node, "first_token", FirstToken(_attention_of(node)), query)


class RestoreAtExit(Pass):
    """Put dropped word vectors back at the exit, for a head that reads them all.

    Each comes back with the value that it had when it was dropped: as it entered that layer on the residual branch.

    Args:
        mean: for a head that reads nothing but their mean: each comes back as the mean of those that are left.
    """

    def __init__(self, *, mean: bool = False) -> None:
        self.mean = mean

    def requires(self, module: fx.GraphModule) -> None:
        nodes = extraction_nodes(module.graph)
        if not nodes or any(isinstance(module.get_submodule(str(node.target)), FirstToken) for node in nodes):
            raise UnsupportedModelError("Word vectors can't be put back: splice elimination first, and don't cut.")

    def apply(self, module: fx.GraphModule) -> None:
        graph = module.graph
        nodes = extraction_nodes(graph)
        exit_node = next(node for node in graph.nodes if node.target is leave)
        rows, tokens = exit_node.args
        assert isinstance(rows, fx.Node) and isinstance(tokens, fx.Node)
        note_origins(module)
        if self.mean:
            with graph.inserting_before(exit_node):
                filled = graph.call_function(fill_with_mean, exit_node.args)
            exit_node.replace_all_uses_with(filled)
            graph.erase_node(exit_node)
            return
        streams = [_stream(node, rows) for node in nodes]
        aside: fx.Node | None = None
        for node, stream in zip(nodes, streams, strict=True):
            with graph.inserting_after(node.meta["alive"]):
                aside = graph.call_function(put_aside, (aside, stream, node.args[3], node.meta["index"]))
        end = _before_last_normalisation(module, rows) if _normalises_first(module, nodes[0], streams[0]) else rows
        with graph.inserting_before(end.next):
            restored = graph.call_function(put_back, (aside, end, exit_node.args[1]))
        restored.meta["val"] = end.meta["val"]
        end.replace_all_uses_with(restored, delete_user_cb=lambda user: user is not restored)
        exit_node.replace_all_uses_with(exit_node.args[0])
        graph.erase_node(exit_node)


def _stream(extracted: fx.Node, rows: fx.Node) -> fx.Node:
    """The hidden states that enter a layer: what of the size of the encoder's output goes around its attention."""
    for branch in extracted.meta["branches"]:
        if branch.meta["val"].shape == rows.meta["val"].shape:
            return branch  # type: ignore[no-any-return]
    raise UnsupportedModelError(
        f"Nothing of the size of the encoder's output goes around {extracted.name}: word vectors that are dropped "
        "there can't be put back."
    )


def _normalises_first(module: fx.GraphModule, extracted: fx.Node, stream: fx.Node) -> bool:
    """Whether layers normalise what they read from the residual branch, rather than the branch itself."""
    projection = projection_of(module, extracted.args[1])  # type: ignore[arg-type]
    return projection is not None and projection.args[0] is not stream


def _before_last_normalisation(module: fx.GraphModule, rows: fx.Node) -> fx.Node:
    """Where the residual branch ends: what is put back is to be normalised with the rest."""
    while rows.op == "call_module" and isinstance(
        module.get_submodule(str(rows.target)), (nn.LayerNorm, nn.RMSNorm, nn.Dropout, nn.Identity)
    ):
        rows = rows.args[0]  # type: ignore[assignment]
    return rows


def attention_nodes(graph: fx.Graph) -> list[fx.Node]:
    """The attention calls that no pass has replaced, in order of depth."""
    return [node for node in graph.nodes if node.target is attention]


def extraction_nodes(graph: fx.Graph) -> list[fx.Node]:
    """The calls that passes have put in place of attention, in order of depth."""
    return [node for node in graph.nodes if "context" in node.meta]


def _attention_of(node: fx.Node) -> Attention:
    return Attention(**node.kwargs, position=node.meta["position"])  # type: ignore[arg-type]
