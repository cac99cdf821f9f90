"""A model that can't be loaded is refused in one sentence that names the file or field, the value and the repair."""

import json
import re
import shutil
from contextlib import nullcontext, suppress
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import is_compressed, load_dense
from wordelim.checkpoint.loading import load_tokenizer
from wordelim.checkpoint.vetting import shapes_in
from wordelim.cli import app
from wordelim.errors import CheckpointError, DataError, WordelimError
from wordelim.evaluation.examples import check_tokenizer

NAN, INFINITE = float("nan"), float("inf")
# Fields that the tiny models' config.json has or may have, with values that none may have.
WRONG = {
    "hidden_size": ["x", -1, 0, 1.5, 7, 10**6, True, [], {}],
    "num_attention_heads": ["x", -1, 0, 1.5, 7, True, []],
    "num_hidden_layers": ["x", -1, 1.5, 2, 7, 10**9, True, []],
    "intermediate_size": ["x", -1, 0, 1.5, 7, 10**6, []],
    "vocab_size": ["x", -1, 0, 1.5, 7, 10**6, 10**15, []],
    "max_position_embeddings": ["x", 0, 1.5, 7, 10**6, []],
    "type_vocab_size": ["x", -1, 1.5, 7, 10**6, []],
    "pad_token_id": ["x", 1.5, 10**6, []],
    "hidden_act": ["nope", 7, []],
    "hidden_dropout_prob": ["x", -1, 1.5, INFINITE, NAN, []],
    "attention_probs_dropout_prob": ["x", 7],
    "layer_norm_eps": ["x", 7, INFINITE],
    "initializer_range": ["x", []],
    "use_cache": ["x" * 5000, []],
    "dtype": ["x", "int8", 7, []],
    "architectures": ["x", None, 7, [], [3]],
    "model_type": [7, []],
    "num_labels": ["x", -1, 10**9],
    "quantization_config": [{"quant_method": "gptq", "bits": 4}, {"load_in_8bit": True}, [1], "awq"],
    "attn_implementation": ["someone/kernel", "x", 7],
    "id2label": ["x", 7, ["a"], {"a": "b"}, {"0": "a"}],
    "layer_types": ["x", 7, []],
    "add_cross_attention": [True, "x"],
}


