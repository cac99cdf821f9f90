"""``wordelim compress``: what it prints, what it writes, how it refuses."""

import errno
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2ForSequenceClassification, T5Config, T5ForConditionalGeneration

import wordelim as package
from wordelim.errors import WordelimError

DATA = ("--train", "train.csv", "--validation", "dev.csv")
QUICK = ("compress", "dense", *DATA, "-o", "out", "--keep", "0.7,0.4,0", "--max-drop", "100", "--epochs", "0.5")


def tree(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if "dense" not in path.parts)


# --- what is done -------------------------------------------------------------------------------------------------


def test_a_model_is_compressed_and_loads(wordelim, here):
    done = wordelim(*QUICK, "--test", "dev.csv")
    assert done.exit_code == 0
    for shown in (
        "accuracy, in points",
        "validation (24)",
        "test (24)",
        "fewer FLOPs",
        "measured",
        "1: 70 %",
        "3: the",
    ):
        assert shown in done.stdout.replace("\N{NO-BREAK SPACE}", " ")
    assert done.stderr.splitlines() == [
        "search: ranking words",
        "asking the dense model",
        "retrain",
        "verify: validation",
        "verify: test",
        "verify: speed",
        "Written: out",
        "The report, to open in a browser: out/report.html",
    ]
    assert tree(here / "out") == [
        "README.md",
        "config.json",
        "model.safetensors",
        "report.html",
        "tokenizer.json",
        "tokenizer_config.json",
        "wordelim_report.json",
    ]
    assert package.retention_of(package.load("out")).keep == (0.7, 0.4, 0.0)
    assert sorted(os.listdir()) == ["dense", "dev.csv", "out", "train.csv"]


