"""Whether modules that a captured graph has built in are still what they were."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["Watched"]


class Watched:
    """Modules of a root, found by their paths, and what may change of them.

    Values that change in place need no watch, for a graph reads them where they lie.

    Args:
        root: in which they are.
        paths: of modules whose parameters are read.
        moded: of modules that do something else in training.
    """

    def __init__(self, root: nn.Module, paths: Iterable[str], moded: Iterable[str]) -> None:
        places = {}
        for path in (paths := list(dict.fromkeys(paths))):
            parent = root
            for name in path.split("."):
                child = parent.get_submodule(name)
                places[id(parent), name] = (parent._modules, name, child)
                parent = child
        self._places = list(places.values())
        self.modules = [root.get_submodule(path) for path in paths]
        self._moded = [root.get_submodule(path) for path in moded]
        self._parameters = [(each._parameters, name) for each in self.modules for name in each._parameters]

    def in_place(self) -> bool:
        """Whether the same modules still stand there."""
        return all(modules.get(name) is module for modules, name, module in self._places)

    def plain(self) -> bool:
        """Whether calling the modules is what their class says, and none is in training."""
        for module in self.modules:
            state = module.__dict__
            if state["_forward_hooks"] or state["_forward_pre_hooks"] or "forward" in state:
                return False
        return not any(module.training for module in self._moded)

    def stamp(self) -> tuple[tuple[int, torch.dtype | None], ...]:
        """Where each parameter's values lie, and of what type they are."""
        found = (parameters.get(name) for parameters, name in self._parameters)
        return tuple((0, None) if each is None else (each.data_ptr(), each.dtype) for each in found)
