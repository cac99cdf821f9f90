"""Open configs, tokenizers and models with transformers: no code of theirs is run, and a refusal says what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.utils.hub import cached_file

from ..errors import CheckpointError, RetentionError, UnsupportedModelError
from ..system.inputs import UnreadableError, read_json
from ..system.printable import first_line, short
from .layout import refuse_adapter, refuse_irregular, refuse_other_layout
from .sentence_transformers import companions, pools_states
from .vetting import field_at_fault, refuse_config, refuse_shapes, shapes_in

__all__ = ["class_of", "existing", "hub_config", "load_config", "load_model", "load_tokenizer", "read_config"]

_PRE_TRAINING = ("ForMaskedLM", "ForPreTraining")
_TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json")
# How transformers' strict configs put what is wrong with a field.
_FIELD = re.compile(r"[Vv]alidation error for field '(?P<field>[^']+)':?\s+(?:\w+: )?(?P<reason>.*)", re.DOTALL)
_EXPECTED = re.compile(r"expected (?P<type>.+?), got ", re.DOTALL)


def existing(directory: str | os.PathLike[str]) -> Path:
    """A directory that is there; CheckpointError otherwise."""
    path = Path(directory).expanduser()
    if not is_there(path):
        raise CheckpointError(f"Model directory {str(directory)!r} doesn't exist.")
    if not path.is_dir():
        raise CheckpointError(f"{str(directory)!r} is a file: give the directory that holds config.json and weights.")
    return path


def is_there(path: Path) -> bool:
    """Whether anything stands at a path, which may be longer than the system allows."""
    try:
        return path.exists()
    except OSError:
        return False


def read_config(directory: Path) -> dict[str, Any]:
    """What the config.json of a directory says.

    Raises:
        CheckpointError: there is none or it is damaged, or the directory holds something else than one model.
    """
    refuse_other_layout(directory)
    path = directory / "config.json"
    try:
        config = read_json(path)
    except UnreadableError as error:
        raise CheckpointError(f"{path} can't be read: it {error}; copy the directory again.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is damaged: it holds no JSON object.")
    return config


def hub_config(name: str) -> dict[str, Any]:
    """The same of a model on the hub."""
    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError, RecursionError) as error:
        reason = first_line(error)
        raise CheckpointError(
            f"Model {name!r} is no directory here, and the hub doesn't give it ({reason}): check the path or the name."
        ) from error
    adapter = cached_file(
        name,
        "adapter_config.json",
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if adapter is not None:
        refuse_adapter(Path(adapter), name)
    return dict(config)


def load_config(directory: Path) -> Any:
    """The config of a directory, as an object of its class in transformers.

    Raises:
        CheckpointError: it is missing or damaged.
        UnsupportedModelError: transformers has no class for it.
    """
    config = read_config(directory)
    refuse_config(config, str(directory / "config.json"), {})
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # as in load_model
        if "auto_map" in config:
            raise UnsupportedModelError(_needs_code(str(directory), "config.json")) from error
        raise CheckpointError(_refusal(error, config, str(directory))) from error


def load_tokenizer(source: str | os.PathLike[str]) -> Any:
    """The tokenizer of a directory or hub name, by transformers' own classes.

    Raises:
        CheckpointError: there is none, it is damaged, or it needs code of its own.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        refuse_irregular(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path if path.exists() else source), trust_remote_code=False)
    except Exception as error:  # from broken files come errors of many classes, without a common base
        for name in filter(lambda name: (path / name).exists(), _TOKENIZER_FILES):
            try:
                content = read_json(path / name)
            except UnreadableError as reason:
                raise CheckpointError(
                    f"{source} has no tokenizer that loads: {name} {reason}; save one beside the model."
                ) from error
            if not isinstance(content, dict):
                raise CheckpointError(
                    f"{source} has no tokenizer that loads: {name} holds no JSON object; save one beside the model."
                ) from error
            if "auto_map" in content:
                raise CheckpointError(_needs_code(str(source), name)) from error
        raise CheckpointError(
            f"{source} has no tokenizer that loads ({_flat(error)}): save one beside the model."
        ) from error
    # For a directory without one, transformers makes one without words.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise CheckpointError(f"{source} has no tokenizer: save the model's own beside it with save_pretrained.")
    return tokenizer