def test_json_alone_is_on_stdout(wordelim, here):
    done = wordelim(*QUICK, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads((here / "out" / "wordelim_report.json").read_text())


def test_unmet_drop_exits_3_and_keeps_the_report(wordelim, here):
    (here / "dev.csv").write_text(right_answers(here))
    before = tree(here)
    done = wordelim(
        "compress", "dense", *DATA, "-o", "out", "--keep", "0,0,0", "--max-drop", "0", "--no-retrain", "--json"
    )
    assert done.exit_code == 3
    assert tree(here) == sorted([*before, "out.report.html", "out.wordelim_report.json"])
    report = json.loads(done.stdout)
    assert report == json.loads((here / "out.wordelim_report.json").read_text())
    assert report["met"] is False
    assert done.stderr.splitlines()[-1] == (
        f"Not met: {report['unmet']}; no model was written, the report is out.wordelim_report.json."
    )


def right_answers(here):
    """Texts with the labels that the dense model gives them, so that dropping everything costs something."""
    from transformers import pipeline

    texts = [line.split(",")[0] for line in (here / "train.csv").read_text().splitlines()[1:]]
    answers = pipeline("text-classification", "dense", device="cpu")(texts)
    return "\n".join(["text,label", *(f"{text},{said['label']}" for text, said in zip(texts, answers, strict=True))])


def test_unreachable_speed_exits_3(wordelim, here):
    before = tree(here)
    done = wordelim("compress", "dense", *DATA, "-o", "out", "--target-speedup", "90")
    assert done.exit_code == 3
    assert done.stdout == ""
    assert done.stderr.startswith("search: ranking words\nerror: A FLOPs ratio of 90 is out of reach")
    assert tree(here) == sorted([*before, "out.report.html", "out.wordelim_report.json"])
    report = json.loads((here / "out.wordelim_report.json").read_text())
    assert report["met"] is False
    assert report["best"]["retention"]["keep"] == [0, 0, 0]


def test_dry_run_writes_nothing(wordelim, here):
    before = tree(here)
    done = wordelim(*QUICK, "--dry-run")
    assert done.exit_code == 0
    for shown in ("nothing is run or written", "BertForSequenceClassification", "32 texts", "keep is given"):
        assert shown in done.stdout
    planned = wordelim(*QUICK, "--dry-run", "--json")
    assert json.loads(planned.stdout)["retraining"] == "0.5 epochs"
    assert tree(here) == before


def test_truncated_texts_are_said(wordelim, here):
    done = wordelim(*QUICK, "--no-retrain", "--max-length", "9")
    assert done.exit_code == 0
    assert "train texts were longer than 9 tokens and were cut." in done.stderr
    assert "validation texts were longer than 9 tokens and were cut." in done.stderr


def test_force_replaces_a_model_and_nothing_else(wordelim, here):
    shutil.copytree(here / "dense", here / "out")
    assert wordelim(*QUICK, "--no-retrain").exit_code == 1
    assert wordelim(*QUICK, "--no-retrain", "--force").exit_code == 0
    assert (here / "out" / "model.safetensors").exists()
    (here / "out" / "config.json").unlink()
    refused = wordelim(*QUICK, "--no-retrain", "--force")
    assert refused.exit_code == 1
    assert "holds something else than a model" in refused.stderr
    assert (here / "out" / "model.safetensors").exists()


def test_config_file_stands_for_options(wordelim, here):
    (here / "c.toml").write_text(
        'train = "train.csv"\nvalidation = "dev.csv"\noutput = "out"\nkeep = [0.7, 0.4, 0]\nno-retrain = true\n'
        "max_length = 12\njson = true\n"
    )
    planned = wordelim("compress", "dense", "--config", "c.toml", "--max-length", "20", "--dry-run")
    assert planned.exit_code == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["search"] == "none: keep is given"
    assert plan["retraining"] == "none"
    assert plan["train"].endswith(" 0 cut")  # the command line goes before the file


# --- what is refused ----------------------------------------------------------------------------------------------


def refusal(done, code=1):
    """The one sentence on stderr; nothing else is said."""
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = (
        line for line in done.stderr.splitlines() if not line.startswith(("asking", "retrain", "verify", "search"))
    )
    assert line.startswith("error: ")
    assert line.endswith((".", ")"))
    return line.removeprefix("error: ")


MODELS = {
    "missing": (lambda path: shutil.rmtree(path), r"'\./model' doesn't exist"),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "has no weights"),
    "pickle only": (lambda path: pickle_only(path), "weights as pickle only.*save_pretrained it as safetensors"),
    "NaN": (lambda path: poison(path), "weight classifier.bias in .*model holds NaN"),
    "no tokenizer": (lambda path: [file.unlink() for file in path.glob("*token*")], "has no tokenizer"),
    "left padding": (lambda path: left(path), "pads on the left.*set padding_side to 'right'"),
    "broken config": (lambda path: (path / "config.json").write_text("{"), "config.json can't be read"),
    "GPT-2": (lambda path: gpt2(path), r"GPT2ForSequenceClassification .*not supported: the families are albert, bert"),
    "T5": (lambda path: t5(path), "T5ForConditionalGeneration .*not supported"),
    "bare encoder": (
        lambda path: bare(path),
        "Embeddings are compared in pairs: name the columns with --text and --text-pair",
    ),
    "lost head": (lambda path: lost_head(path), "lack 2 that BertForSequenceClassification needs"),
}


def pickle_only(path):
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def change_weights(path, change):
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def poison(path):
    change_weights(path, lambda tensors: tensors["classifier.bias"].fill_(torch.nan))


def lost_head(path):
    change_weights(path, lambda tensors: (tensors.pop("classifier.bias"), tensors.pop("classifier.weight")))


def left(path):
    settings = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))


def gpt2(path):
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 1}
    GPT2ForSequenceClassification(GPT2Config(**sizes)).save_pretrained(path)


def t5(path):
    T5ForConditionalGeneration(
        T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=64)
    ).save_pretrained(path)


def bare(path):
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(path).bert.save_pretrained(path)


@pytest.mark.parametrize("name", MODELS)
def test_models_that_cant_be_served_are_refused(wordelim, here, template, name):
    spoil, message = MODELS[name]
    shutil.copytree(template, here / "model")
    spoil(here / "model")
    before = tree(here)
    sentence = refusal(wordelim("compress", "./model", *DATA, "-o", "new/out"))
    assert_matches(message, sentence)
    assert tree(here) == before


def assert_matches(pattern, text):
    assert re.search(pattern, text), text


def test_a_compressed_model_is_refused(wordelim, here):
    assert wordelim(*QUICK, "--no-retrain").exit_code == 0
    sentence = refusal(wordelim("compress", "out", *DATA, "-o", "twice"))
    assert sentence == "out is compressed already: give the dense model that it was made from."


