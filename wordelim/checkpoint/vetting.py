"""Why a model directory can't be loaded, found in its own files: what config.json says, and what the weights hold."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from ..errors import CheckpointError, UnsupportedModelError
from ..retention import QUANT_METHOD
from ..system.inputs import UnreadableError, read_json
from ..system.printable import first_line, short

__all__ = ["Shapes", "field_at_fault", "refuse_config", "refuse_shapes", "shapes_in"]

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Of weights, by their names."""
_KEPT = "write back what the model was saved with"
# Far above what any encoder has, and built in seconds: a greater number is a slip, and would take hours or all memory.
_MOST = {"num_hidden_layers": 1024, "num_hidden_groups": 1024, "inner_group_num": 1024, "num_labels": 10**6}
_LEAST = {"num_hidden_layers": 0, "type_vocab_size": 0, "num_labels": 0}
_SIZES = (
    *("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size", "embedding_size"),
    *("max_position_embeddings", "type_vocab_size", "num_hidden_groups", "inner_group_num", "num_key_value_heads"),
    "num_labels",
)
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation", "classifier_activation", "pooler_hidden_act")
# Lists of modules in a model whose lengths aren't those of its layers, and the fields that say these.
_DEPTHS = {"albert_layer_groups": "num_hidden_groups", "albert_layers": "inner_group_num"}
_PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
_SWITCHES = ("output_hidden_states", "output_attentions", "return_dict", "is_decoder", "gradient_checkpointing")
_DIMENSIONS = (
    *("num_labels", "vocab_size", "max_position_embeddings", "type_vocab_size", "embedding_size", "hidden_size"),
    "intermediate_size",
)
# What ways of saving put before the name of each weight, and how to save without.
_PREFIXES = {
    "_orig_mod.": ("a model of torch.compile", "model._orig_mod"),
    "module.": ("a model inside DataParallel", "model.module"),
}


def refuse_config(config: Mapping[str, Any], path: str, aliases: Mapping[str, str]) -> None:
    """Refuse what a config.json says before a model is built of it.

    Args:
        path: what the file is called in the sentence.
        aliases: what fields are called in the config's class, by their usual names.

    Raises:
        CheckpointError: a field has a value that no model can have; the message names both.
        UnsupportedModelError: the model is quantized, or asks for code from the hub.
    """
    entry = config.get("quantization_config")
    method = entry.get("quant_method") if isinstance(entry, Mapping) else entry
    if entry is not None and method != QUANT_METHOD:
        raise UnsupportedModelError(
            f"{path} says that the model is quantized ({short(method or entry)}), which isn't served: give the model "
            "that it was quantized from, or save its dequantized weights without quantization_config."
        )
    for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        if "/" in str(config.get(name)):
            raise UnsupportedModelError(
                f"{path} sets {name} to {short(config[name])}, which is code from the hub and is not run: leave the "
                "field out."
            )
    problem = config.get("problem_type")
    if problem is not None and problem not in _PROBLEMS:
        raise CheckpointError(
            f"{path} sets problem_type to {short(problem)}: give one of {', '.join(_PROBLEMS)}, or leave it out."
        )
    for name in _SWITCHES:
        if not isinstance(config.get(name, False), (bool, type(None))):
            raise CheckpointError(f"{path} sets {name} to {short(config[name])}: give true or false.")
    if not isinstance(config.get("model_type", ""), str):
        raise CheckpointError(f"{path} sets model_type to {short(config['model_type'])}, which is no name: {_KEPT}.")

    def field(name: str) -> str:
        return name if name in config else aliases.get(name, name)

    for name, value, rule in _wrong(config, field):
        raise CheckpointError(f"{path} sets {name} to {short(value)}, but it must be {rule}: {_KEPT}.")
    wide, heads = (config.get(field(name)) for name in ("hidden_size", "num_attention_heads"))
    if _is_whole(wide) and _is_whole(heads) and wide % heads and config.get("head_dim") is None:
        raise CheckpointError(
            f"{path} sets {field('hidden_size')} to {wide}, which {field('num_attention_heads')} = {heads} doesn't "
            f"divide: {_KEPT}."
        )
    padding, words = config.get("pad_token_id"), config.get(field("vocab_size"))
    if "pad_token_id" in config and padding is not None and not (_is_whole(padding) and padding >= 0):
        raise CheckpointError(
            f"{path} sets pad_token_id to {short(padding)}, but it must be the id of a token: {_KEPT}."
        )
    if _is_whole(padding) and _is_whole(words) and padding >= words:
        raise CheckpointError(
            f"{path} sets pad_token_id to {padding}, but vocab_size = {words} has no such token: {_KEPT}."
        )


