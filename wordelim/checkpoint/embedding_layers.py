"""Modules of sentence-transformers that an embedding goes through, read from their files and from no pickle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from ..errors import CheckpointError, UnsupportedModelError
from ..system.printable import short

__all__ = ["first_of", "layer_of"]

_NAMED = "sentence_embedding"
_ACTIVATION = re.compile(r"torch\.nn\.(?:modules\.(?:activation|linear)\.)?(\w+)")


class _Dense(nn.Module):
    """A linear map and an activation, beside which the input may go through as it is or by a map of its own."""

    def __init__(self, wide: int, out: int, *, bias: bool, activation: nn.Module, residual: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(wide, out, bias=bias)
        self.activation = activation
        self.around = residual
        if residual and wide != out:
            self.residual = nn.Linear(wide, out, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        found: Tensor = self.activation(self.linear(vectors))
        if not self.around:
            return found
        return found + (self.residual(vectors) if hasattr(self, "residual") else vectors)


class _LayerNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.norm(vectors)  # type: ignore[no-any-return]


class _Normalize(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=-1)


class _First(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors[..., : self.size]


def first_of(size: Any, name: str) -> nn.Module:
    """What cuts vectors [sequences, size] to their first numbers; CheckpointError where a file asks for no number."""
    return _First(_size(name, {"truncate_dim": size}, "truncate_dim"))


def layer_of(kind: str, path: str, config: Mapping[str, Any], files: Mapping[str, bytes]) -> nn.Module | None:
    """A module as it works in inference, from vectors [sequences, size] to the same of another size; None if it's idle.

    Args:
        kind: the name of its class in sentence-transformers.
        path: its folder, for messages.
        config: what its config.json says.
        files: what else stands in the folder.

    Raises:
        CheckpointError: its config or its weights are damaged.
        UnsupportedModelError: it can't be applied, or its weights are a pickle.
    """
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, _NAMED):
            raise UnsupportedModelError(
                f"{path}/config.json sets {key} to {short(config[key])}, which isn't served: only {_NAMED!r} is."
            )
    if kind == "Dropout":
        return None
    if kind == "Normalize":
        return _Normalize()
    if kind == "LayerNorm":
        return _filled(_LayerNorm(_size(f"{path}/config.json", config, "dimension")), path, files)
    if kind == "Dense":
        wide, out = (_size(f"{path}/config.json", config, name) for name in ("in_features", "out_features"))
        dense = _Dense(
            wide,
            out,
            bias=_flag(path, config, "bias", True),
            activation=_activation(path, config.get("activation_function", "torch.nn.Tanh")),
            residual=_flag(path, config, "use_residual", False),
        )
        return _filled(dense, path, files)
    raise UnsupportedModelError(
        f"modules.json of the model names a {kind} ({path}), which isn't applied: behind the pooling Dense, LayerNorm, "
        "Normalize and Dropout are served."
    )


def _size(path: str, config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not (isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20):
        raise CheckpointError(f"{path} sets {name} to {short(value)}: give the size that it was saved with.")
    return value


def _flag(path: str, config: Mapping[str, Any], name: str, usual: bool) -> bool:
    value = config.get(name, usual)
    if not isinstance(value, bool):
        raise CheckpointError(f"{path}/config.json sets {name} to {short(value)}: give true or false.")
    return value


def _activation(path: str, name: Any) -> nn.Module:
    named = _ACTIVATION.fullmatch(name) if isinstance(name, str) else None
    found = getattr(nn, named[1], None) if named else None
    try:
        if isinstance(found, type) and found.__module__ in (nn.Tanh.__module__, nn.Identity.__module__):
            made = found()
            if isinstance(made, nn.Module) and not list(made.parameters()):
                return made
    except TypeError:  # one that needs arguments, or is no activation
        pass
    raise UnsupportedModelError(
        f"{path}/config.json sets activation_function to {short(name)}, which isn't applied: use an activation of "
        "torch.nn without weights, such as torch.nn.modules.activation.Tanh."
    )


def _filled(layer: nn.Module, path: str, files: Mapping[str, bytes]) -> nn.Module:
    """The module with its weights, in inference and not to be trained."""
    content = files.get("model.safetensors")
    if content is None:
        if any(name.endswith(".bin") for name in files):
            raise UnsupportedModelError(
                f"{path} has its weights as a pickle only, which can run code when read: load the model with "
                "sentence-transformers once and save it anew, which writes model.safetensors."
            )
        raise CheckpointError(f"{path} has no model.safetensors: copy the directory again.")
    try:
        weights = load(content)
        layer.load_state_dict({name: weight.float() for name, weight in weights.items()})
    except (SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"The weights in {path} are damaged, or other than its config.json says ({reason[:200]}): copy the "
            "directory again."
        ) from error
    if not all(bool(torch.isfinite(weight).all()) for weight in layer.state_dict().values()):
        raise CheckpointError(f"The weights in {path} hold NaN or infinity: train or copy the model again.")
    return layer.requires_grad_(False).eval()
