"""What makes a run the same as another: its model, its tokenizer, and how two descriptions of runs differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import Tensor, uint8
from transformers import PreTrainedModel

__all__ = ["differences", "digest_of_code", "digest_of_data", "digest_of_weights", "identity"]

# Of a config, what says where a model was and who wrote it, not what it computes.
_ELSEWHERE = ("_name_or_path", "transformers_version")
_TOKENIZER = (
    *("special_tokens_map", "model_max_length", "padding_side", "truncation_side", "model_input_names"),
    *("pad_token_type_id", "split_special_tokens"),
)
_DEEPEST = 6  # objects within objects that are looked into
_TOLD, _LONGEST = 5, 60  # differences that are told, and characters of a value


def digest_of_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of weights by name, in their order: names, types, shapes and values."""
    found = hashlib.sha256()
    for name, tensor in weights.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(uint8).numpy().data)
    return found.hexdigest()


def identity(model: PreTrainedModel, tokenizer: Any) -> dict[str, Any]:
    """What a run's result depends on of its model and tokenizer, as plain data: weights, config, and words."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in _ELSEWHERE}
    return {"model": digest_of_weights(model.state_dict()), "config": config, "tokenizer": _words(tokenizer)}


def _words(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # How it pads and cuts is set anew at every call.
        made = {**json.loads(backend.to_str()), "padding": None, "truncation": None}
    else:
        made = {"vocabulary": tokenizer.get_vocab(), "added": str(getattr(tokenizer, "added_tokens_decoder", None))}
    found = {name: getattr(tokenizer, name, None) for name in _TOKENIZER}
    return {"class": type(tokenizer).__name__, "words": digest_of_data(made), **found}


def digest_of_code(function: Any) -> str | None:
    """SHA-256 (hex) of what a function of the user's own does, with all that it was made with; None of a name."""
    return digest_of_data(_plain(function)) if callable(function) else None


def _plain(value: Any, depth: int = 0) -> Any:
    inner = partial(_plain, depth=depth + 1)
    if depth > _DEEPEST:
        return type(value).__qualname__
    if value is None or isinstance(value, (str, bytes, int, float)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return [inner(each) for each in value]
    if isinstance(value, CodeType):
        return [value.co_code.hex(), value.co_names, inner(value.co_consts)]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [inner(each) for each in (value.__code__, value.__defaults__, value.__kwdefaults__, cells)]
    if isinstance(value, MethodType):
        return [inner(value.__func__), inner(value.__self__)]
    if isinstance(value, partial):
        return [inner(value.func), inner(value.args), inner(value.keywords)]
    if isinstance(value, dict):
        return [[str(name), inner(each)] for name, each in value.items()]
    fields = {
        name: each for name, each in getattr(value, "__dict__", {}).items() if isinstance(each, (str, int, float))
    }
    return [type(value).__qualname__, inner(vars(type(value)).get("__call__")), fields]


def digest_of_data(data: Any) -> str:
    """SHA-256 (hex) of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two descriptions, in words; empty where nothing does."""
    told = [f"{name} was {_short(old)} and is {_short(new)}" for name, (old, new) in _differences(before, now).items()]
    more = len(told) - _TOLD
    return "; ".join(told[:_TOLD] + ([f"and {more} more"] if more > 0 else []))


def _differences(before: Any, now: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in dict.fromkeys([*before, *now]):
            found |= _differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
        return found
    return {} if before == now else {name: (before, now)}


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
