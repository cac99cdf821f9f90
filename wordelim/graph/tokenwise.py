"""What of a traced encoder works row by row, so that rows may be taken away before it."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from ..elimination.attention import split_heads
from ..elimination.extract import FirstToken, HardExtract
from ..elimination.rows import Tokens, first_rows, gather, leave
from ..errors import UnsupportedModelError
from .trace import SAMPLE_TOKENS, attention, is_rms_norm

__all__ = [
    "SHAPE_METHODS",
    "descendants",
    "first_queries",
    "has_token_rows",
    "refuse_mixing",
    "refuse_stale_rows",
]

# What computes each row from that row alone, so that dropping rows before it or after it is the same.
_TOKENWISE_MODULES = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Dropout, nn.Identity, nn.GELU, nn.ReLU, nn.SiLU, nn.Tanh)
_TOKENWISE_FUNCTIONS = {operator.add, operator.mul, operator.sub, operator.truediv, torch.add, torch.mul, torch.tanh}
SHAPE_METHODS = {"view", "reshape", "contiguous", "transpose", "permute", "flatten", "unflatten", "size"}


def first_queries(query: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """First rows of queries that stand as [batch, heads, tokens, head size]."""
    return tokens.first(query.transpose(1, 2)).transpose(1, 2)


# What passes put in.
_OURS = {attention, first_rows, first_queries, gather, leave, split_heads}


def descendants(node: fx.Node) -> set[fx.Node]:
    """A node and all that is computed from it."""
    found, stack = {node}, [node]
    while stack:
        for user in stack.pop().users:
            if user not in found:
                found.add(user)
                stack.append(user)
    return found


def has_token_rows(node: fx.Node) -> bool:
    """Whether a node's result is [batch, tokens, ...], at full length."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dim() > 1 and value.shape[1] == SAMPLE_TOKENS


def _is_token_count(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, int) and value == SAMPLE_TOKENS


def refuse_mixing(module: fx.GraphModule, node: fx.Node) -> None:
    """Refuse a node that might mix rows: dropping some before it would change the others."""
    if node.op == "call_module":
        submodule = module.get_submodule(str(node.target))
        known = isinstance(submodule, (*_TOKENWISE_MODULES, HardExtract, FirstToken)) or is_rms_norm(submodule)
        if known or type(submodule).__module__ == "transformers.activations":
            return
        what = f"{node.target} ({type(submodule).__name__})"
    elif node.op == "call_function":
        shape_of = node.target is getattr and node.args[1] == "shape"
        # A number of rows in a sum or product would be another one once rows are dropped.
        counts_rows = node.target in _TOKENWISE_FUNCTIONS and any(map(_is_token_count, node.all_input_nodes))
        if (node.target in _TOKENWISE_FUNCTIONS | _OURS and not counts_rows) or shape_of:
            return
        # Taking rows out of a tensor might be anything; taking numbers out of a shape is harmless.
        source = node.args[0] if node.target is operator.getitem else None
        if isinstance(source, fx.Node) and not isinstance(source.meta.get("val"), torch.Tensor):
            return
        what = f"{node.name} ({getattr(node.target, '__name__', node.target)})"
    elif node.op == "output" or (node.op == "call_method" and (node.target in SHAPE_METHODS or _splits_width(node))):
        return
    else:
        what = f"{node.name} ({node.target})"
    raise UnsupportedModelError(
        f"{what} stands behind attention and isn't known to work row by row: this structure is not supported."
    )


def _splits_width(node: fx.Node) -> bool:
    return node.target == "chunk" and bool(node.kwargs.get("dim") == -1)


def refuse_stale_rows(module: fx.GraphModule, extracted: fx.Node) -> None:
    """Refuse a graph in which something behind an elimination needs rows, or their number, of before it."""
    context, index = extracted.meta["context"], extracted.meta["index"]
    behind = descendants(context)
    for node in module.graph.nodes:
        if node not in behind or node is context or node.target is attention:
            continue
        for source in node.all_input_nodes:
            fresh = source in behind or (source.target is gather and source.args[1] is index)
            if not fresh and (has_token_rows(source) or _is_token_count(source)):
                raise UnsupportedModelError(
                    f"{node.name} needs {source.name} at its length before elimination: this structure is unsupported."
                )
