"""Whatever a command is told to write: nothing that it reads and nothing that isn't wordelim's own is changed by it."""

import hashlib
import json
import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from wordelim import Retention, eliminate_
from wordelim.checkpoint.directory import save, write_report
from wordelim.checkpoint.loading import load_tokenizer
from wordelim.cli import app
from wordelim.errors import CheckpointError
from wordelim.system.files import write_whole
from wordelim.system.outputs import refuse_existing, refuse_file, refuse_files
from wordelim.verbs.compress import compress

TRAINED = ("--train", "data/train.csv", "--validation", "data/dev.csv", "--test", "data/test.csv")
TO_FILES = {
    "bench": ("models/dense", "models/fast", "--data", "data/dev.csv", "--config", "bench.toml"),
    "check": (
        *("models/dense", "models/fast", "--data", "data/dev.csv"),
        *("--baseline-report", "old.json", "--config", "bench.toml"),
    ),
    "probe": ("models/dense", "--validation", "data/dev.csv", "--config", "bench.toml"),
    "explain": ("models/fast", "--audit", "data/dev.csv", "--config", "bench.toml"),
}
FILE_OPTIONS = [
    *(("bench", option) for option in ("-o", "--html")),
    *(("check", option) for option in ("-o", "--junit", "--markdown", "--html")),
    *(("probe", "-o"), ("explain", "--html")),
]
TO_FOLDERS = {
    "compress": ("models/dense", *TRAINED, "--protect", "words:words/never.txt", "--config", "run/compress.toml"),
    "export": ("models/fast", "--data", "data/dev.csv", "--config", "run/compress.toml"),
    "demo": ("--config", "run/compress.toml"),
}