def load_model(source: str, config: Mapping[str, Any], dtype: torch.dtype | str) -> PreTrainedModel:
    """The model of a directory or hub name, by the class that its config names in transformers.

    Args:
        config: what its config.json says.

    Raises:
        CheckpointError: the directory is damaged.
        RetentionError: its retention is damaged, or doesn't fit the model.
        UnsupportedModelError: transformers has no such class, or the model is of a kind that isn't served.
    """
    model_class = class_of(source, config)
    aliases = dict(getattr(model_class.config_class, "attribute_map", {}))
    refuse_config(config, str(Path(source) / "config.json") if Path(source).is_dir() else source, aliases)
    shapes = shapes_in(Path(source)) if Path(source).is_dir() else None
    try:
        loaded: Any = model_class.from_pretrained(
            source, dtype=dtype, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
    except (RetentionError, UnsupportedModelError):
        raise
    except SafetensorError as error:
        raise CheckpointError(
            f"The weights in {source} are damaged ({first_line(error)}): copy the directory again."
        ) from error
    except Exception as error:  # a damaged config.json fails anywhere in the model's own code, in any way
        if isinstance(error, CheckpointError):
            raise
        if shapes is not None:
            refuse_shapes(model_class, config, shapes, source)
        raise CheckpointError(_refusal(error, config, source, field_at_fault(model_class, config))) from error
    model: PreTrainedModel = loaded[0]
    info: dict[str, Any] = loaded[1]
    if shapes is not None and (info["missing_keys"] or info["mismatched_keys"] or info["unexpected_keys"]):
        refuse_shapes(model_class, config, shapes, source)
    if info["missing_keys"] or info["mismatched_keys"]:
        missing = sorted(str(key) for key in [*info["missing_keys"], *info["mismatched_keys"]])
        raise CheckpointError(
            f"The weights in {source} lack {len(missing)} that {model_class.__name__} needs (first: {missing[0]}): it "
            "is damaged, or was saved without its head."
        )
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"The weight {key} in {source} holds NaN or infinity: train or copy the model again.")
    return model


def class_of(source: str, config: Mapping[str, Any]) -> type[PreTrainedModel]:
    """The class that the config of a directory or hub name says its model is of; without the head of pre-training that
    the config of a sentence-transformers model still names.

    Raises:
        CheckpointError: the config names a class of another type of model.
        UnsupportedModelError: it names none, or one that transformers hasn't.
    """
    architectures = config.get("architectures")
    if not (isinstance(architectures, list) and architectures and isinstance(architectures[0], str)):
        raise UnsupportedModelError(
            f"The config.json of {source} names no class (architectures): write the model with save_pretrained of its "
            "class, such as BertForSequenceClassification."
        )
    name = architectures[0]
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel) and found.config_class is not None):
        raise UnsupportedModelError(
            f"{source} names the class {name!r}, which transformers doesn't have: remote code is not run."
        )
    stated, own = config.get("model_type"), found.config_class.model_type
    if isinstance(stated, str) and own and stated != own:
        raise CheckpointError(
            f"The config.json of {source} sets model_type to {stated!r}, but names the class {name}, which is of "
            f"{own!r}: correct one of them."
        )
    if name.endswith(_PRE_TRAINING) and pools_states(companions(source)):
        encoder: type[PreTrainedModel] = transformers.MODEL_MAPPING[found.config_class]  # type: ignore[assignment]
        return encoder
    return found


def _refusal(error: BaseException, config: Mapping[str, Any], source: str, field: str | None = None) -> str:
    """What transformers says, as a sentence that names the field, if it tells of one, and the repair."""
    said = _FIELD.search(str(error))
    if said is not None and said["field"] in config:
        expected = _EXPECTED.search(said["reason"])
        must = f"it must be of type {_flat(expected['type'])}" if expected else _flat(said["reason"])
        return (
            f"{source} can't be loaded: its config.json sets {said['field']} to {short(config[said['field']])}, but "
            f"{must}; write back what the model was saved with."
        )
    kind = "" if isinstance(error, (OSError, RuntimeError, ValueError)) else f"{type(error).__name__}: "
    if field is not None:
        return (
            f"{source} can't be loaded: its config.json sets {field} to {short(config[field])}, which transformers "
            f"doesn't take ({kind}{_flat(error)}); write back what the model was saved with."
        )
    return (
        f"{source} can't be loaded: {kind}{_flat(error)}; see that its config.json is the one that the weights were "
        "saved with."
    )


def _needs_code(source: str, name: str) -> str:
    return f"{source} needs code of its own (auto_map in {name}), which is never run: save it by one of transformers."


def _flat(error: object) -> str:
    """A message in one line of bounded length."""
    words = " ".join(str(error).split()).rstrip(".")
    return words if len(words) <= 200 else f"{words[:200]}..."
