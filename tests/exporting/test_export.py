"""An exported directory answers as its model does, in each runtime, and nothing else is ever written."""

import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer
from typer.testing import CliRunner

import wordelim
from wordelim import Retention, eliminate_
from wordelim.checkpoint.directory import save
from wordelim.cli import app
from wordelim.errors import CheckpointError, ExportError
from wordelim.exporting import formats, parity
from wordelim.exporting.runtime import EXPORT_FILE, ExportedModel, is_exported
from wordelim.graph.splice import eliminating_encoder

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "onnxscript")),
    reason="the extra onnx isn't installed",
)
needs_openvino = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("openvino", "nncf", "onnxscript")),
    reason="the extra openvino isn't installed",
)
pytestmark = needs_onnx
DOCS = Path(__file__).parents[2] / "docs"
RETENTIONS = {
    "bert": Retention.fractions([0.7, 0.35], protect=("first:2",)),
    "roberta": Retention.fractions([0.5, 0.5]),
    "albert": Retention.counts([9, 4], min_tokens=2, package=True),
    "distilbert": Retention.fractions([0.2, 0.0], min_tokens=3),
    "modernbert": Retention.fractions([0.6, 0.3], package=True),  # whose rows know where they stood
}
MAPPED = ("albert", "distilbert")  # where linear maps decide
# Like those that the suite exports, or the other format of the same.
LONG = {name: pytest.param(name, marks=pytest.mark.long) for name in RETENTIONS}


@pytest.fixture(scope="module")
def make_exported(make_model, make_tokenizer, random_maps, traced_once, tmp_path_factory):
    """``make_exported(family, form, head=...)``: a compressed model, its directory, and what it was exported to.

    Each is made once, and all formats from one traced program.
    """
    made = {}

    def make(family, form="onnx", head="sequence", labels=3, config=None, **options):
        kind = family, head, labels
        if kind not in made:
            # The last layer is cut to the first token, unless the head reads all; those before it eliminate.
            retention = RETENTIONS[family]
            retention = retention if head == "sequence" else replace(retention, keep=retention.keep[:1])
            if family in MAPPED:
                retention = replace(retention, significance=random_maps(len(retention.keep)))
            dense = make_model(family, layers=len(retention.keep), head=head, labels=labels, **(config or {}))
            model = eliminate_(dense, retention)
            directory = tmp_path_factory.mktemp(family) / "compressed"
            made[kind] = model, save(model, make_tokenizer(family), directory)
        model, directory = made[kind]
        output = directory.with_name(f"{form}{sorted(options)}")
        if not output.exists():
            with traced_once():
                wordelim.export(directory, output, format=form, **options)
        return model, directory, output

    return make


def _copy(source, target):
    for path in source.glob("model.onnx*"):
        (target / path.name).write_bytes(path.read_bytes())


def _agree(model, exported, make_batch, tolerance=1e-4):
    """The same logits from both of torch's layouts and from the program, whatever the batch."""
    random = np.random.default_rng(0)
    encoder = eliminating_encoder(model)
    for round_ in range(6):
        lengths = random.integers(1, 41, random.integers(1, 6)).tolist()
        batch = make_batch(model, lengths, width=max(lengths) + round_ % 3, seed=round_)
        of_tokens = wordelim.retention_of(model).restore
        asked = batch["attention_mask"].bool() if of_tokens else slice(None)
        found = exported(**batch)
        for layout in ("packed", "padded"):
            encoder.layout = layout
            with torch.inference_mode():
                expected = model(**batch, return_dict=True)
            for name, values in found.items():
                torch.testing.assert_close(values[asked], expected[name][asked], atol=tolerance, rtol=tolerance)
    encoder.layout = "auto"


@pytest.mark.parametrize("family", ["bert", "modernbert", LONG["roberta"], LONG["albert"], LONG["distilbert"]])
def test_onnx_answers_as_both_layouts_do(family, make_exported, make_batch):
    model, _, output = make_exported(family)
    exported = ExportedModel(output)
    _agree(model, exported, make_batch)
    report = json.loads((output / EXPORT_FILE).read_text())
    assert exported.retention == wordelim.retention_of(model)
    assert exported.config.id2label == model.config.id2label
    assert report["parity"]["kept"] > 30
    assert report["parity"]["kept_otherwise"] == 0