@pytest.fixture
def scratch(here, template, make_model, make_texts):
    """Models, data and what else a run reads, and things that stand about."""
    (here / "dense").unlink()
    shutil.copytree(template, here / "models" / "dense")
    fast = make_model("bert", labels=2)
    fast.config.id2label, fast.config.label2id = {0: "neg", 1: "pos"}, {"neg": 0, "pos": 1}
    eliminate_(fast, Retention.fractions([0.7, 0.4, 0.0]))
    for place in ("models/fast", "old", "run", "words", "git", "data"):
        save(fast, load_tokenizer(template), here / place, report={"wordelim_report": 1})
    for name in ("train", "dev", "test"):
        make_texts(8).to_csv(f"data/{name}.csv")
        (here / f"{name}.csv").unlink(missing_ok=True)
    write_report({"wordelim_check": 1}, "old.json")
    for name, text in {"bench.toml": "", "run/compress.toml": "", "words/never.txt": "good\n", "mine.txt": "x"}.items():
        (here / name).write_text(text)
    for name in ("app/.git", "app/src", "git/.git", "letters", "config"):
        (here / name).mkdir(parents=True)
    (here / "app/config.json").write_text(json.dumps({"port": 80, "model_type": "web"}))
    (here / "config/config.json").write_text(json.dumps({"port": 80}))
    (here / "app/src/main.py").write_text("print()")
    (here / "git/.git/HEAD").write_text("ref")
    (here / "letters/letter.txt").write_text("mine")
    (here / "mine.json").write_text('{"mine": 1}')
    (here / "link.json").symlink_to("mine.json")
    (here / "nowhere.json").symlink_to("nothing.json")
    (here / "null.json").symlink_to("/dev/null")
    (here / "link").symlink_to("old")
    (here / "nothing").symlink_to("nothing-there")
    (here / "models-link").symlink_to("models")
    (here / "data.csv").symlink_to("data/dev.csv")
    os.mkfifo(here / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    return here


def digest(folder):
    """Everything below a folder: kinds, modes, contents, and where links lead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else ""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[path.relative_to(folder).as_posix()] = (stat.filemode(status.st_mode), content)
    return found


def refused(done):
    """The sentence of a command that was refused, which ran nothing."""
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(".")
    return line


NO_FILES = {
    "models/dense/config.json": "is in the",
    "models/fast/new.json": "is in the",
    "models-link/fast/new.json": "is in the",
    "data/dev.csv": "is the",
    "data.csv": "is the",
    "bench.toml": "is the file of --config itself",
    "data": "is a directory: name a file in it",
    "link.json": "is a symbolic link: name the file that it leads to",
    "nowhere.json": "is a symbolic link",
    "null.json": "is a symbolic link",
    "/dev/null": "is a device, a pipe or a socket: name a file",
    "pipe": "is a device, a pipe or a socket",
    "socket": "is a device, a pipe or a socket",
    "mine.json": "exists and is no report of wordelim: name another, or delete it first",
    "mine.txt": "exists and is no report of wordelim",
    "app/config.json": "exists and is no report of wordelim",
    "n" * 256: "File name too long",
    "mine.txt/report": "is a file): name another place",
}


def test_the_laws_are_on_every_option_that_writes():
    """A command that writes and isn't here would be held to nothing."""
    writing = {"output", "junit", "markdown", "html"}
    options = {
        (command.name, name)
        for command in app.registered_commands
        for name in command.callback.__signature__.parameters
        if name in writing
    }
    held = {(command, option.lstrip("-").replace("o", "output") if option == "-o" else option.lstrip("-"))
            for command, option in (*FILE_OPTIONS, *((command, "-o") for command in TO_FOLDERS))}  # fmt: skip
    assert options == held


def test_no_file_but_its_own_is_ever_replaced(wordelim, scratch):
    for command, option in FILE_OPTIONS:
        for target, said in NO_FILES.items():
            if target == "models/dense/config.json" and command == "explain":
                said = "exists and is no report"  # it reads the other model
            if target.endswith("fast/new.json") and command == "probe":
                continue
            before, device = digest(scratch), os.stat("/dev/null").st_mode
            sentence = refused(wordelim(command, *TO_FILES[command], option, target))
            assert said in sentence, (command, option, target)
            assert digest(scratch) == before, (command, option, target)
            assert os.stat("/dev/null").st_mode == device
    assert "is the baseline report itself" in refused(wordelim("check", *TO_FILES["check"], "--junit", "old.json"))


@pytest.mark.parametrize("second", ["new.out", "./new.out", "here/new.out", "new.out/below"])
def test_no_two_options_name_one_file(wordelim, scratch, second):
    (scratch / "here").symlink_to(".")
    before = digest(scratch)
    for first, other in (("--junit", "--markdown"), ("-o", "--html"), ("--markdown", "-o")):
        done = wordelim("check", *TO_FILES["check"], first, "new.out", other, second)
        assert ("name the same file" in refused(done)) == ("below" not in second)
    refused(wordelim("bench", *TO_FILES["bench"], "-o", "new.out", "--html", second))
    assert digest(scratch) == before


NO_FOLDERS = {
    "models/dense/out": "is in the model",
    "models/fast/out": "is in the model",
    "models": "holds the model, ",
    "data": "which would be deleted: name another",
    "run": "which would be deleted: name another",
    "words": "which would be deleted: name another",
    "app": "holds something else than a model (config.json)",
    "config": "holds something else than a model (config.json)",
    "git": "holds something else than a model (.git/",
    "letters": "holds something else than a model (letter.txt)",
    ".": "holds the file of --config",
    "..": "holds the file of --config",
    "/": "holds the file of --config",
    "link": "is a symbolic link: name the directory that it leads to",
    "nothing": "is a symbolic link",
    "mine.txt": "is a file: name a directory",
    "pipe": "is a file: name a directory",
    "/dev/null": "is a file: name a directory",
    "mine.txt/out": "is a file; name another place",
    "n" * 256: "File name too long",
}
# What another command reads, and this one doesn't.
OTHERS = {
    "compress": ("models/fast/out",),
    "export": ("models/dense/out", "words"),
    "demo": ("models/dense/out", "models/fast/out", "models", "data", "words"),
}


@pytest.mark.parametrize("command", TO_FOLDERS)
def test_no_folder_but_its_own_is_ever_replaced(wordelim, scratch, command):
    for target, said in NO_FOLDERS.items():
        if target in OTHERS[command]:
            continue
        before = digest(scratch)
        sentence = refused(wordelim(command, *TO_FOLDERS[command], "-o", target, "--force"))
        assert said in sentence, (command, target)
        assert digest(scratch) == before, (command, target)


def test_compress_asks_for_all_that_it_may_come_to_write(wordelim, scratch):
    """The reports of an unmet goal, and the folder of its work."""
    (scratch / "out.report.html").write_text("mine")
    (scratch / "fast.wordelim_report.json").symlink_to("mine.json")
    (scratch / "new.wordelim-work").mkdir()
    (scratch / "new.wordelim-work" / "letter.txt").write_text("mine")
    (scratch / "also.wordelim-work").symlink_to("old")
    shutil.copytree(scratch / "models" / "dense", scratch / "last.wordelim-work" / "search" / "checkpoint-6")
    (scratch / "last.wordelim-work" / "run.json").write_text("{}")
    before = digest(scratch)
    for output, said in {
        "out": "out.report.html exists and is no report of wordelim",
        "fast": "fast.wordelim_report.json is a symbolic link",
        "new": "new.wordelim-work is no folder of an unfinished run",
        "also": "also.wordelim-work is no folder of an unfinished run",
        "n" * 240: "File name too long",
    }.items():
        for more in ((), ("--force",), ("--resume",), ("--dry-run",)):
            assert said in refused(wordelim("compress", *TO_FOLDERS["compress"], "-o", output, *more))
    source = ("compress", "last.wordelim-work/search/checkpoint-6", *TRAINED, "-o", "last", "--force")
    assert "holds the model" in refused(wordelim(*source))
    assert digest(scratch) == before


def test_python_is_refused_as_the_command_line_is(scratch):
    before = digest(scratch)
    sets = {"train": "data/train.csv", "validation": "data/dev.csv"}
    for output in ("models", "data", "models/dense", "models/dense/out", "app"):
        with pytest.raises(CheckpointError):
            compress("models/dense", **sets, output=output, force=True)
    for target in ("mine.txt", "mine.json", "link.json", "pipe", "/dev/null", "data"):
        for write in (lambda path: write_whole("x", path), lambda path: write_report({"a": 1}, path)):
            with pytest.raises(CheckpointError):
                write(target)
    assert digest(scratch) == before


def test_the_home_and_the_working_directory_are_never_replaced(scratch, monkeypatch):
    monkeypatch.setenv("HOME", str(scratch / "old"))
    with pytest.raises(CheckpointError, match="holds the home directory: name another"):
        refuse_existing("~", force=True)
    monkeypatch.setenv("HOME", str(scratch))
    monkeypatch.chdir(scratch / "old")
    for output in (".", scratch / "old", "../link/../old"):
        with pytest.raises(CheckpointError, match="holds the working directory: name another"):
            refuse_existing(output, force=True)


# --- what goes on working -----------------------------------------------------------------------------------------


MODEL = (
    *("model.safetensors", "pytorch_model.bin", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "README.md"),
    *("special_tokens_map.json", "training_args.bin", "spiece.model", "modules.json", "1_Pooling/config.json"),
    *("checkpoint-500/optimizer.pt", "checkpoint-500/rng_state_0.pth", "checkpoint-500/model.safetensors"),
    *("runs/Nov29_host/events.out.tfevents.1.host", "onnx/model.onnx", ".gitattributes", "eval_results.json"),
    *(".cache/huggingface/download/config.json.metadata", ".cache/huggingface/.gitignore"),
)


def test_a_model_and_nothing_else_is_replaced(tmp_path):
    folder = tmp_path / "model"
    for name in ("config.json", *MODEL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"model_type": "bert"}')
    refuse_existing(folder, force=True)
    with pytest.raises(CheckpointError, match="exists: name another, or pass --force"):
        refuse_existing(folder)
    for other in (
        "train.py",
        "package.json",
        ".git/HEAD",
        "data/a.csv",
        "onnx/main.py",
        "runs/letter.txt",
        "a/config.json",
    ):
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / other).write_text("mine")
        with pytest.raises(CheckpointError, match="holds something else than a model"):
            refuse_existing(folder, force=True)
        (folder / other).unlink()
        if other.partition("/")[0] in (".git", "data", "a"):
            (folder / other).parent.rmdir()
    refuse_existing(folder, force=True)


