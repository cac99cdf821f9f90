"""Rewrite a traced encoder so that word vectors are really dropped.

Each pass is requires / apply / ensures: it refuses a graph that it can't serve, changes it, and checks what it left.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import Any, cast

from torch import fx, nn

from ..elimination.attention import Attention, split_heads
from ..elimination.enter import Enter
from ..elimination.extract import Extracted, FirstToken, HardExtract
from ..elimination.restore import fill_with_mean, put_aside, put_back
from ..elimination.rows import first_rows, gather, leave
from ..errors import UnsupportedModelError
from ..retention import Retention
from .tokenwise import SHAPE_METHODS, descendants, first_queries, has_token_rows, refuse_mixing, refuse_stale_rows
from .trace import attention

__all__ = ["CutToFirstToken", "Pass", "RestoreAtExit", "SpliceElimination", "attention_nodes", "extraction_nodes"]


class Pass(ABC):
    """A rewriting of an encoder's graph, in place."""

    @property
    @abstractmethod
    def preserves_computation(self) -> bool:
        """Whether the rows that are left come out as they did before."""

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

    @property
    def preserves_computation(self) -> bool:
        return set(self.retention.keep) == {1.0} and self.retention.kind == "fraction"

    def apply(self, module: fx.GraphModule) -> None:
        for layer, node in enumerate(attention_nodes(module.graph)):
            extract = HardExtract(layer, _attention_of(node))
            _replace_attention(module, node, f"extract_{layer}", extract, query=node.args[0])
        cast(Enter, module.get_submodule("enter")).retention = self.retention


class CutToFirstToken(Pass):
    """Leave only the first token in the last layer, for a head that reads nothing else. Exact: its row is unchanged."""

    @property
    def preserves_computation(self) -> bool:
        return True

    def apply(self, module: fx.GraphModule) -> None:
        node = attention_nodes(module.graph)[-1]
        query, key = node.args[:2]
        assert isinstance(query, fx.Node) and isinstance(key, fx.Node)
        projection = _projection(module, query)
        tokens = _tokens(module, node)  # first, for with one layer it changes what the projection reads
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
        _replace_attention(module, node, "first_token", FirstToken(_attention_of(node)), query)


class RestoreAtExit(Pass):
    """Put dropped word vectors back at the exit, for a head that reads them all.

    Each comes back with the value that it had when it was dropped: as it entered that layer on the residual branch.

    Args:
        mean: for a head that reads nothing but their mean: each comes back as the mean of those that are left.
    """

    def __init__(self, *, mean: bool = False) -> None:
        self.mean = mean

    @property
    def preserves_computation(self) -> bool:
        return True

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
        _note_origins(module)
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
    projection = _projection(module, extracted.args[1])  # type: ignore[arg-type]
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


def _replace_attention(module: fx.GraphModule, node: fx.Node, name: str, extract: nn.Module, query: Any) -> None:
    graph = module.graph
    tokens = _tokens(module, node)
    module.add_module(name, extract.train(module.training))
    with graph.inserting_before(node):
        extracted = graph.call_module(name, (query, *node.args[1:3], tokens, *node.args[4:]))
        context, index, alive = (
            graph.call_function(operator.getitem, (extracted, position)) for position in range(len(Extracted._fields))
        )
    extracted.meta.update(context=context, index=index)
    merged = _merged(node)
    context.meta["val"] = merged.meta["val"]
    merged.replace_all_uses_with(context)
    tokens.replace_all_uses_with(alive, delete_user_cb=lambda user: user > extracted)
    alive.meta["tokens"] = True
    with graph.inserting_before(alive.next):
        branches = _gather_branches(module, context, index)
    extracted.meta.update(alive=alive, branches=branches)
    if node.meta["position"] is not None:
        _note_origins(module)


def _note_origins(module: fx.GraphModule) -> None:
    """Let what is alive know where it stood."""
    cast(Enter, module.get_submodule("enter")).origins = True


def _tokens(module: fx.GraphModule, attention_node: fx.Node) -> fx.Node:
    """What says which word vectors are alive where this attention stands; the first pass makes entry and exit."""
    graph, latest = module.graph, None
    for node in graph.nodes:
        if node is attention_node:
            break
        latest = node if node.meta.get("tokens") else latest
    return latest or _add_entry_and_exit(module)


def _add_entry_and_exit(module: fx.GraphModule) -> fx.Node:
    graph = module.graph
    hidden_states, mask = [node for node in graph.nodes if node.op == "placeholder"][:2]
    module.add_module("enter", Enter().train(module.training))
    with graph.inserting_after(mask):
        entered = graph.call_module("enter", (hidden_states, mask))
    with graph.inserting_after(entered):
        rows = graph.call_function(operator.getitem, (entered, 0))
    with graph.inserting_after(rows):
        tokens = graph.call_function(operator.getitem, (entered, 1))
    rows.meta["val"] = hidden_states.meta["val"]
    tokens.meta["tokens"] = True
    hidden_states.replace_all_uses_with(rows, delete_user_cb=lambda user: user is not entered)
    result = next(node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(result):
        result.args = (graph.call_function(leave, (result.args[0], tokens)),)
    return tokens


def _merged(node: fx.Node) -> fx.Node:
    """Follow an attention's output through the merging of its heads to [batch, tokens, width]."""
    while node.meta["val"].dim() != 3 or [user.target for user in node.users] == ["contiguous"]:
        users = list(node.users)
        if len(users) != 1 or not (users[0].op == "call_method" and users[0].target in SHAPE_METHODS):
            raise UnsupportedModelError(
                f"Attention output {node.name!r} isn't simply merged from its heads: this structure is not supported."
            )
        node = users[0]
    return node


def _projection(module: fx.GraphModule, query: fx.Node) -> fx.Node | None:
    """The linear module whose output the query is, when nothing but a change of shape stands between."""
    node = query
    while node.op == "call_method" and node.target in SHAPE_METHODS:
        node = node.args[0]  # type: ignore[assignment]
    is_linear = node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), nn.Linear)
    return node if is_linear else None


def _gather_branches(module: fx.GraphModule, context: fx.Node, index: fx.Node) -> list[fx.Node]:
    """Wherever kept rows meet rows of full length (the residual branch), gather the latter by the same index.

    Returns what was gathered, as it stands in the graph.
    """
    gathered: dict[fx.Node, fx.Node] = {}
    behind = descendants(context)
    for node in module.graph.nodes:
        if node not in behind or node is context:
            continue
        refuse_mixing(module, node)
        # A replaced attention asks Tokens, not the mask.
        sources = node.args[:3] if node.target is attention else node.all_input_nodes
        for source in sources:
            assert isinstance(source, fx.Node)
            if source in behind or not has_token_rows(source):
                continue
            if source not in gathered:
                with module.graph.inserting_after(max(source, index)):
                    gathered[source] = module.graph.call_function(gather, (source, index))
                gathered[source].meta["val"] = source.meta["val"]
            node.replace_input_with(source, gathered[source])
    return sorted(gathered)
