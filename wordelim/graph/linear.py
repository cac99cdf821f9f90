"""Let linear modules on packed rows be computed in the way that is fastest for few rows."""

from __future__ import annotations

from torch import fx, nn

from ..elimination.linear import linear

__all__ = ["call_linears", "linear_of"]


def call_linears(module: fx.GraphModule) -> None:
    """Send every call of a linear module in a rewritten graph through :func:`.elimination.linear.linear`.

    The module stays where it is and is looked up at every call, so that one put in its place (quantised, with an
    adapter) is what is called.
    """
    graph, tokens = module.graph, None
    for node in list(graph.nodes):
        tokens = node if node.meta.get("tokens") else tokens
        if tokens is None or node.op != "call_module" or not isinstance(_submodule(module, node), nn.Linear):
            continue
        with graph.inserting_before(node):
            called = graph.get_attr(str(node.target))
            result = graph.call_function(linear, (called, node.args[0], tokens))
        result.meta = node.meta
        node.replace_all_uses_with(result)
        graph.erase_node(node)
    graph.lint()


def linear_of(module: fx.GraphModule, node: fx.Node) -> nn.Linear | None:
    """The linear module that a node calls, or None when it calls something else."""
    if node.target is linear:
        node = node.args[0]  # type: ignore[assignment]
    elif node.op != "call_module":
        return None
    called = _submodule(module, node)
    return called if isinstance(called, nn.Linear) else None


def _submodule(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    return module.get_submodule(str(node.target))
