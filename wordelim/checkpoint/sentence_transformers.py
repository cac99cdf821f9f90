"""What sentence-transformers keeps beside a model: which modules follow it, and how an embedding is made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from huggingface_hub import snapshot_download
from torch import nn

from ..errors import CheckpointError, UnsupportedModelError
from ..system.inputs import UnreadableError, irregular, parse_json
from ..system.printable import short
from ..tasks.embedding import SIMILARITIES, Embedding, Pooling, embeds
from .embedding_layers import first_of, layer_of

__all__ = ["companions", "embedding_of", "pools_states"]

_MODULES, _SETTINGS = "modules.json", "config_sentence_transformers.json"
_PATTERNS = (_MODULES, _SETTINGS, "sentence_*_config.json", "[0-9]*_*/*.json", "[0-9]*_*/*.safetensors")
# Where it is said how texts are read: the first that is there and says something.
_READINGS = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Modes of pooling by their older names.
_FLAGS: Mapping[str, str] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Fields of the transformer's module that change what it reads or computes, with the values that change nothing.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "processing_kwargs": (None, {}),
    "query_expansion": (None, False, {}),
    "tokenizer_name_or_path": (None,),
    **dict.fromkeys(("config_args", "config_kwargs", "tokenizer_args", "processor_kwargs"), (None, {})),
}
_HARMLESS = {"add_pooling_layer", "attn_implementation", "dtype", "torch_dtype", "use_safetensors"}


def companions(model_dir: str | os.PathLike[str]) -> dict[str, bytes]:
    """Those files of a model directory or hub model, by their path in it; none where the hub can't be reached.

    Raises:
        CheckpointError: modules.json is damaged or names a folder elsewhere, or a file can't be read.
    """
    place = Path(model_dir).expanduser()
    if not place.is_dir():
        try:
            place = Path(snapshot_download(str(model_dir), allow_patterns=[_MODULES]))
            folders = [f"{folder}/*" for folder in _folders(place)]
            place = Path(snapshot_download(str(model_dir), allow_patterns=[*_PATTERNS, *folders]))
        except CheckpointError:
            raise
        except (OSError, ValueError):
            return {}
    found = {path for pattern in _PATTERNS for path in place.glob(pattern)}
    for folder in _folders(place):
        found |= {*(place / folder).rglob("*")}
    files = {}
    for path in sorted(found):
        name = path.relative_to(place).as_posix()
        if path.is_dir():
            continue
        try:
            reason = irregular(path)
            files[name] = b"" if reason else path.read_bytes()
        except OSError as error:
            reason = f"can't be read ({error.strerror})"
        if reason:
            raise CheckpointError(f"{path} {reason}: copy the directory again.")
    return files


def pools_states(files: Mapping[str, bytes]) -> bool:
    """Whether these files make an embedding of the encoder's states, whatever head the model's config still names.

    That of sentence-transformers/all-mpnet-base-v2 is one of pre-training, whose weights are not there.
    """
    if _MODULES not in files:
        return False
    kinds = {module["type"].rpartition(".")[2] for module in _modules(files)}
    return {"Transformer", "Pooling"} <= kinds


def _folders(place: Path) -> list[str]:
    """The folders that modules.json names, beside the model's own."""
    path = place / _MODULES
    if not path.is_file():
        return []
    return [module["path"] for module in _modules({_MODULES: path.read_bytes()}) if module["path"]]


