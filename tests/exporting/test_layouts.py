"""Exported directories as the servers read them that run programs, by their documented rules."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig
from typer.testing import CliRunner

import wordelim
from wordelim import Retention, eliminate_
from wordelim.checkpoint.directory import save
from wordelim.cli import app
from wordelim.errors import ExportError
from wordelim.exporting import program
from wordelim.exporting.layouts import LAYOUTS, Exported, layout_named
from wordelim.exporting.runtime import EXPORT_FILE, ExportedModel
from wordelim.tasks.embedding import Embedding

pytest.importorskip("onnxscript", reason="the extra onnx isn't installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx isn't installed")
TEXTS = ["good film", "the plot is not very good and the story was long"]


@pytest.fixture(scope="module", autouse=True)
def traced_once(tmp_path_factory):
    """Programs of the same class are traced once, which is what takes time."""
    made, trace = {}, program._traced
    import onnx_ir

    def kept(model, *rest):
        if type(model) not in made:
            made[type(model)] = tmp_path_factory.mktemp("traced") / "model.onnx"
            onnx_ir.save(trace(model, *rest), made[type(model)])
        return onnx_ir.load(made[type(model)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "_traced", kept)
        yield


@pytest.fixture(scope="module")
def compressed(make_model, make_tokenizer, tmp_path_factory):
    """``compressed(family, head)``: a compressed directory, and its model."""
    made = {}

    def make(family, head):
        if (family, head) not in made:
            model = eliminate_(make_model(family, layers=1, labels=2, head=head), Retention.fractions([0.6]))
            directory = tmp_path_factory.mktemp("compressed") / f"{family}-{head}"
            made[family, head] = save(model, make_tokenizer(family), directory), model
        return made[family, head]

    return make


def answers(directory, tokenizer):
    """What the program says in onnxruntime, given what a server that knows no model gives it."""
    session = onnxruntime.InferenceSession(directory, providers=["CPUExecutionProvider"])
    rows = tokenizer(TEXTS, padding=True, return_tensors="np")
    names = {value.name for value in session.get_inputs()}
    assert names <= {"input_ids", "attention_mask", "token_type_ids"}
    value = session.get_outputs()[0]
    return value.name, session.run([value.name], {name: np.asarray(rows[name], np.int64) for name in names})[0]


# What the router of Text Embeddings Inference and its backend for ONNX parse, field by field.
TEI = {"architectures": list, "model_type": str, "max_position_embeddings": int, "pad_token_id": int}
TEI_ONNX = {"hidden_size": int, "num_hidden_layers": int}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def require_config(path):
    config = read(path)
    for name, kind in (TEI | TEI_ONNX).items():
        assert type(config[name]) is kind, name
    assert config["architectures"][0].endswith("Classification")
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}
    assert config["label2id"] == {"LABEL_0": 0, "LABEL_1": 1}


def test_tei_finds_fields_that_have_other_names(make_model, make_tokenizer, tmp_path):
    config = make_model("distilbert", labels=2).config
    config.save_pretrained(tmp_path)
    assert "hidden_size" not in read(tmp_path / "config.json")
    exported = Exported("DistilBertForSequenceClassification", config, make_tokenizer("distilbert"), Embedding())
    LAYOUTS["tei"].arrange(tmp_path, exported)
    require_config(tmp_path / "config.json")
    again = AutoConfig.from_pretrained(tmp_path)
    assert (again.dim, again.n_layers) == (config.dim, config.n_layers)


def test_tei_finds_a_classifier(compressed, make_tokenizer, tmp_path):
    directory, model = compressed("bert", "sequence")
    report = wordelim.export(directory, tmp_path / "out", layout="tei")
    assert report["layout"] == "tei"
    require_config(tmp_path / "out" / "config.json")
    assert read(tmp_path / "out" / "tokenizer.json")["model"]
    assert not list((tmp_path / "out").glob("*.safetensors"))  # which it would run in place of the program
    name, found = answers(tmp_path / "out" / "model.onnx", make_tokenizer("bert"))
    with torch.inference_mode():
        expected = model(**make_tokenizer("bert")(TEXTS, padding=True, return_tensors="pt")).logits
    assert name == "logits"
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_tei_finds_an_embedder(compressed, make_tokenizer, tmp_path):
    directory, model = compressed("bert", "none")
    wordelim.export(directory, tmp_path / "out", layout="tei")
    assert read(tmp_path / "out" / "config.json")["architectures"] == ["BertModel"]
    pooling = read(tmp_path / "out" / "1_Pooling" / "config.json")
    modes = {name: on for name, on in pooling.items() if name.startswith("pooling_mode_")}
    assert len(modes) == 4
    assert [name for name, on in modes.items() if on] == ["pooling_mode_mean_tokens"]
    assert read(tmp_path / "out" / "sentence_bert_config.json")["max_seq_length"] == 64
    name, found = answers(tmp_path / "out" / "model.onnx", make_tokenizer("bert"))
    assert name in ("last_hidden_state", "token_embeddings")
    rows = make_tokenizer("bert")(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**rows).last_hidden_state
    real = rows["attention_mask"].bool()
    np.testing.assert_allclose(torch.from_numpy(found)[real], expected[real], atol=1e-4)


def test_triton_finds_a_model_of_its_repository(compressed, make_tokenizer, tmp_path):
    directory, model = compressed("bert", "sequence")
    wordelim.export(directory, tmp_path / "my-bert", layout="triton")
    out = tmp_path / "my-bert"
    assert [path.name for path in out.iterdir() if path.is_dir()] == ["1"]  # the versions, by numbers
    assert [path.name for path in (out / "1").iterdir()] == ["model.onnx"]  # the backend's default name
    text = (out / "config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in text
    assert re.search(r"max_batch_size: [1-9]", text)
    assert "dynamic_batching {" in text
    tensor = r'(input|output) \[ \{ name: "(\w+)" data_type: (\w+) dims: \[ ([-\d, ]+) \]'
    assert set(re.findall(tensor, text)) == {
        ("input", "input_ids", "TYPE_INT64", "-1"),
        ("input", "attention_mask", "TYPE_INT64", "-1"),
        ("input", "token_type_ids", "TYPE_INT64", "-1"),
        ("output", "logits", "TYPE_FP32", "2"),
    }
    assert re.search(r'output \[ \{ name: "logits".* label_filename: "labels.txt" \} \]', text)
    assert (out / "labels.txt").read_text().split() == ["LABEL_0", "LABEL_1"]
    _, found = answers(out / "1" / "model.onnx", make_tokenizer("bert"))
    rows = make_tokenizer("bert")(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        np.testing.assert_allclose(found, model(**rows).logits.numpy(), atol=1e-4)
    # wordelim itself knows it as an exported directory, which may be replaced.
    assert torch.equal(ExportedModel(out)(**rows).logits, torch.from_numpy(found))
    wordelim.export(directory, out, layout="triton", force=True)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_command_of_the_docs_writes_it(name, compressed, tmp_path, monkeypatch):
    said = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    _, *words = shlex.split(re.search(rf"`(wordelim export [^`]* --layout {name} -o [^`]*/?my-[^`]*)`", said)[1])
    monkeypatch.chdir(tmp_path)
    Path("my-bert-fast").symlink_to(compressed("bert", "sequence")[0])
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    out = Path(words[-1])
    assert read(out / EXPORT_FILE)["layout"] == name
    assert (out / {"tei": "model.onnx", "triton": "1/model.onnx"}[name]).is_file()


def test_triton_itself_reads_the_config(compressed, tmp_path):
    why = "pip install --no-deps tritonclient python-rapidjson: what it pins doesn't go with the rest"
    read = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason=why)
    text_format = pytest.importorskip("google.protobuf.text_format")
    directory, _ = compressed("bert", "sequence")
    wordelim.export(directory, tmp_path / "my-bert", layout="triton")
    config = text_format.Parse((tmp_path / "my-bert" / "config.pbtxt").read_text(), read.ModelConfig())
    assert config.backend == "onnxruntime"
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")
    assert [(each.name, list(each.dims)) for each in config.input] == [
        (name, [-1]) for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    (logits,) = config.output
    assert (logits.name, list(logits.dims), logits.label_filename) == ("logits", [2], "labels.txt")


def test_what_a_server_cant_serve_is_refused(compressed, make_tokenizer, tmp_path):
    directory, model = compressed("bert", "token")
    with pytest.raises(ExportError, match="BertForTokenClassification isn't served by TEI"):
        wordelim.export(directory, tmp_path / "out", layout="tei")
    with pytest.raises(ExportError, match="'tie' is unknown: use tei or triton"):
        wordelim.export(directory, tmp_path / "out", layout="tie")
    with pytest.raises(ExportError, match="not of openvino"):
        layout_named("triton", "openvino")
    dense = Embedding(layers=(torch.nn.Linear(2, 2),))
    with pytest.raises(ExportError, match="has Linear, which TEI doesn't apply"):
        LAYOUTS["tei"].refuse(Exported("BertModel", model.config, make_tokenizer("bert"), dense))
    assert not (tmp_path / "out").exists()