@pytest.mark.long  # as a question does, but for the number of outputs
@needs_openvino
def test_a_tagger_answers_for_every_token(make_exported, make_batch):
    model, _, output = make_exported("bert", "openvino", head="token")
    assert wordelim.retention_of(model).restore
    _agree(model, ExportedModel(output), make_batch)


@needs_openvino
@pytest.mark.parametrize("form", [pytest.param("onnx", marks=pytest.mark.long), "openvino"])
def test_a_question_gets_the_start_and_the_end_of_its_answer(make_exported, make_batch, form):
    # Of a model that gives tuples: a program has names all the same.
    model, _, output = make_exported("distilbert", form, head="answer", config={"return_dict": False})
    assert wordelim.retention_of(model).restore
    exported = ExportedModel(output)
    assert exported.output_names == ["start_logits", "end_logits"]
    assert json.loads((output / EXPORT_FILE).read_text())["parity"]["largest_difference"] < 1e-3
    assert json.loads((output / "config.json").read_text())["return_dict"] is False
    _agree(model, exported, make_batch)


@pytest.mark.long
def test_a_reranker_answers_with_one_logit(make_exported, make_batch):
    model, _, output = make_exported("albert", labels=1)
    exported = ExportedModel(output)
    assert exported(**make_batch(model, [9, 4])).logits.shape == (2, 1)
    _agree(model, exported, make_batch)


@needs_openvino
@pytest.mark.parametrize("family", ["bert", LONG["roberta"], LONG["albert"], LONG["distilbert"]])
def test_openvino_answers_as_both_layouts_do(family, make_exported, make_batch):
    model, _, output = make_exported(family, "openvino")
    exported = ExportedModel(output, threads=1)
    _agree(model, exported, make_batch)
    assert exported.retention == wordelim.retention_of(model)
    assert not list(output.glob("*.onnx*"))


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_int8_stays_near_and_is_smaller(family, make_exported, make_batch, logits):
    model, _, output = make_exported(family, int8=True)
    batch = make_batch(model, [20, 7, 33])
    difference = ExportedModel(output)(**batch).logits - logits(model, batch)
    assert 0 < difference.abs().max() < 0.3 * logits(model, batch).std()
    report = json.loads((output / EXPORT_FILE).read_text())
    assert report["int8"]
    assert report["parity"]["largest_difference"] > 0


@needs_openvino
def test_openvino_takes_int8_weights(make_exported):
    _, _, output = make_exported("bert", "openvino", int8=True)
    assert "i8" in (output / "openvino_model.xml").read_text() or "u8" in (output / "openvino_model.xml").read_text()


@needs_openvino
def test_openvino_takes_int8_activations_where_texts_show_their_ranges(make_exported, make_batch, logits):
    _, directory, weights = make_exported("bert", "openvino", int8=True)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    random = np.random.default_rng(0)
    words = [tokenizer.decode(random.integers(5, len(tokenizer), random.integers(3, 30))) for _ in range(136)]
    texts = datasets.Dataset.from_dict({"text": [*words[:9], " ", *words[9:]]})
    model, _, output = make_exported("bert", "openvino", int8=True, data=texts, skip_bad_rows=True)
    report = json.loads((output / EXPORT_FILE).read_text())
    assert report["calibration"] == 128 > report["parity"]["examples"]
    assert "calibration" not in json.loads((weights / EXPORT_FILE).read_text())
    quantized = [(place / "openvino_model.xml").read_text().count('type="FakeQuantize"') for place in (output, weights)]
    assert quantized[0] > 4
    assert quantized[1] == 0
    batch = tokenizer(words[128:], return_tensors="pt", padding=True)  # which it wasn't calibrated on
    difference = ExportedModel(output)(**batch).logits - logits(model, batch)
    assert 0 < difference.square().mean().sqrt() < 0.3 * logits(model, batch).std()


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_torch_quantizes_a_rewritten_model(family, make_model, make_batch, logits):
    model = eliminate_(make_model(family, layers=2), Retention.fractions([0.7, 0.35]))
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
    batch = make_batch(model, [20, 7, 33])
    difference = logits(quantized, batch) - logits(model, batch)
    assert 0 < difference.abs().max() < 0.3 * logits(model, batch).std()


