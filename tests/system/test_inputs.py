"""Files that a user wrote are read within bounds: regular ones alone, of a form that ends."""

import os
import re

import pytest
from typer import BadParameter

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import is_compressed
from wordelim.checkpoint.loading import load_tokenizer
from wordelim.cli.shared import _read_config
from wordelim.errors import RetentionError, WordelimError
from wordelim.exporting.runtime import is_exported
from wordelim.system.inputs import UnreadableError, parse_json, read_json, read_text, read_toml
from wordelim.system.processes import is_main
from wordelim.system.recognised import stranger_in
from wordelim.verbs.baseline import Baseline

DEEP = {"json": '{"a":' * 50_000 + "1" + "}" * 50_000, "toml": "a = " + "[" * 50_000 + "]" * 50_000}
LONG = {"json": '{"a": ' + "9" * 6000 + "}", "toml": "a = " + "9" * 6000}


def fifo(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def dangling(path):
    path.symlink_to("nowhere")


# What stands in the file's place, with what is said of it.
IRREGULAR = {
    "FIFO": (fifo, "isn't a regular file"),
    "device": (endless, "isn't a regular file"),
}
FORMS = {
    **IRREGULAR,
    "nothing": (dangling, "doesn't exist"),
    "directory": (lambda path: path.mkdir(), "is a directory"),
    "no text": (lambda path: path.write_bytes(b"ab\xff"), "isn't text in UTF-8 from byte 2 on"),
    "deep": (lambda path: path.write_text(DEEP[path.suffix[1:]]), "nests too deep"),
    "digits": (lambda path: path.write_text(LONG[path.suffix[1:]]), "holds a number of too many digits"),
    "damaged": (lambda path: path.write_text("{"), "is not valid"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("read", [read_json, read_toml, read_text])
def test_what_cant_be_read_is_said_in_half_a_sentence(tmp_path, read, form):
    path = tmp_path / ("file.toml" if read is read_toml else "file.json")
    make, said = FORMS[form]
    make(path)
    if read is read_text and form in ("deep", "digits", "damaged"):
        assert read_text(path)
        return
    with pytest.raises(UnreadableError, match=said):
        read(path)


def test_a_file_is_read_in_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr("wordelim.system.inputs._MOST_BYTES", 10)
    (tmp_path / "file").write_text("0123456789")
    assert read_text(tmp_path / "file") == "0123456789"
    (tmp_path / "file").write_text("0123456789x")
    with pytest.raises(UnreadableError, match="is larger than"):
        read_text(tmp_path / "file")
    assert parse_json('{"a": [1]}') == {"a": [1]}


def words(path, tokenizer):
    return wordelim.protect_rules([f"words:{path}"], tokenizer)


# Whoever reads a file of a user's, by the name of the file.
READERS = {
    "words.json": words,
    "baseline.json": lambda path, tokenizer: Baseline.read(path),
    "options.toml": lambda path, tokenizer: _read_config(None, path),
    "config.json": lambda path, tokenizer: is_compressed(path.parent),
    "tokenizer.json": lambda path, tokenizer: load_tokenizer(path.parent),
    "tokenizer_config.json": lambda path, tokenizer: load_tokenizer(path.parent),
    "special_tokens_map.json": lambda path, tokenizer: load_tokenizer(path.parent),
}


@pytest.mark.parametrize("form", [name for name in FORMS if name not in ("directory", "nothing")])
@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_it_in_one_sentence(make_model_dir, make_tokenizer, tmp_path, name, form):
    folder = make_model_dir("bert")
    if name not in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        folder = tmp_path
    path, (make, said) = folder / name, FORMS[form]
    path.unlink(missing_ok=True)
    make(path)
    if name == "words.json" and form in ("deep", "digits", "damaged"):
        said = "doesn't know"  # text is text
    with pytest.raises((WordelimError, BadParameter)) as caught:
        READERS[name](path, make_tokenizer("bert"))
    message = str(caught.value)
    assert re.search(said, message)
    assert name in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize("form", ["deep", "digits", "damaged"])
def test_a_retention_in_text_too(form):
    text = {"deep": DEEP["json"], "digits": LONG["json"], "damaged": "{"}[form]
    with pytest.raises(WordelimError, match=FORMS[form][1]):
        Retention.from_json(text)


def test_a_name_that_no_file_may_have_holds_no_program():
    assert not is_exported("n" * 300)
    assert not is_exported("a\0b")


def test_only_folders_named_as_modules_are_are_part_of_a_model(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "modules.json").write_text('[{"path": ".git"}, {"path": "1_Pooling"}]')
    assert stranger_in(tmp_path).startswith(".git/")


def test_what_may_be_replaced_is_told_without_waiting_for_a_pipe(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    os.mkfifo(tmp_path / "modules.json")
    assert stranger_in(tmp_path) == "modules.json"


def test_a_rule_of_thousands_of_digits_is_refused():
    with pytest.raises(RetentionError, match="is unknown"):
        Retention((1.0,), protect=("first", f"first:{'9' * 5000}"))


@pytest.mark.parametrize("port", ["x", "0", "70000"])
def test_a_port_that_is_none_is_refused(monkeypatch, port):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WordelimError, match="MASTER_PORT"):
        is_main()
