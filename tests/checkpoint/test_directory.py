"""Model directories: damaged ones are refused by name, written ones are whole or not there."""

import errno
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, BertModel

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import is_compressed, load_dense, save, staged, write_report
from wordelim.errors import CheckpointError, RetentionError, UnsupportedModelError
from wordelim.system.outputs import refuse_existing

SOME = Retention.fractions([0.6, 0.3, 0.0])


@pytest.fixture(scope="module")
def bert_tokenizer(make_tokenizer):
    return make_tokenizer("bert")


@pytest.fixture(scope="module")
def shared_compressed(make_model):
    return wordelim.eliminate_(make_model("bert"), SOME)


@pytest.fixture
def compressed(shared_compressed):
    """A compressed model; a test may change its retention."""
    return wordelim.eliminate_(shared_compressed, SOME)


@pytest.fixture(scope="module")
def template(shared_compressed, bert_tokenizer, tmp_path_factory):
    wordelim.eliminate_(shared_compressed, SOME)
    return save(shared_compressed, bert_tokenizer, tmp_path_factory.mktemp("template") / "out")


@pytest.fixture
def out(template, tmp_path):
    """A good compressed directory, to be damaged."""
    return shutil.copytree(template, tmp_path / "out")


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, hidden ones too."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


# --- damaged directories -----------------------------------------------------------------------------------------


def gone(path, edit):
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


def config(change):
    return lambda path, edit: edit(path / "config.json", change)


def retention(**changes):
    return config(lambda data: data["quantization_config"].update(changes))


def write(name, content):
    return lambda path, edit: (path / name).write_bytes(content)


def weights(change):
    def damage(path, edit):
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})

    return damage


def truncated(path, edit):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_weights(path, edit):
    (path / "model.safetensors").unlink()


def pickle_only(path, edit):
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    no_weights(path, edit)


def poisoned(tensors):
    tensors["bert.encoder.layer.1.output.dense.weight"][3, 3] = torch.nan


def infinite(tensors):
    tensors["classifier.bias"][0] = torch.inf


def other_shape(tensors):
    tensors["classifier.weight"] = torch.zeros(5, 32)


