"""What sentence-transformers keeps beside a model is applied, or refused by name; and none of it is lost."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import load_dense, save
from wordelim.checkpoint.sentence_transformers import companions, embedding_of
from wordelim.errors import CheckpointError, WordelimError
from wordelim.verbs.comparable import require_one_task
from wordelim.verbs.inspect import inspect_model
from wordelim.verbs.opened import open_model

SETTINGS, READING, MODULES = "config_sentence_transformers.json", "sentence_bert_config.json", "modules.json"
TRANSFORMER = {"path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
DENSE = {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}
DENSE_CONFIG = {"in_features": 32, "out_features": 4, "activation_function": "torch.nn.modules.activation.Tanh"}
CUSTOM = {"path": "2_Own", "type": "custom_st.Own"}


@pytest.fixture
def embedder(make_model_dir):
    """A model with a Dense behind the pooling."""
    directory = make_model_dir("bert", head="none")
    for name, content in {
        MODULES: [TRANSFORMER, POOLING, DENSE],
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
        "2_Dense/config.json": DENSE_CONFIG,
        SETTINGS: {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": None},
        READING: {"max_seq_length": 24, "do_lower_case": False},
    }.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    weights = {"linear.weight": torch.randn(4, 32), "linear.bias": torch.ones(4)}
    save_file(weights, directory / "2_Dense" / "model.safetensors")
    return directory


def written(name, **changes):
    def change(directory):
        data = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps({**data, **changes}))

    return change


def listed(*modules):
    return lambda directory: (directory / MODULES).write_text(json.dumps(list(modules)))


def raw(name, content):
    return lambda directory: (directory / name).write_bytes(content)


def other_weights(directory):
    save_file({"linear.weight": torch.ones(4, 16)}, directory / "2_Dense" / "model.safetensors")


def poisoned(directory):
    weights = {"linear.weight": torch.full((4, 32), torch.nan), "linear.bias": torch.ones(4)}
    save_file(weights, directory / "2_Dense" / "model.safetensors")


class Bomb:
    """Reading it would leave a file behind."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def pickled(directory):
    (directory / "2_Dense" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    (directory / "2_Dense" / "model.safetensors").unlink()


def fifo(directory):
    os.mkfifo(directory / "2_Dense" / "notes")


NOT_APPLIED = {
    "custom module": (listed(TRANSFORMER, POOLING, CUSTOM), "'custom_st.Own'.*is not run"),
    "custom transformer": (listed({**TRANSFORMER, "type": "custom_st.Own"}, POOLING), "'custom_st.Own'"),
    "unknown module": (listed(TRANSFORMER, POOLING, {**DENSE, "type": "sentence_transformers.models.CNN"}), "CNN"),
    "no pooling": (listed(TRANSFORMER, DENSE), "Transformer -> Dense: one Pooling"),
    "pooling twice": (listed(TRANSFORMER, POOLING, POOLING), "one Pooling"),
    "pooling behind": (listed(TRANSFORMER, DENSE, POOLING), "one Pooling"),
    "no transformer": (listed(POOLING), "doesn't begin with a Transformer"),
    "no module": (listed(), "doesn't begin with a Transformer"),
    "transformer elsewhere": (listed({**TRANSFORMER, "path": "0_Transformer"}, POOLING), "doesn't begin"),
    "folder outside": (listed(TRANSFORMER, {**POOLING, "path": "../1_Pooling"}), r"'\.\./1_Pooling', which is outside"),
    "absolute folder": (listed(TRANSFORMER, {**POOLING, "path": "/etc"}), "'/etc', which is outside"),
    "no path": (listed(TRANSFORMER, {"type": POOLING["type"]}), "without path and type"),
    "no list": (raw(MODULES, b"{}"), "modules.json .*holds no JSON list"),
    "deep modules": (raw(MODULES, b"[" * 100_000), "modules.json .*nests too deep"),
    "deep settings": (raw(SETTINGS, b'{"a":' * 100_000), f"{SETTINGS} .*nests too deep"),
    "digits": (raw(READING, b'{"max_seq_length": ' + b"9" * 5000 + b"}"), f"{READING} .*too many digits"),
    "no object": (raw("2_Dense/config.json", b"[]"), "2_Dense/config.json .*no JSON object"),
    "two poolings": (
        written("1_Pooling/config.json", pooling_mode_max_tokens=True),
        r"by mean, max \(1_Pooling/config.json\)",
    ),
    "max": (written("1_Pooling/config.json", pooling_mode="max"), "by max"),
    "pooling by number": (written("1_Pooling/config.json", pooling_mode=[3]), "by 3"),
    "prompt left out": (
        lambda d: (
            written("1_Pooling/config.json", include_prompt=False)(d),
            written(SETTINGS, prompts={"q": "query: "}, default_prompt_name="q")(d),
        ),
        "'query: ' out of the pooling .include_prompt in 1_Pooling",
    ),
    "no such prompt": (written(SETTINGS, default_prompt_name="q"), "default_prompt_name to 'q'"),
    "prompt by number": (written(SETTINGS, prompts={"q": 3}, default_prompt_name="q"), "default_prompt_name to 'q'"),
    "similarity": (written(SETTINGS, similarity_fn_name="jaccard"), "similarity_fn_name to 'jaccard'"),
    "kind": (written(SETTINGS, model_type="SparseEncoder"), "a 'SparseEncoder'"),
    "length": (written(READING, max_seq_length="x"), "max_seq_length to 'x'"),
    "no length": (written(READING, max_seq_length=0), "max_seq_length to 0"),
    "case": (written(READING, do_lower_case="x"), "do_lower_case to 'x'"),
    "processing": (written(READING, processing_kwargs={"text": {"max_length": 3}}), "sets processing_kwargs"),
    "other tokenizer": (written(READING, tokenizer_name_or_path="x"), "tokenizer_name_or_path to 'x'"),
    "model options": (written(READING, model_args={"hidden_act": "relu"}), "sets hidden_act in model_args"),
    "other output": (
        written(READING, modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}}),
        "embeddings of 'pooler_output'",
    ),
    "activation": (written("2_Dense/config.json", activation_function="custom.Own"), "'custom.Own'"),
    "activation with weights": (
        written("2_Dense/config.json", activation_function="torch.nn.PReLU"),
        "'torch.nn.PReLU'",
    ),
    "no activation": (written("2_Dense/config.json", activation_function="torch.nn.Linear"), "'torch.nn.Linear'"),
    "a function": (written("2_Dense/config.json", activation_function="torch.nn.functional.relu"), "functional.relu"),
    "size": (written("2_Dense/config.json", out_features="x"), "out_features to 'x'"),
    "giant": (written("2_Dense/config.json", out_features=10**12), "out_features to 1000000000000"),
    "bias": (written("2_Dense/config.json", bias=3), "bias to 3"),
    "other input": (written("2_Dense/config.json", module_input_name="token_embeddings"), "'token_embeddings'"),
    "other weights": (other_weights, "weights in 2_Dense are damaged, or other"),
    "damaged weights": (raw("2_Dense/model.safetensors", b"x" * 9), "weights in 2_Dense are damaged"),
    "NaN": (poisoned, "weights in 2_Dense hold NaN"),
    "pickle": (pickled, "2_Dense has its weights as a pickle only.*save it anew"),
    "no weights": (lambda d: (d / "2_Dense" / "model.safetensors").unlink(), r"2_Dense has no model\.safetensors"),
    "FIFO": (fifo, "notes isn't a regular file"),
}