def test_reports_of_every_form_are_replaced(wordelim, scratch):
    """As where a job runs again over what it wrote."""
    forms = {"-o": "a.json", "--junit": "a.xml", "--markdown": "a.md", "--html": "a.html"}
    arguments = [part for pair in forms.items() for part in pair]
    (scratch / "a.md").touch()  # as GITHUB_STEP_SUMMARY is
    run = ("check", "models/dense", "models/fast", "--data", "data/dev.csv", "--max-drop", "100", *arguments)
    for _ in range(2):
        done = wordelim(*run)
        assert done.exit_code == 0, done.stderr
        for name in forms.values():
            refuse_file(scratch / name)


def test_a_file_keeps_its_mode_and_a_new_one_has_the_usual(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole("", tmp_path / "new")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
        for mode in (0o600, 0o664):
            (tmp_path / "new").chmod(mode)
            write_report({"wordelim_check": 1}, tmp_path / "new")
            assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode
    finally:
        os.umask(before)


def test_what_is_planted_beside_a_file_is_left_alone(tmp_path):
    (tmp_path / "victim").write_text("mine")
    for name in (".report.json.part", "report.json.part", ".report.json.tmp"):
        (tmp_path / name).symlink_to("victim")
    write_report({"wordelim_check": 1}, tmp_path / "report.json")
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "report.json").is_symlink()
    assert len(list(tmp_path.iterdir())) == 5


def test_another_name_of_a_file_keeps_its_content(tmp_path):
    write_report({"wordelim_check": 1}, tmp_path / "old.json")
    os.link(tmp_path / "old.json", tmp_path / "kept.json")
    write_report({"wordelim_check": 2}, tmp_path / "old.json")
    assert json.loads((tmp_path / "kept.json").read_text()) == {"wordelim_check": 1}


def test_hub_names_and_data_in_memory_are_no_files(make_texts):
    refuse_files({"--html": "a.html", "-o": None}, {"model": "bert-base-uncased", "data": make_texts(2), "more": None})
    assert not Path("a.html").exists()