CLASS = {"architectures": ["MyOwnBert"]}
DAMAGES = {
    "missing": (gone, CheckpointError, "'.*out' doesn't exist"),
    "no config": (lambda path, edit: (path / "config.json").unlink(), CheckpointError, "has no config.json"),
    "bad JSON": (write("config.json", b'{"model_type": '), CheckpointError, "config.json can't be read"),
    "empty config": (write("config.json", b""), CheckpointError, "config.json can't be read"),
    "no text": (write("config.json", b"\xff\xfe\x00"), CheckpointError, "config.json can't be read"),
    "a list": (write("config.json", b"[]"), CheckpointError, "config.json is damaged"),
    "not compressed": (config(lambda d: d.pop("quantization_config")), CheckpointError, "holds no compressed model"),
    "null": (config(lambda d: d.update(quantization_config=None)), CheckpointError, "holds no compressed model"),
    "not wordelim": (retention(quant_method="gptq"), CheckpointError, "holds no compressed model"),
    "no method": (config(lambda d: d.update(quantization_config=[1])), CheckpointError, "holds no compressed model"),
    "unknown version": (retention(version=3), RetentionError, "version 3 is unknown.*upgrade wordelim"),
    "unknown field": (retention(soft=True), RetentionError, "'soft' is unknown"),
    "too few layers": (retention(keep=[0.5, 0.1]), RetentionError, "keep has 2 values, but the model has 3 layers"),
    "counts that grow": (retention(keep=[0.1, 0.5, 0.6]), RetentionError, r"keep\[1\] = 0.5 is more than"),
    "no number": (retention(keep=[0.5, "x", 0]), RetentionError, r"keep\[1\] = 'x'"),
    "no weights": (no_weights, CheckpointError, "has no weights"),
    "truncated": (truncated, CheckpointError, "weights in .* are damaged"),
    "empty weights": (write("model.safetensors", b""), CheckpointError, "weights in .* are damaged"),
    "pickle only": (pickle_only, CheckpointError, "as pickle only"),
    "NaN": (weights(poisoned), CheckpointError, r"bert.encoder.layer.1.output.dense.weight in .* holds NaN"),
    "infinity": (weights(infinite), CheckpointError, "classifier.bias in .* holds NaN or infinity"),
    "no head": (weights(lambda t: t.pop("classifier.weight")), CheckpointError, "lack 1 .*first: classifier.weight"),
    "other shape": (weights(other_shape), CheckpointError, "classifier.weight|can't be loaded"),
    "unknown class": (config(lambda d: d.update(CLASS)), UnsupportedModelError, "'MyOwnBert'.*remote code is not run"),
    "no class": (config(lambda d: d.pop("architectures")), UnsupportedModelError, "names no class"),
    "a class that is none": (config(lambda d: d.update(architectures=["AutoModel"])), UnsupportedModelError, "AutoMo"),
    "a class by number": (config(lambda d: d.update(architectures=[3])), UnsupportedModelError, "names no class"),
    "a class by itself": (config(lambda d: d.update(architectures="Bert")), UnsupportedModelError, "names no class"),
    "a size of text": (config(lambda d: d.update(hidden_size="wide")), CheckpointError, "hidden_size"),
    "heads that don't divide": (config(lambda d: d.update(num_attention_heads=5)), CheckpointError, "5"),
    "no layers": (config(lambda d: d.update(num_hidden_layers=0)), UnsupportedModelError, "has no layers"),
    "no activation": (
        config(lambda d: d.update(hidden_act="nope")),
        CheckpointError,
        "config.json sets hidden_act to 'nope', but it must be an activation",
    ),
    "padding beyond": (config(lambda d: d.update(pad_token_id=99)), CheckpointError, "pad_token_id to 99"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_directory_is_refused_in_one_sentence(out, edit_json, name):
    damage, error, match = DAMAGES[name]
    damage(out, edit_json)
    with pytest.raises(error, match=match) as caught:
        wordelim.load(out)
    assert "\n" not in str(caught.value)


def test_a_file_is_refused(tmp_path):
    (tmp_path / "model.bin").write_text("x")
    for read in (wordelim.load, load_dense, is_compressed):
        with pytest.raises(CheckpointError, match=r"model\.bin' is a file: give the directory") as caught:
            read(tmp_path / "model.bin")
        assert isinstance(caught.value, OSError)


def test_remote_code_is_never_run(out, edit_json, tmp_path):
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\nfrom transformers import BertForSequenceClassification as Own\n"
    (out / "modeling.py").write_text(code)
    edit_json(
        out / "config.json",
        lambda d: d.update(architectures=["Own"], auto_map={"AutoModelForSequenceClassification": "modeling.Own"}),
    )
    with pytest.raises(UnsupportedModelError, match="remote code is not run"):
        wordelim.load(out)
    assert not ran.exists()


def test_pickle_is_not_read_even_beside_safetensors(out, compressed, make_batch, logits, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    # Loaded both times: where weights lie in memory may round a matrix product otherwise.
    batch = make_batch(compressed, [5])
    expected = logits(wordelim.load(out), batch)
    torch.save(Bomb(), out / "pytorch_model.bin")
    assert torch.equal(logits(wordelim.load(out), batch), expected)
    assert not (tmp_path / "exploded").exists()


# --- dense directories -------------------------------------------------------------------------------------------


def test_a_dense_directory_is_loaded_as_its_own_class(make_model_dir, make_model, family, make_batch, logits):
    directory = make_model_dir(family)
    assert not is_compressed(directory)
    model = load_dense(directory)
    batch = make_batch(model, [9, 4])
    assert torch.equal(logits(model, batch), logits(make_model(family), batch))
    assert not model.training


def test_a_compressed_directory_is_no_dense_one(out):
    assert is_compressed(out)
    with pytest.raises(CheckpointError, match="compressed already"):
        load_dense(out)


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/no-where", "a/b/c"])
def test_what_looks_like_a_path_is_no_hub_name(name):
    with pytest.raises(CheckpointError, match="doesn't exist"):
        load_dense(name)


def test_a_hub_name_that_is_not_to_be_had_is_refused():
    with pytest.raises(CheckpointError, match="no-one/no-model"):
        load_dense("no-one/no-model")


def test_a_model_saved_without_its_head_is_refused(make_model, edit_json, tmp_path):
    BertModel(make_model("bert").config).save_pretrained(tmp_path / "base")
    edit_json(tmp_path / "base" / "config.json", lambda d: d.update(architectures=["BertForSequenceClassification"]))
    with pytest.raises(CheckpointError, match=r"lack 2 .*classifier\.bias.*saved without its head"):
        load_dense(tmp_path / "base")


def test_another_head_loads_and_is_refused_by_elimination(make_model, tmp_path):
    BertForMaskedLM(make_model("bert").config).save_pretrained(tmp_path / "masked")
    with pytest.raises(UnsupportedModelError, match="BertForMaskedLM guesses words at any position"):
        wordelim.eliminate_(load_dense(tmp_path / "masked"), SOME)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_is_kept(make_model, bert_tokenizer, make_batch, logits, tmp_path, dtype):
    model = wordelim.eliminate_(make_model("bert").to(dtype), SOME)
    directory = save(model, bert_tokenizer, tmp_path / "out")
    assert {tensor.dtype for tensor in load_file(directory / "model.safetensors").values()} == {dtype}
    loaded = wordelim.load(directory)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    batch = make_batch(model, [9, 4])
    assert torch.equal(logits(loaded, batch), logits(model, batch))
    as_double = wordelim.load(directory, dtype=torch.float64)
    assert {parameter.dtype for parameter in as_double.parameters()} == {torch.float64}


# --- saving, whole or not at all ---------------------------------------------------------------------------------


def test_what_is_written_lies_beside_the_model(compressed, bert_tokenizer, tmp_path):
    report = {"drop": 0.5, "text": "ä"}
    target = tmp_path / "new" / "place" / "out"
    assert save(compressed, bert_tokenizer, target, report=report, card="# Card\n") == target
    assert {path.name for path in target.iterdir()} >= {
        "config.json", "model.safetensors", "tokenizer.json", "wordelim_report.json", "README.md",
    }  # fmt: skip
    assert json.loads((target / "wordelim_report.json").read_text(encoding="utf-8")) == report
    assert (target / "README.md").read_text() == "# Card\n"
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_the_directory_has_the_users_own_mode(compressed, bert_tokenizer, tmp_path):
    out = save(compressed, bert_tokenizer, tmp_path / "out")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~mask


def test_a_dense_model_is_not_saved(make_model, bert_tokenizer, tmp_path):
    with pytest.raises(CheckpointError, match=r"isn't compressed: call wordelim\.eliminate_"):
        save(make_model("bert"), bert_tokenizer, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_existing_output_is_refused_without_force(out, compressed, bert_tokenizer):
    before = tree(out)
    with pytest.raises(CheckpointError, match=r"exists: name another, or pass --force"):
        save(compressed, bert_tokenizer, out)
    assert tree(out) == before


def test_an_existing_output_is_replaced_with_force(out, compressed, bert_tokenizer):
    (out / "all_results.json").write_text("{}")
    wordelim.eliminate_(compressed, Retention.counts([3, 2, 1]))
    save(compressed, bert_tokenizer, out, force=True)
    assert not (out / "all_results.json").exists()
    assert wordelim.retention_of(wordelim.load(out)) == Retention.counts([3, 2, 1])
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_file_is_never_replaced(compressed, bert_tokenizer, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CheckpointError, match="is a file: name a directory"):
        save(compressed, bert_tokenizer, tmp_path / "out", force=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_directory_of_something_else_is_never_replaced(compressed, bert_tokenizer, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="something else than a model"):
        save(compressed, bert_tokenizer, tmp_path / "home", force=True)
    assert tree(tmp_path) == {"home/letters.txt": b"mine"}


def test_an_output_below_a_file_is_refused(compressed, bert_tokenizer, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="is a file; name another place"):
        refuse_existing(tmp_path / "file" / "out")
    with pytest.raises(CheckpointError, match="is a file; name another place"):
        save(compressed, bert_tokenizer, tmp_path / "file" / "out")


class Failing:
    """A tokenizer on which saving fails when the weights are written already."""

    def __init__(self, error):
        self.error = error

    def save_pretrained(self, directory):
        assert (directory / "model.safetensors").exists()
        (directory / "tokenizer.json").write_text("{")
        raise self.error


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("error", "raised"),
    [(FULL, CheckpointError), (KeyboardInterrupt(), KeyboardInterrupt), (ValueError("x"), ValueError)],
)
def test_a_save_that_fails_leaves_nothing(compressed, tmp_path, error, raised):
    with pytest.raises(raised) as caught:
        save(compressed, Failing(error), tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())
    if raised is CheckpointError:
        assert "No space left on device" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(FULL, CheckpointError), (KeyboardInterrupt(), KeyboardInterrupt), (ValueError("x"), ValueError)],
)
def test_a_save_that_fails_keeps_what_was_there(out, compressed, error, raised):
    before = tree(out.parent)
    with pytest.raises(raised):
        save(compressed, Failing(error), out, force=True)
    assert tree(out.parent) == before


def test_the_models_own_writing_that_fails_leaves_nothing(compressed, bert_tokenizer, tmp_path, monkeypatch):
    def full(self, directory, **options):
        (directory / "model.safetensors").write_bytes(b"half")
        raise FULL

    monkeypatch.setattr(type(compressed), "save_pretrained", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(compressed, bert_tokenizer, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("error", "raised"), [(FULL, CheckpointError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_a_rename_that_fails_keeps_what_was_there(out, compressed, bert_tokenizer, monkeypatch, error, raised):
    before = tree(out.parent)
    rename = Path.rename

    def second_fails(self, target):
        if Path(target) == out and (self / "README.md").exists():
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(raised):
        save(compressed, bert_tokenizer, out, card="new", force=True)
    assert tree(out.parent) == before


def test_a_report_that_is_no_json_leaves_nothing(compressed, bert_tokenizer, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(compressed, bert_tokenizer, tmp_path / "out", report={"drop": float("nan")})
    assert not list(tmp_path.iterdir())


def test_nothing_is_seen_at_the_output_before_it_is_whole(tmp_path):
    with staged(tmp_path / "out") as stage:
        assert stage.parent != tmp_path / "out"
        assert not (tmp_path / "out").exists()
        (stage / "file").write_text("x")
    assert tree(tmp_path) == {"out/file": b"x"}


def test_a_report_alone_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_report({"wordelim_check": 1}, tmp_path / "new" / "report.json")
    assert json.loads(path.read_text()) == {"wordelim_check": 1}

    def full(self, *args, **kwargs):
        raise FULL

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(CheckpointError, match=r"report\.json can't be written .*No space left.* make room"):
        write_report({"wordelim_check": 2}, path)
    assert tree(tmp_path) == {"new/report.json": b'{\n  "wordelim_check": 1\n}\n'}


def test_whoever_may_list_the_directory_may_read_the_weights(compressed, tokenizer, tmp_path):
    save(compressed, tokenizer, tmp_path / "out")
    readable = (tmp_path / "out").stat().st_mode & 0o444
    assert {path.stat().st_mode & 0o444 for path in (tmp_path / "out").iterdir()} == {readable}