# One each of the list of modules, of the settings, of the pooling and of the weights. All verbs open alike.
BY_EVERY_VERB = ("custom module", "similarity", "max", "pickle")


@pytest.mark.parametrize("name", NOT_APPLIED)
def test_what_isnt_applied_is_refused_by_name_before_anything_runs(embedder, make_texts, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    change, said = NOT_APPLIED[name]
    change(embedder)
    rows = pairs_of(make_texts)
    runs = [
        lambda: embedding_of(companions(embedder), "BertModel"),
        lambda: open_model(embedder).embedding,
        lambda: inspect_model(embedder),
        lambda: wordelim.probe(embedder, validation=rows),
        lambda: wordelim.bench(embedder, data=rows),
        lambda: wordelim.compress(embedder, train=rows, validation=rows, output=tmp_path / "out"),
    ]
    for run in runs if name in BY_EVERY_VERB else runs[:2]:
        with pytest.raises(WordelimError, match=said) as caught:
            run()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "exploded").exists()


def pairs_of(make_texts):
    texts = make_texts(8)
    rows = {"sentence1": texts["text"], "sentence2": make_texts(8, 1)["text"], "score": [float(i) for i in range(8)]}
    return type(texts).from_dict(rows)


def test_every_file_of_a_module_is_in_the_new_directory(embedder, make_texts, tmp_path):
    (embedder / "2_Dense" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    (embedder / "2_Dense" / "more").mkdir()
    (embedder / "2_Dense" / "more" / "notes.txt").write_bytes(b"\xff\x00")
    rows, out = pairs_of(make_texts), tmp_path / "out"
    options = {"keep": [1, 1, 1], "retrain": False, "max_drop": 100}
    wordelim.compress(embedder, train=rows, validation=rows, output=out, **options)
    files = [path for path in embedder.rglob("*") if path.is_file() and path.parent != embedder]
    assert len(files) == 5
    for path in [*files, embedder / MODULES, embedder / SETTINGS, embedder / READING]:
        assert (out / path.relative_to(embedder)).read_bytes() == path.read_bytes()
    assert companions(out).keys() == companions(embedder).keys()


def test_a_head_of_pre_training_that_the_config_still_names_is_left_out(embedder, make_texts, tmp_path):
    """As in sentence-transformers/all-mpnet-base-v2, whose weights are the encoder's alone."""
    written("config.json", architectures=["BertForMaskedLM"])(embedder)
    rows, out = pairs_of(make_texts), tmp_path / "out"
    found = wordelim.compress(
        embedder, train=rows, validation=rows, output=out, keep=[1, 0.5, 0.5], retrain=False, max_drop=100
    )
    assert found.report["task"] == "sentence-similarity"
    assert type(wordelim.load(out)).__name__ == "BertModel"
    (embedder / MODULES).unlink()
    with pytest.raises(CheckpointError, match=r"lack \d+ that BertForMaskedLM needs"):
        wordelim.compress(embedder, train=rows, validation=rows, output=tmp_path / "other", keep=[1, 1, 1])


def test_a_pooling_that_is_asked_for_goes_where_the_files_say_nothing(embedder, make_model_dir, make_texts):
    files = companions(embedder)
    assert embedding_of(files, "BertModel", "mean").pooling == "mean"
    with pytest.raises(WordelimError, match="'cls' is asked for, but the model's own files say 'mean'"):
        embedding_of(files, "BertModel", "cls")
    assert embedding_of({}, "BertModel", "cls").pooling == "cls"
    alone = {"1_Pooling/config.json": b'{"pooling_mode": "cls"}'}
    with pytest.raises(WordelimError, match=r"no modules\.json that names it"):
        embedding_of(alone, "BertModel")


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (READING, {"max_seq_length": 5}, "max_length: 5 and 24"),
        (SETTINGS, {"similarity_fn_name": "dot"}, "similarity: 'dot' and 'cosine'"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.Identity"}, "digest"),
    ],
)
def test_two_that_make_embeddings_in_other_ways_arent_compared(embedder, make_texts, tmp_path, name, changes, said):
    model = wordelim.eliminate_(load_dense(embedder), Retention.keep_all(3))
    tokenizer = open_model(embedder).tokenizer
    fast = open_model(save(model, tokenizer, tmp_path / "fast", companions=companions(embedder)))
    examples = fast.pose(pairs_of(make_texts))
    require_one_task(open_model(embedder), fast, examples)
    written(name, **changes)(embedder)
    with pytest.raises(WordelimError, match=f"make embeddings in different ways .*{said}"):
        require_one_task(open_model(embedder), fast, examples)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (SETTINGS, {"prompts": {"q": "query: "}, "default_prompt_name": "q"}, "prompt 'query: '"),
        (READING, {"do_lower_case": True}, "do_lower_case"),
        (READING, {"max_seq_length": 12}, "max_seq_length = 12.*set model_max_length"),
        (MODULES, None, "module Dense"),
    ],
)
def test_what_changes_a_heads_texts_or_scores_is_refused_too(make_model_dir, make_texts, name, changes, said):
    directory = make_model_dir("bert", labels=2)
    listed(TRANSFORMER)(directory)
    (directory / SETTINGS).write_text('{"model_type": "CrossEncoder", "activation_fn": "torch.nn.Sigmoid"}')
    (directory / READING).write_text('{"transformer_task": "sequence-classification"}')
    assert open_model(directory).embedding.layers == ()
    listed(TRANSFORMER, DENSE)(directory) if changes is None else written(name, **changes)(directory)
    texts = make_texts(8)
    for run in (
        lambda: open_model(directory).embedding,
        lambda: wordelim.probe(directory, validation=texts),
        lambda: wordelim.bench(directory, data=texts),
        lambda: wordelim.compress(directory, train=texts, validation=texts),
    ):
        with pytest.raises(WordelimError, match=f"(?i){said}"):
            run()