def _modules(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    modules: list[dict[str, Any]] = _json(files, _MODULES, list)
    for module in modules:
        if not (isinstance(module, dict) and all(isinstance(module.get(name), str) for name in ("path", "type"))):
            raise CheckpointError(f"{_MODULES} of the model names a module without path and type: copy it again.")
        path = PurePosixPath(module["path"])
        if path.is_absolute() or {"..", "."} & {*module["path"].replace("\\", "/").split("/")}:
            raise CheckpointError(
                f"{_MODULES} of the model names the folder {short(module['path'])}, which is outside of it: give each "
                "module a folder in the model's."
            )
    return modules


def _json(files: Mapping[str, bytes], name: str, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """What a file says, as a list or an object; empty where there is no such file."""
    if name not in files:
        return kind()
    try:
        found = parse_json(files[name])
    except UnreadableError as error:
        raise CheckpointError(f"{name} of the model is damaged: it {error}; copy it again.") from error
    if not isinstance(found, kind):
        raise CheckpointError(
            f"{name} of the model is damaged: it holds no JSON {'list' if kind is list else 'object'}; copy it again."
        )
    return found


def embedding_of(files: Mapping[str, bytes], name: str, pooling: Pooling | None = None) -> Embedding:
    """How these files say that an embedding is made; the mean where they say nothing.

    Args:
        files: what :func:`companions` found.
        name: of the model's class. One with a head makes no embedding: of its files is asked no more than that they
            change nothing of what the head is given.
        pooling: the one asked for.

    Raises:
        CheckpointError: a file is damaged, or another pooling is asked for than it says.
        UnsupportedModelError: an embedding is made, or texts are read, in a way that isn't served.
    """
    if _MODULES not in files:
        if embeds(name):
            _refuse_pooling_alone(files)
        return Embedding(pooling or "mean")
    modules = [(_kind(module), module["path"]) for module in _modules(files)]
    if not modules or modules[0][0] != "Transformer" or modules[0][1]:
        raise UnsupportedModelError(
            f"{_MODULES} of the model doesn't begin with a Transformer in the model's own folder: write it anew with "
            "save_pretrained of sentence-transformers."
        )
    settings, reading = _json(files, _SETTINGS, dict), _reading(files, embeds=embeds(name))
    prompt = _prompt(settings)
    if not embeds(name):
        _refuse_for_head(name, modules, reading, prompt)
        return Embedding(pooling or "mean")
    stated, layers, whole = _pipeline(modules, files, prompt=prompt)
    if pooling is not None and pooling != stated:
        raise CheckpointError(
            f"The pooling {pooling!r} is asked for, but the model's own files say {stated!r}: leave the pooling out."
        )
    kind = settings.get("model_type") or "SentenceTransformer"
    if kind != "SentenceTransformer":
        raise UnsupportedModelError(
            f"{_SETTINGS} says that the model is a {short(kind)}, which isn't served without a head: give a "
            "SentenceTransformer."
        )
    similarity = settings.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise UnsupportedModelError(
            f"{_SETTINGS} sets similarity_fn_name to {short(similarity)}, which isn't served: use one of "
            f"{', '.join(SIMILARITIES)}."
        )
    size = settings.get("truncate_dim")
    if size is not None:
        layers, whole = (*layers, first_of(size, _SETTINGS)), [*whole, str(size).encode()]
    digest = hashlib.sha256(b"".join(whole)).hexdigest() if layers else ""
    return Embedding(stated, layers, similarity, prompt, digest=digest, **reading)


def _kind(module: Mapping[str, Any]) -> str:
    package, _, kind = module["type"].rpartition(".")
    if package.partition(".")[0] != "sentence_transformers":
        raise UnsupportedModelError(
            f"{_MODULES} of the model names a module {short(module['type'])}, which is code of its own and is not run: "
            "give a model of sentence-transformers' own modules."
        )
    return kind if isinstance(kind, str) else ""


def _reading(files: Mapping[str, bytes], *, embeds: bool) -> dict[str, Any]:
    """How texts are read: ``lower_case`` and ``max_length``."""
    name = next((name for name in _READINGS if _json(files, name, dict)), "")
    config = _json(files, name, dict)
    for key, plain in _PLAIN.items():
        if config.get(key) not in plain:
            raise UnsupportedModelError(
                f"{name} sets {key} to {short(config[key])}, which isn't served: write its effect into the model's own "
                "config and tokenizer."
            )
    for key in ("model_args", "model_kwargs"):
        asked = config.get(key) or {}
        odd = sorted({*asked} - _HARMLESS) if isinstance(asked, dict) else [short(asked)]
        if odd:
            raise UnsupportedModelError(f"{name} sets {', '.join(odd)} in {key}, which isn't served: leave it out.")
    text = (config.get("modality_config") or {"text": {}}).get("text")
    output = (text or {}).get("method_output_name", "last_hidden_state")
    if embeds and (text is None or text.get("method", "forward") != "forward" or output != "last_hidden_state"):
        raise UnsupportedModelError(
            f"{name} makes embeddings of {short(output)} in its modality_config, which isn't served: only the last "
            "hidden states of texts are."
        )
    longest, lower = config.get("max_seq_length"), config.get("do_lower_case") or False
    if longest is not None and not (isinstance(longest, int) and not isinstance(longest, bool) and longest > 0):
        raise CheckpointError(f"{name} sets max_seq_length to {short(longest)}: give a number of tokens, or null.")
    if not isinstance(lower, bool):
        raise CheckpointError(f"{name} sets do_lower_case to {short(lower)}: give true or false.")
    return {"lower_case": lower, "max_length": longest}


def _prompt(settings: Mapping[str, Any]) -> str:
    """What stands before each text unless a user says otherwise."""
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts") or {}
    if name is None:
        return ""
    prompt = prompts.get(name, 0) if isinstance(prompts, dict) else 0
    if not (prompt is None or isinstance(prompt, str)):
        raise CheckpointError(
            f"{_SETTINGS} sets default_prompt_name to {short(name)}, but has no such text among its prompts: add it, "
            "or set the name to null."
        )
    return prompt or ""


def _refuse_for_head(name: str, modules: list[tuple[str, str]], reading: Mapping[str, Any], prompt: str) -> None:
    """Refuse what a CrossEncoder would do to texts or scores beside what the model and its tokenizer do."""
    more = [kind for kind, _ in modules[1:]]
    asked = {
        f"the module {more[0] if more else ''} of {_MODULES}": more,
        f"the prompt {short(prompt)} of {_SETTINGS}": prompt,
        "do_lower_case of sentence_bert_config.json": reading["lower_case"],
        f"max_seq_length = {reading['max_length']} of sentence_bert_config.json": reading["max_length"],
    }
    for what, there in asked.items():
        if there:
            repair = "set model_max_length in tokenizer_config.json instead" if "max_seq" in what else "take it out"
            raise UnsupportedModelError(f"{what[0].upper()}{what[1:]} isn't applied for {name}: {repair}.")


def _pipeline(
    modules: list[tuple[str, str]], files: Mapping[str, bytes], *, prompt: str
) -> tuple[Pooling, tuple[nn.Module, ...], list[bytes]]:
    """The pooling, the layers behind it, and the content of the files that say what these are."""
    kinds = [kind for kind, _ in modules[1:]]
    if kinds.count("Pooling") != 1 or kinds[0] != "Pooling":
        raise UnsupportedModelError(
            f"{_MODULES} of the model says {' -> '.join(['Transformer', *kinds])}: one Pooling right behind the "
            "Transformer is served, and then Dense, LayerNorm, Normalize and Dropout."
        )
    pooling = _pooling(files, f"{modules[1][1]}/config.json", prompt=prompt)
    layers: list[nn.Module] = []
    whole: list[bytes] = []
    for kind, path in modules[2:]:
        place = f"{path}/"
        inside = {n.removeprefix(place): content for n, content in files.items() if path and n.startswith(place)}
        layer = layer_of(kind, path, _json(files, f"{path}/config.json", dict), inside)
        if layer is not None:
            layers.append(layer)
            whole += [kind.encode(), inside.get("config.json", b""), inside.get("model.safetensors", b"")]
    return pooling, tuple(layers), whole


def _refuse_pooling_alone(files: Mapping[str, bytes]) -> None:
    """Refuse a pooling that sentence-transformers wouldn't find."""
    path = next((path for path in files if path.endswith("_Pooling/config.json")), None)
    if path is not None and _pooling(files, path, prompt="") != "mean":
        raise CheckpointError(
            f"The model has {path}, but no {_MODULES} that names it, so that sentence-transformers takes the mean: "
            f"copy {_MODULES} too, or delete the folder."
        )


def _pooling(files: Mapping[str, bytes], path: str, *, prompt: str) -> Pooling:
    config = _json(files, path, dict)
    stated = config.get("pooling_mode")
    modes = [_FLAGS.get(flag, flag) for flag, on in config.items() if flag.startswith("pooling_mode_") and on]
    modes = [stated] if isinstance(stated, str) else list(stated) if isinstance(stated, list) else modes or ["mean"]
    if len(modes) != 1 or modes[0] not in get_args(Pooling):
        raise UnsupportedModelError(
            f"The model makes an embedding by {', '.join(map(str, modes)) or 'nothing known'} ({path}): only the "
            "mean of all tokens and the first token are served."
        )
    if prompt and config.get("include_prompt", True) is not True:
        raise UnsupportedModelError(
            f"The model leaves its prompt {short(prompt)} out of the pooling (include_prompt in {path}), which isn't "
            "served: set include_prompt to true, or default_prompt_name to null."
        )
    found: Pooling = modes[0]
    return found