def _wrong(config: Mapping[str, Any], field: Callable[[str], str]) -> Iterator[tuple[str, Any, str]]:
    """Fields with a value that none may have, with the value and what it must be."""
    for canonical in _SIZES:
        name = field(canonical)
        least, most = _LEAST.get(canonical, 1), _MOST.get(canonical, 10**9)
        value = config.get(name)
        if value is not None and not (_is_whole(value) and least <= value <= most):
            yield name, value, f"a whole number from {least} to {most:,}"
    for name, value in config.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield name, value, "a finite number"
        if (
            re.search("(?<!token_)dropout(_prob)?$", name)
            and value is not None
            and not (_is_number(value) and 0 <= value <= 1)
        ):
            yield name, value, "a share between 0 and 1"
        if name in ("chunk_size_feed_forward", "local_attention"):
            least = int(name == "local_attention")
            if not (_is_whole(value) and value >= least):
                yield name, value, f"a whole number from {least}"
        if (
            name == "layer_types"
            and value is not None
            and not _are_layers(value, config.get(field("num_hidden_layers")))
        ):
            yield name, value, "a list of full_attention and sliding_attention, one for each layer"
        if name == "add_cross_attention" and value is True and not config.get("is_decoder"):
            yield name, value, "false in an encoder"
        if name in _ACTIVATIONS and isinstance(value, str) and value not in ACT2FN:
            yield name, value, "an activation of transformers, such as 'gelu'"
        if name in ("dtype", "torch_dtype") and value is not None and not _is_dtype(value):
            yield name, value, "a floating-point type of torch, such as 'float32'"


def _are_layers(value: Any, layers: Any) -> bool:
    known = isinstance(value, list) and all(each in ("full_attention", "sliding_attention") for each in value)
    return known and (not _is_whole(layers) or len(value) == layers)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_dtype(value: Any) -> bool:
    found = getattr(torch, value, None) if isinstance(value, str) else None
    return isinstance(found, torch.dtype) and found.is_floating_point