def config_of(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return directory


@pytest.fixture(scope="module")
def dense(make_model, make_tokenizer, tmp_path_factory):
    """A good BERT. Change nothing in it."""
    directory = tmp_path_factory.mktemp("dense") / "dense"
    make_model("bert").save_pretrained(directory)
    make_tokenizer("bert").save_pretrained(directory)
    return directory


@pytest.fixture
def own(dense, tmp_path):
    """A copy of it."""
    return shutil.copytree(dense, tmp_path / "own")


@pytest.mark.parametrize("field", WRONG)
def test_a_field_that_no_model_can_have_is_named_with_its_value(own, field):
    before = (own / "config.json").read_text()
    for value in WRONG[field]:
        config_of(own, **{field: value})
        with pytest.raises(WordelimError) as caught:
            load_dense(own)
        message = str(caught.value)
        assert field in message or (field, "quantized" in message) == ("quantization_config", True), (value, message)
        assert "\n" not in message
        assert len(message) < 400 + 2 * len(str(own)), message
        assert not re.search("Validation error|above report|pip install", message)
        assert str(own) in message
        (own / "config.json").write_text(before)


@pytest.mark.parametrize("field", ["hidden_size", "vocab_size", "intermediate_size", "num_hidden_layers"])
def test_a_field_that_is_missing_is_compared_with_the_weights(own, edit_json, field):
    edit_json(own / "config.json", lambda config: config.pop(field))
    with pytest.raises(CheckpointError, match=rf"{field}.*(in the weights|weights hold)"):
        load_dense(own)


@pytest.mark.parametrize("family", ["distilbert", "albert"])
def test_fields_are_known_by_their_other_names(make_model_dir, family):
    field = {"distilbert": "n_layers", "albert": "num_hidden_groups"}[family]
    directory = config_of(make_model_dir(family), **{field: 10**9})
    with pytest.raises(CheckpointError, match=f"sets {field} to 1000000000, but it must be a whole number"):
        load_dense(directory)


def test_a_head_of_another_size_is_named_by_its_labels(own):
    config_of(own, id2label={str(i): str(i) for i in range(5)}, label2id={str(i): i for i in range(5)})
    with pytest.raises(
        CheckpointError, match=r"classifier\.weight .* is \[3, 32\].*\[5, 32\]: correct id2label \(5 here"
    ):
        load_dense(own)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_weights_under_the_names_of_a_wrapper_are_named_as_such(own, prefix):
    weights = load_file(own / "model.safetensors")
    save_file({prefix + name: weight for name, weight in weights.items()}, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"names begin with {prefix}\): save model\.{prefix[:-1]} with"):
        load_dense(own)


def test_weights_from_inside_a_module_of_the_users_are_named_as_such(own):
    weights = load_file(own / "model.safetensors")
    named = {f"model.{name}": weight for name, weight in weights.items()}
    save_file(named, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"names begin with model\.\): save the model alone"):
        load_dense(own)


@pytest.mark.parametrize("how", ["beside", "in place"])
def test_weights_of_an_adapter_among_a_models_are_named_as_such(own, how):
    weights = load_file(own / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query"
    if how == "in place":
        weights[f"{name}.base_layer.weight"] = weights.pop(f"{name}.weight")
    else:
        weights[f"{name}.lora_A.default.weight"] = torch.ones(2, 32)
    save_file(weights, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"hold those of an adapter \(such as .*merge_and_unload"):
        load_dense(own)


def test_shards_are_held_to_the_same(dense, make_tokenizer, tmp_path):
    directory = tmp_path / "shards"
    load_dense(dense).save_pretrained(directory, max_shard_size="20KB")
    index = directory / "model.safetensors.index.json"
    assert index.exists()
    assert shapes_in(directory) == shapes_in(dense)
    load_dense(directory)
    config_of(directory, vocab_size=99)
    with pytest.raises(CheckpointError, match=r"correct vocab_size \(99 here, 64 in the weights\)"):
        load_dense(directory)
    config_of(directory, vocab_size=64)
    content = json.loads(index.read_text())
    for damage in ("{", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', '{"a":' * 50_000 + "1" + "}" * 50_000):
        index.write_text(damage)
        with pytest.raises(CheckpointError, match=r"index\.json .*copy the directory again"):
            load_dense(directory)
    index.write_text(json.dumps(content))
    next(directory.glob("model-00002*")).unlink()
    with pytest.raises(CheckpointError, match=r"names the file model-00002.*, which isn't there"):
        load_dense(directory)


# --- what is no model ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["all", "no weights", "alone"])
@pytest.mark.parametrize("load", [load_dense, wordelim.load, is_compressed])
def test_an_adapter_is_named_whether_or_not_peft_is_here(own, left, load):
    (own / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "me/base"}')
    save_file({"base_model.x.lora_A.weight": torch.ones(2, 2)}, own / "adapter_model.safetensors")
    if left != "all":
        (own / "model.safetensors").unlink()
    if left == "alone":
        (own / "config.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"holds an adapter \('LORA', adapter_config\.json\) of 'me/base'.*merge_and"
    ):
        load(own)
    (own / "adapter_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"holds an adapter .*merge_and_unload"):
        load(own)
    (own / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors\): merge it"):
        load(own)


@pytest.mark.parametrize("load", [load_dense, wordelim.load, is_compressed])
def test_a_model_in_a_folder_is_named_with_the_folder(dense, tmp_path, load):
    directory = tmp_path / "old"
    shutil.copytree(dense, directory / "0_Transformer")
    with pytest.raises(CheckpointError, match=r"in a folder \(0_Transformer\): give .*old/0_Transformer\.$"):
        load(directory)
    for number in (90, 200):
        shutil.copytree(dense, directory / f"checkpoint-{number}")
    with pytest.raises(CheckpointError, match=r"give .*old/checkpoint-200\.$"):
        load(directory)
    for number in (90, 200):
        shutil.rmtree(directory / f"checkpoint-{number}")
    (directory / "modules.json").write_text("[]")
    with pytest.raises(CheckpointError, match="write the directory anew with SentenceTransformer"):
        load(directory)
    (directory / "0_Transformer" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json: it isn't a model directory"):
        load(directory)


# --- tokenizers --------------------------------------------------------------------------------------------------

TOKENIZERS = {
    "model_input_names": [["input_ids"], [], ["attention_mask", "input_ids"]],
    "model_max_length": ["x", -1, 0, []],
    "tokenizer_class": [7],
    "pad_token": [7, None],
    "padding_side": ["left", "x"],
}


@pytest.mark.parametrize("field", TOKENIZERS)
def test_a_tokenizer_that_cant_serve_is_refused_before_anything_runs(own, make_texts, field):
    texts, before = make_texts(8), (own / "tokenizer_config.json").read_text()
    for value in TOKENIZERS[field]:
        (own / "tokenizer_config.json").write_text(json.dumps({**json.loads(before), field: value}))
        with pytest.raises(WordelimError) as caught:
            wordelim.compress(own, train=texts, validation=texts, keep=[1, 1, 0], progress=ran)
        assert "\n" not in str(caught.value)


def ran(stage, share):
    raise AssertionError(stage)


def test_a_tokenizer_in_memory_too(make_tokenizer):
    tokenizer = make_tokenizer("bert")
    names = tokenizer.model_input_names
    try:
        tokenizer.model_input_names = ["input_ids"]
        with pytest.raises(DataError, match=r"model_input_names are \['input_ids'\].*attention_mask"):
            check_tokenizer(tokenizer)
    finally:
        tokenizer.model_input_names = names
    check_tokenizer(tokenizer)


# --- no code of a model's is run, and nobody is asked --------------------------------------------------------------

OWN = {"AutoConfig": "code.Own", "AutoModel": "code.Own", "AutoModelForSequenceClassification": "code.Own"}
# What names code of its own, and whether a class of transformers is named too.
NAMES_CODE = {
    "known": (lambda config: config.update(auto_map=OWN), lambda tokenizer: tokenizer, True),
    "tokenizer, known": (
        lambda config: config,
        lambda tokenizer: tokenizer.update(auto_map={"AutoTokenizer": ["code.Own", "code.Own"]}),
        True,
    ),
    "class": (lambda config: config.update(auto_map=OWN, architectures=["Own"]), lambda tokenizer: tokenizer, False),
    "family": (
        lambda config: config.update(auto_map=OWN, model_type="own", architectures=["Own"]),
        lambda tokenizer: tokenizer,
        False,
    ),
    "tokenizer": (
        lambda config: config.update(model_type="own", auto_map=OWN),
        lambda tokenizer: tokenizer.update(
            auto_map={"AutoTokenizer": ["code.Own", "code.Own"]}, tokenizer_class="OwnTokenizer"
        ),
        False,
    ),
}


@pytest.fixture
def trap(tmp_path, edit_json, monkeypatch):
    """``trap(directory, form)``: make a directory name code; nothing may run it, nor ask whether to."""
    ran = tmp_path / "ran"

    def asked(*args):
        ran.write_text("the user was asked")
        return "y"

    monkeypatch.setattr("builtins.input", asked)

    def make(directory, form):
        config, tokenizer, known = NAMES_CODE[form]
        (directory / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\nclass OwnTokenizer: pass\n")
        edit_json(directory / "config.json", config)
        edit_json(directory / "tokenizer_config.json", tokenizer)
        return known

    yield make
    assert not ran.exists()


@pytest.fixture(scope="module")
def fast(dense, make_tokenizer, tmp_path_factory):
    """One compressed of it. Change nothing in it."""
    model = wordelim.eliminate_(load_dense(dense), Retention.fractions([1, 1, 0]))
    return wordelim.checkpoint.save(model, make_tokenizer("bert"), tmp_path_factory.mktemp("fast") / "fast")


COMMANDS = {
    "inspect": ("inspect", "{dense}"),
    "inspect, compressed": ("inspect", "{fast}"),
    "probe": ("probe", "{dense}", "--validation", "{data}", "--examples", "8"),
    "plan": ("compress", "{dense}", "--train", "{data}", "--validation", "{data}", "-o", "{out}", "--dry-run"),
    "compress": (
        *("compress", "{dense}", "--train", "{data}", "--validation", "{data}", "-o", "{out}"),
        *("--keep", "1,1,0", "--no-retrain", "--max-drop", "100"),
    ),
    "check": ("check", "{dense}", "{fast}", "--data", "{data}", "--max-drop", "100"),
    "bench": (
        "bench",
        "{dense}",
        "{fast}",
        "--data",
        "{data}",
        "--texts",
        "4",
        "--latency-texts",
        "0",
        "--rounds",
        "1",
    ),
    "explain": ("explain", "{fast}", "good film"),
    "export": ("export", "{fast}", "-o", "{out}"),
    "push": ("push", "{fast}", "me/fast"),
    "check, exported": ("check", "{dense}", "{exported}", "--data", "{data}"),
    "bench, exported": ("bench", "{dense}", "{exported}", "--data", "{data}"),
}


@pytest.mark.parametrize("form", NAMES_CODE)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_a_models_code_or_asks(dense, fast, trap, make_texts, tmp_path, command, form, monkeypatch):
    monkeypatch.setattr("wordelim.verbs.push.HfApi", stopped)
    if command == "export" and NAMES_CODE[form][2]:
        monkeypatch.setattr(
            import_module("wordelim.verbs.export"), "write_program", stopped
        )  # what opens a model lies before it
    places = {"data": tmp_path / "data.csv", "out": tmp_path / "out"}
    make_texts(12).to_csv(places["data"])
    for name, source in {"dense": dense, "fast": fast, "exported": dense}.items():
        places[name] = shutil.copytree(source, tmp_path / name)
        known = trap(places[name], form)
    (places["exported"] / "model.onnx").write_bytes(b"")
    done = CliRunner().invoke(app, [part.format(**places) for part in COMMANDS[command]], input="y\n" * 50)
    if not known or command == "push":
        assert done.exit_code == 1, done.output
        assert done.stderr.rstrip().rpartition("\n")[2].startswith("error: ")
        assert "unexpected" not in done.stderr
    elif "export" not in command:
        assert done.exit_code == 0, done.output + done.stderr


def stopped(*args, **options):
    raise CheckpointError("far enough")


@pytest.mark.parametrize("form", NAMES_CODE)
def test_nor_does_anything_in_python(fast, trap, tmp_path, form):
    directory = shutil.copytree(fast, tmp_path / "fast")
    known = trap(directory, form)
    for open_ in (wordelim.load, load_tokenizer):
        with nullcontext() if known else suppress(WordelimError):
            open_(directory)