FILES = {
    "no label column": (
        "text,foo\ngood,1\n",
        "In the train data: No column has a standard label name.*name one with --label",
    ),
    "unknown label": ("text,label\ngood,pos\nbad,maybe\n", "In the train data: Row 2 has the label 'maybe'.*neg, pos"),
    "empty": ("", "train.csv has no rows"),
    "one class": ("text,label\ngood,pos\nbad,pos\n", "In the train data: All 2 labels are the same"),
    "header only": ("text,label\n", "train.csv has no rows"),
    "broken row": ("text,label\ngood,1\nbad, film,0\n", r"train.csv, row 2 \(line 3\), has 3 fields.*put quotes"),
    "blank text": ("text,label\n ,1\n", "Row 1 has a blank text"),
}


@pytest.mark.parametrize("name", FILES)
def test_data_that_cant_be_used_is_refused(wordelim, here, name):
    content, message = FILES[name]
    (here / "train.csv").write_text(content)
    before = tree(here)
    assert_matches(message, refusal(wordelim("compress", "dense", *DATA, "-o", "new/out")))
    assert tree(here) == before


OPTIONS = {
    "missing data": (("--train", "no.csv"), "The data file no.csv doesn't exist; check the path."),
    "column": (("--label", "stars"), "There is no column 'stars' for --label; the columns are 'text', 'label'."),
    "positions": (("--max-length", "100"), "100 tokens is more than the 64 .*use --max-length 64 or less"),
    "layers": (("--keep", "0.5,0"), "keep has 2 values, but the model has 3 layers: give one for each layer."),
    "above 1": (("--keep", "0.5,1.4,0"), r"keep\[1\] = 1.4 is outside 0..1"),
    "below 0": (("--keep", "0.5,0.4,-1"), r"keep\[2\] = -1.0 is outside 0..1"),
    "rising": (("--keep", "0.2,0.4,0"), r"keep\[1\] = 0.4 is more than keep\[0\] = 0.2"),
    "both": (("--keep", "1,1,1", "--target-speedup", "2"), "give one of them"),
    "metric": (("--metric", "bleu"), "no metric 'bleu' for single label classification; choose one of accuracy, f1"),
    "method": (("--method", "magic"), "Method 'magic' is unknown: use 'calibrated' or 'learned'."),
    "device": (("--device", "nonsense"), "Device 'nonsense' is unknown: use cpu"),
    "seed": (("--seed", "-1"), "seed is -1: give a whole number from 0"),
    "epochs": (("--epochs", "0"), "epochs is 0.0: give a number above 0."),
    "search epochs": (("--search-epochs", "0"), "search_epochs is 0.0: give a number above 0."),
    "lambda": (("--method", "learned", "--lambda", "-1"), "lambda is -1.0: give a number above 0."),
    "retention rate": (("--method", "learned", "--retention-lr", "0"), "retention_lr is 0.0: give a number above 0."),
    "not learned": (("--lambda", "1e-3"), "lambda is given, which is the learned search's"),
    "form": (("--method", "learned", "--form", "step"), "Form 'step' is unknown: use one of ramp, table, count."),
    "cost": (("--cost", "money"), "Cost 'money' is unknown: use 'flops' or 'latency'."),
    "budget": (("--flops-budget", "1.5"), "flops_budget is 1.5: give a share between 0 and 1"),
    "tracker": (("--report-to", "paper"), "report_to is 'paper': use tensorboard, wandb, mlflow."),
    "output exists": (("-o", "dense", "--force"), "is the model itself"),
    "output is a file": (("-o", "dev.csv"), "Output 'dev.csv' is a file: name a directory."),
    "output below a file": (("-o", "dev.csv/out"), "can't be made: .*dev.csv is a file; name another place."),
    "output is here": (("-o", ".", "--force"), "holds the model, .*, which would be deleted"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_dont_fit_are_refused(wordelim, here, name):
    options, message = OPTIONS[name]
    before = tree(here)
    assert_matches(message, refusal(wordelim("compress", "dense", *DATA, "-o", "new/out", *options)))
    assert tree(here) == before


def test_nan_in_training_keeps_the_last_good_checkpoint(wordelim, here):
    run = ("compress", "dense", *DATA, "--keep", "0.5,0.4,0", "--learning-rate", "1e30")
    assert_matches(
        "^Retrained, the compressed model .* 24 of 24 examples .*: lower --learning-rate.$",
        refusal(wordelim(*run, "-o", "last")),
    )
    sentence = refusal(wordelim(*run, "-o", "out", "--epochs", "4"))
    assert_matches("loss became nan at step .*: lower --learning-rate.*; the last good checkpoint is ", sentence)
    assert (here / sentence.rpartition(" ")[2].rstrip(".") / "model.safetensors").exists()
    assert not (here / "out").exists()
    assert "holds an unfinished run: pass --resume" in refusal(wordelim(*QUICK))
    assert wordelim(*QUICK, "--force", "--no-retrain").exit_code == 0
    assert not (here / "out.wordelim-work").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_isnt_there_is_refused(wordelim, here):
    for more in ((), ("--dry-run",)):
        sentence = refusal(wordelim(*QUICK, "--device", "cuda", *more))
        assert sentence.startswith("Device 'cuda' isn't available here: use cpu")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_cant_be_written_is_refused_first(wordelim, here):
    (here / "closed").mkdir(mode=0o500)
    assert "closed isn't writable" in refusal(wordelim(*QUICK, "-o", "closed/out"))


def test_a_full_disk_leaves_nothing(wordelim, here, monkeypatch):
    def fail(self, directory, **options):
        (directory / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(directory))

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    before = tree(here)
    done = wordelim("compress", "dense", *DATA, "-o", "new/out", *QUICK[8:], "--no-retrain")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        "error: new/out can't be written (No space left on device) and nothing was left there: make room, or name "
        "another output."
    )
    assert tree(here) == before


USAGE = {
    "no train": (("compress", "dense", "--validation", "dev.csv", "-o", "out"), "Missing option '--train'"),
    "no model": (("compress",), "Missing argument"),
    "no such option": ((*QUICK, "--fast"), "No such option: --fast"),
    "no numbers": ((*QUICK, "--keep", "a,b"), "Invalid value for '--keep': 'a,b' is no list of numbers"),
    "no number": ((*QUICK, "--epochs", "many"), "Invalid value for '--epochs'"),
    "no config": ((*QUICK, "--config", "no.toml"), "no.toml doesn't exist"),
    "no TOML": ((*QUICK, "--config", "train.csv"), "train.csv is not valid TOML"),
    "unknown name": ((*QUICK, "--config", "unknown.toml"), "unknown.toml sets 'speed', which is no option"),
    "wrong type": ((*QUICK[:8], "--config", "type.toml"), "Invalid value for '--epochs'"),
    "a table": ((*QUICK, "--config", "table.toml"), "table.toml sets 'compress', which is no option"),
    "no command": (("squeeze",), "No such command 'squeeze'"),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_exits_2(wordelim, here, name):
    (here / "unknown.toml").write_text("speed = 3")
    (here / "type.toml").write_text('epochs = "many"')
    (here / "table.toml").write_text("[compress]\nepochs = 1")
    before = tree(here)
    arguments, message = USAGE[name]
    done = wordelim(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert tree(here) == before


def test_debug_shows_the_traceback(wordelim, here):
    done = wordelim(*QUICK, "--debug", "--metric", "bleu")
    assert done.exit_code == 1
    assert isinstance(done.exception, WordelimError)


def test_what_nobody_expected_is_one_sentence_too(wordelim, here, monkeypatch):
    for error, said in {
        RuntimeError("first [line]\nsecond"): "error: RuntimeError: first [line] (unexpected: --debug shows where, "
        "please report it).",
        MemoryError(): "error: The memory is used up (MemoryError); lower --batch-size or --max-length.",
    }.items():

        def fail(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr(importlib.import_module("wordelim.verbs.compress"), "compress", fail)
        done = wordelim(*QUICK)
        assert done.exit_code == 1
        assert done.stderr == said + "\n"
        assert type(wordelim(*QUICK, "--debug").exception) is type(error)


# --- as a process -------------------------------------------------------------------------------------------------


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "wordelim", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_leaves_nothing(here, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    before = tree(here)
    options = ("--keep", "0.7,0.4,0", "--epochs", "5000")  # the end must not be faster than the signal
    process = start("compress", "dense", *DATA, "-o", "new/out", *options, TMPDIR=str(scratch))
    try:
        for line in process.stderr:
            if line.startswith("retrain"):
                process.send_signal(signal.SIGINT)
                break
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()  # where it hasn't ended, it would go on for hours
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.endswith("Interrupted: nothing was written.\n")
    assert "Traceback" not in stderr
    assert tree(here) == before
    assert not [path for path in scratch.iterdir() if path.name.startswith("wordelim")]


def test_module_and_version():
    process = start("--version")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (0, f"wordelim {package.__version__}\n", "")
