"""Put an eliminating module where attention stands in a traced encoder, and gather all that meets its rows alike.

What is replaced leaves in its node's ``meta`` what passes ask for: ``context`` and ``index``, its first two results;
``alive``, what says which word vectors are alive behind it; ``branches``, the rows of full length that go around it. A
node that says which are alive has ``tokens`` in its meta.
"""

from __future__ import annotations

import operator
from typing import Any, cast

from torch import fx, nn

from ..elimination.enter import Enter
from ..elimination.extract import Extracted
from ..elimination.rows import gather, leave
from ..errors import UnsupportedModelError
from .tokenwise import SHAPE_METHODS, descendants, has_token_rows, refuse_mixing
from .trace import attention

__all__ = ["note_origins", "projection_of", "replace_attention", "tokens_at"]


def replace_attention(module: fx.GraphModule, node: fx.Node, name: str, extract: nn.Module, query: Any) -> None:
    """Call an eliminating module in place of a layer's attention, on this query.

    Everything behind that met rows of full length meets the kept ones: UnsupportedModelError where it might mix rows.
    """
    graph = module.graph
    tokens = tokens_at(module, node)
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
        note_origins(module)


def note_origins(module: fx.GraphModule) -> None:
    """Let what is alive know where it stood."""
    cast(Enter, module.get_submodule("enter")).origins = True


def tokens_at(module: fx.GraphModule, attention_node: fx.Node) -> fx.Node:
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


def projection_of(module: fx.GraphModule, query: fx.Node) -> fx.Node | None:
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