def shapes_in(directory: Path) -> Shapes | None:
    """The shapes of a directory's weights, from the headers of its safetensors files alone; None where it has none.

    Raises:
        CheckpointError: a file is damaged, or one that the index names is missing.
    """
    index = directory / "model.safetensors.index.json"
    files = [directory / "model.safetensors"]
    if not files[0].exists():
        if not index.exists():
            return None
        try:
            names = sorted({*read_json(index)["weight_map"].values()})
            files = [directory / Path(name).name for name in names]
        except (UnreadableError, KeyError, TypeError, AttributeError) as error:
            reason = error if isinstance(error, UnreadableError) else "has no map of weights to files"
            raise CheckpointError(f"{index} {reason}: copy the directory again.") from error
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"{index} names the file {path.name}, which isn't there: copy the directory again.")
        try:
            with safe_open(path, framework="pt") as header:
                shapes |= {name: tuple(header.get_slice(name).get_shape()) for name in header.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CheckpointError(
                f"The weights in {directory} are damaged ({path.name}: {first_line(error)}): copy the directory again."
            ) from error
    return shapes


def refuse_shapes(model_class: type[PreTrainedModel], config: Mapping[str, Any], shapes: Shapes, source: str) -> None:
    """Refuse weights of other shapes, or under other names, than a config makes them; what can't be built passes.

    Raises:
        CheckpointError: the message names the weight, both shapes, and the field that may be wrong.
    """
    for prefix, (what, repair) in _PREFIXES.items():
        if shapes and all(name.startswith(prefix) for name in shapes):
            raise CheckpointError(
                f"The weights in {source} were saved from {what} (their names begin with {prefix}): save "
                f"{repair} with save_pretrained."
            )
    of_adapter = next((name for name in shapes if ".lora_" in name or ".base_layer." in name), None)
    if of_adapter is not None:
        raise CheckpointError(
            f"The weights in {source} hold those of an adapter (such as {of_adapter}): merge it into the model with "
            "peft's merge_and_unload(), and save that with save_pretrained."
        )
    model = _empty(model_class, config)
    if model is None:  # whoever asks has an error that says more
        return
    built, made = model.config, {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    prefix = next(iter(shapes), "").partition(".")[0] + "."
    inside = {name.removeprefix(prefix) for name in shapes}
    if all(name.startswith(prefix) for name in shapes) and not made.keys() & shapes.keys() and made.keys() & inside:
        raise CheckpointError(
            f"The weights in {source} were saved from inside another module (their names begin with {prefix}): save "
            "the model alone, with its own save_pretrained."
        )
    layers = getattr(built, "num_hidden_layers", None)
    for name, deep in _depths(made).items():
        held_layers = _depths(shapes).get(name, deep)
        field = _DEPTHS.get(name, "num_hidden_layers" if deep == layers else "")
        if field and held_layers != deep:
            raise CheckpointError(
                f"The config.json of {source} says {field} = {deep}, but the weights hold {held_layers} "
                "of them: correct it, or copy the directory again."
            )
    for name, shape in made.items():
        held = shapes.get(name, shape)
        if held == shape:
            continue
        fields = _fields_of(built, shape, held)
        raise CheckpointError(
            f"The weight {name} in {source} is {list(held)}, but its config.json makes it {list(shape)}: "
            f"{f'correct {fields}' if fields else 'write back the config that the model was saved with'}, or copy the "
            "directory again."
        )


def field_at_fault(model_class: type[PreTrainedModel], config: Mapping[str, Any]) -> str | None:
    """The field of a config without which a model can be built, though not with it; None where there isn't one."""
    if _empty(model_class, config) is not None:
        return None
    without = ({other: value for other, value in config.items() if other != name} for name in config)
    return next(
        (name for name, rest in zip(config, without, strict=True) if _empty(model_class, rest) is not None), None
    )


def _empty(model_class: type[PreTrainedModel], config: Mapping[str, Any]) -> PreTrainedModel | None:
    """A model of a config, without memory for its weights; None where it can't be built."""
    try:
        assert model_class.config_class is not None
        with torch.device("meta"):
            return model_class(model_class.config_class.from_dict(copy.deepcopy(dict(config))))
    except Exception:  # a damaged config fails anywhere in the model's own code, in any way
        return None


def _depths(names: Iterable[str]) -> dict[str, int]:
    """How many modules there are of each that is numbered, by the name of their list."""
    found: dict[str, int] = {}
    for match in filter(None, (re.match(r".*?(\w+)\.(\d+)\.", name) for name in names)):
        found[match[1]] = max(found.get(match[1], 0), int(match[2]) + 1)
    return found


def _fields_of(config: Any, made: tuple[int, ...], held: tuple[int, ...]) -> str:
    """The fields of a config that may have made a shape another than the one that is held."""
    wrong = {size: held[axis] for axis, size in enumerate(made) if len(made) == len(held) and size != held[axis]}
    found = [
        f"{'id2label' if name == 'num_labels' else name} ({size} here, {wrong[size]} in the weights)"
        for name in _DIMENSIONS
        if (size := getattr(config, name, None)) in wrong
    ]
    return " or ".join(found)