@pytest.mark.parametrize("named", [True, False])  # transformers leaves out labels that have its own names
def test_the_script_of_the_docs_serves_without_torch(named, make_exported, tokenizer_of_bert, tmp_path, logits):
    model, _, output = make_exported("bert")
    (script,) = re.findall(r"```python\n(# serve\.py\n.*?)```", (DOCS / "export.md").read_text(), re.DOTALL)
    (tmp_path / "serve.py").write_text(script)
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None  # importing it fails\n")
    served = shutil.copytree(output, tmp_path / "served")
    config = json.loads((served / "config.json").read_text())
    names = config["id2label"] if named else config.pop("id2label")
    (served / "config.json").write_text(json.dumps(config))
    texts = ["good film", "the plot is not very good and it was short"]
    done = subprocess.run(
        [sys.executable, tmp_path / "serve.py", served, *texts],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = logits(model, dict(tokenizer_of_bert(texts, padding=True, return_tensors="pt")))
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [names[str(int(row.argmax()))] for row in expected]
    assert [float(line[1]) for line in lines] == pytest.approx(expected.max(1).values.tolist(), abs=1e-4)


def test_a_tagger_is_compared_on_its_own_words(make_model, make_tokenizer, traced_once, tmp_path):
    model = eliminate_(make_model("bert", layers=2, head="token", labels=3), Retention.fractions([0.7, 0.35]))
    save(model, make_tokenizer("bert"), tmp_path / "tagger")
    rows = [
        {"tokens": ["good", "film"], "tags": [0, 1]},
        {"tokens": ["not", "good", "at", "all"], "tags": [0, 1, 2, 0]},
    ]
    with traced_once():
        for name in ("usual", "named"):
            data = datasets.Dataset.from_list(rows)
            data, more = (data, {}) if name == "usual" else (data.rename_column("tokens", "said"), {"text": "said"})
            report = wordelim.export(tmp_path / "tagger", tmp_path / name, data=data, **more)
            assert report["parity"]["examples"] == len(rows)


def test_a_model_that_protects_tokens_is_refused_before_it_is_traced(make_model, make_tokenizer, tmp_path):
    rules = ("first", *wordelim.protect_rules(["separators"], make_tokenizer("bert")))
    model = eliminate_(make_model("bert", layers=2), Retention.fractions([0.7, 0.35], protect=rules))
    save(model, make_tokenizer("bert"), tmp_path / "guarded")
    with pytest.raises(ExportError, match=r"protects tokens, so that the text decides .* without --protect"):
        wordelim.export(tmp_path / "guarded", tmp_path / "program")
    assert not (tmp_path / "program").exists()


@pytest.fixture(scope="session")
def tokenizer_of_bert(make_tokenizer):
    return make_tokenizer("bert")


def test_the_commands_of_the_docs_run(make_exported, traced_once, monkeypatch, tmp_path):
    _, directory, _ = make_exported("bert")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(directory, "my-bert-fast")
    commands = re.findall(r"^wordelim (.*)$", (DOCS / "export.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        with traced_once():
            done = CliRunner().invoke(app, shlex.split(command))
        assert done.exit_code == 0, done.stderr
        assert is_exported(command.split()[-1])


def test_what_the_model_can_not_take_is_refused(make_exported, make_batch):
    model, _, output = make_exported("bert")
    exported = ExportedModel(output)
    batch = make_batch(model, [9, 5])
    with pytest.raises(ExportError, match="pad on the right"):
        exported(**{name: values.flip(1) for name, values in batch.items()})
    with pytest.raises(ExportError, match="longer than the 64"):
        exported(input_ids=torch.ones(1, 65, dtype=torch.long))
    with pytest.raises(ExportError, match="can't be trained"):
        exported.train()


def test_a_program_that_answers_otherwise_is_not_left(make_exported, make_batch, monkeypatch, tmp_path):
    model, directory, output = make_exported("bert")
    text = make_batch(model, [30])
    other = eliminate_(wordelim.load(directory), Retention.fractions([0.6, 0.35], protect=("first:2",)))
    found = parity.compare(other, output, [text], [text])
    with pytest.raises(ExportError, match="largest difference"):
        found.require(int8=False)
    eliminate_(other, Retention.fractions([0.8, 0.35], protect=("first:2",)))
    found = parity.compare(other, output, [text], [text])
    assert found.kept_otherwise >= 3
    verb = importlib.import_module("wordelim.verbs.export")
    monkeypatch.setattr(verb, "write_program", lambda *args, **kwargs: _copy(output, args[2]))
    monkeypatch.setattr(verb, "compare", lambda *args: found)
    with pytest.raises(ExportError, match="difference"):
        wordelim.export(directory, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_dense_model_is_exported_dense_and_said_so(make_model_dir, traced_once, tmp_path):
    directory = make_model_dir("bert", layers=1)
    with traced_once():
        done = CliRunner().invoke(app, ["export", str(directory), "-o", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.stderr
    assert "isn't compressed: it was exported dense" in done.stderr
    assert json.loads(done.stdout)["retention"] is None
    exported = ExportedModel(tmp_path / "out")
    assert exported.retention is None


def test_bad_input_leaves_nothing(make_exported, monkeypatch, tmp_path):
    _, directory, output = make_exported("bert")
    for error, sentence, options in (
        (ExportError, "opset 17 isn't served", {"opset": 17}),
        (ExportError, "Format 'tflite' is unknown: use onnx or openvino", {"format": "tflite"}),
        (CheckpointError, "exists: name another", {"output": output}),
    ):
        with pytest.raises(error, match=sentence):
            wordelim.export(directory, **{"output": tmp_path / "out", **options})
    with pytest.raises(ExportError, match="holds no exported program"):
        ExportedModel(directory)
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"pip install 'wordelim\[onnx\]'"):
        wordelim.export(directory, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_damaged_program_is_named(make_exported, tmp_path):
    _, _, output = make_exported("bert")
    _copy(output, tmp_path)
    (tmp_path / "config.json").write_text((output / "config.json").read_text())
    (tmp_path / "model.onnx").write_bytes((output / "model.onnx").read_bytes()[:1000])
    with pytest.raises(ExportError, match="can't be opened"):
        ExportedModel(tmp_path)


def test_bench_times_a_program(make_exported, make_model_dir, make_texts, tmp_path):
    _, directory, output = make_exported("bert")
    make_texts(12).to_json(tmp_path / "texts.jsonl")
    dense = make_model_dir("bert")
    options = ["--data", str(tmp_path / "texts.jsonl"), "--rounds", "1", "--latency-texts", "2", "--json"]
    done = CliRunner().invoke(app, ["bench", str(dense), str(output), *options])
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    (measured,) = report["measurements"]
    assert measured["mode"] == "onnx against eager"
    assert set(measured["throughput"]["against"]) == {"fixed", "dynamic", "unpadded"}
    assert report["retention"] == wordelim.retention_of(wordelim.load(directory)).told()
    for sides in ([output, output], [dense, dense], [output]):
        refused = CliRunner().invoke(app, ["bench", *map(str, sides), *options])
        assert (refused.exit_code, refused.stdout) == (1, "")


def test_check_takes_a_program_on_either_side(make_exported, make_texts, tmp_path):
    _, directory, output = make_exported("bert")
    make_texts(12).to_json(tmp_path / "texts.jsonl")
    options = ["--data", str(tmp_path / "texts.jsonl"), "--max-drop", "0", "--json"]
    for sides in ((directory, output), (output, directory), (output, output)):
        done = CliRunner().invoke(app, ["check", *map(str, sides), *options])
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["result"]["flips"]["changed"] == 0
    refused = CliRunner().invoke(app, ["check", str(directory), str(output), *options, "--min-speedup", "1"])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "between two PyTorch models" in refused.stderr
