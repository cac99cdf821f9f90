"""A run that goes on: which may, from what, and that it ends as if nobody had stopped it."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import socket
import time

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wordelim.compression.journal import Journal
from wordelim.errors import CheckpointError
from wordelim.system.lock import hold
from wordelim.training.checkpoints import last_checkpoint
from wordelim.verbs.compress import compress

RUN = {
    "method": "learned",
    "target_speedup": 1.5,
    "epochs": 1,
    "search_epochs": 1,
    "batch_size": 4,
    "search_examples": 8,
    "max_drop": 100,
    "measure_speed": False,
}
MACHINE = ("seconds", "peak_memory_gib", "train_runtime", "train_samples_per_second", "train_steps_per_second")
SHORT, LONG = 3, 25  # kills


@pytest.fixture(scope="module")
def sets(make_texts):
    return {"train": make_texts(32), "validation": make_texts(8, 1)}


@pytest.fixture(scope="module")
def dense(make_model, make_tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("dense") / "dense"
    model = make_model("bert", labels=2, attention_probs_dropout_prob=0.1)
    model.config.id2label, model.config.label2id = {0: "neg", 1: "pos"}, {"neg": 0, "pos": 1}
    model.save_pretrained(directory)
    make_tokenizer("bert").save_pretrained(directory)
    (directory / "never.txt").write_text("good\n")
    (directory / "sentence_bert_config.json").write_text("{}")
    return directory


def in_a_child(work):
    """Do something in a process of its own; its exit code, which is the signal's, less than 0, where one ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return child


def code_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(stage, share):
    def progress(name, done):
        if name == stage and done >= share:
            os.kill(os.getpid(), signal.SIGKILL)

    return progress


@pytest.fixture(scope="module")
def stopped(dense, sets, tmp_path_factory):
    """What a run that was killed in its last stage left: two checkpoints of that, and the search before it."""
    folder = tmp_path_factory.mktemp("stopped")
    run = {**RUN, "protect": f"words:{dense / 'never.txt'}"}
    child = in_a_child(lambda: compress(dense, **sets, output=folder / "out", progress=kill_at("retrain", 0.9), **run))
    assert code_of(child) == -signal.SIGKILL
    assert {"search.json", "retrain", "run.json", "lock"} == {path.name for path in work_of(folder).iterdir()}
    return folder


@pytest.fixture(scope="module")
def whole(dense, sets, tmp_path_factory):
    """What a run that nobody stops writes, and how long it takes."""
    output, start = tmp_path_factory.mktemp("whole") / "out", time.perf_counter()
    compress(dense, **sets, output=output, **RUN, protect=f"words:{dense / 'never.txt'}")
    return output, time.perf_counter() - start


def work_of(folder):
    return folder / "out.wordelim-work"


@pytest.fixture
def left(stopped, tmp_path):
    """A folder of one's own with what the killed run left in it."""
    shutil.copytree(stopped, tmp_path / "left")
    return tmp_path / "left"


def resumed(dense, sets, folder, **changes):
    run = {**RUN, "protect": f"words:{dense / 'never.txt'}", **changes}
    return compress(dense, **sets, output=folder / "out", resume=True, **run)


def without_machine(data):
    if isinstance(data, dict):
        return {name: without_machine(value) for name, value in data.items() if name not in MACHINE}
    return [without_machine(value) for value in data] if isinstance(data, list) else data


def assert_same(output, whole):
    """Byte by byte, but for times and memory."""
    assert {path.name for path in output.iterdir()} == {path.name for path in whole.iterdir()}
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (output / name).read_bytes() == (whole / name).read_bytes(), name
    reports = [json.loads((folder / "wordelim_report.json").read_text()) for folder in (output, whole)]
    assert without_machine(reports[0]) == without_machine(reports[1])
    assert [path.name for path in output.parent.iterdir()] == ["out"]


# --- which may go on ----------------------------------------------------------------------------------------------


def changed_json(name, **changes):
    def change(folder):
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**data, **changes}))

    return change


def with_another_word(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"film"', '"movie"'))


def with_lower_case(folder):
    changed_json("tokenizer.json", normalizer={"type": "Lowercase"})(folder)


def with_another_weight(folder):
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


OTHERS = {
    "tokenizer": with_another_word,
    "tokenizer.words": with_lower_case,
    "tokenizer.model_max_length was 64 and is 32": changed_json("tokenizer_config.json", model_max_length=32),
    "config.attention_probs_dropout_prob was 0.1 and is 0.2": changed_json(
        "config.json", attention_probs_dropout_prob=0.2
    ),
    "config.layer_norm_eps": changed_json("config.json", layer_norm_eps=1e-5),
    "config.label2id.neg was 0 and is 1": changed_json(
        "config.json", id2label={"0": "pos", "1": "neg"}, label2id={"pos": 0, "neg": 1}
    ),
    "companions.sentence_bert_config.json": lambda folder: (folder / "sentence_bert_config.json").write_text("{} "),
    "protected": lambda folder: (folder / "never.txt").write_text("bad\n"),
    "model was": with_another_weight,
}


@pytest.mark.parametrize("said", OTHERS)
def test_a_run_of_something_else_isnt_gone_on_with(dense, sets, left, tmp_path, said):
    """Whatever the result depends on is named where it isn't what it was; nothing is lost by asking."""
    other = shutil.copytree(dense, tmp_path / "other")
    OTHERS[said](other)
    before = {path: path.read_bytes() for path in work_of(left).rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(CheckpointError) as caught:
        resumed(other, sets, left, protect=f"words:{other / 'never.txt'}")
    sentence = str(caught.value)
    assert "is of another run (" in sentence
    assert said in sentence
    assert {path: path.read_bytes() for path in work_of(left).rglob("*") if path.is_file()} == before
    assert not (left / "out").exists()


def test_it_isnt_asked_where_the_same_stands(dense, sets, whole, left, tmp_path):
    """The same model, words and data in another place are the same run."""
    moved = shutil.copytree(dense, tmp_path / "moved")
    resumed(moved, sets, left, protect=f"words:{dense / 'never.txt'}")
    assert (left / "out" / "model.safetensors").read_bytes() == (whole[0] / "model.safetensors").read_bytes()


# --- from what ----------------------------------------------------------------------------------------------------


def checkpoints_of(folder):
    return sorted((work_of(folder) / "retrain").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))


def damaged(path, how):
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "else": b"\x80" + data[1:], "null": b"null"}[how])


FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


@pytest.mark.parametrize("how", ["empty", "cut", "else", "null"])
@pytest.mark.parametrize("name", [*FILES, "wordelim-complete"])
def test_a_damaged_checkpoint_doesnt_count(left, name, how):
    *_, before, last = checkpoints_of(left)
    damaged(last / name, how)
    assert last_checkpoint(last.parent) == before
    (before / name).unlink()
    assert last_checkpoint(last.parent) is None


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json", "every"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(dense, sets, whole, left, name):
    *_, last = found = checkpoints_of(left)
    for folder in found if name == "every" else [last]:
        damaged(folder / ("model.safetensors" if name == "every" else name), "cut")
    (last.parent / "checkpoint-abc").mkdir()
    (last.parent / "checkpoint-abc" / "wordelim-complete").touch()
    (last.parent / "checkpoint-9.5").write_text("")
    resumed(dense, sets, left)
    assert_same(left / "out", whole[0])


@pytest.mark.parametrize("how", ["empty", "cut", "else", "null"])
def test_a_damaged_stage_is_named_and_can_be_done_again(dense, sets, whole, left, how):
    path = work_of(left) / "search.json"
    damaged(path, how)
    with pytest.raises(
        CheckpointError, match=r"search\.json is damaged: delete .*search\.json and --resume does that part"
    ):
        resumed(dense, sets, left)
    assert path.exists()
    if how == "cut":
        path.unlink()
        resumed(dense, sets, left)
        assert_same(left / "out", whole[0])


@pytest.mark.parametrize("how", ["empty", "cut", "else", "null", "changed", "missing"])
def test_damaged_weights_of_a_stage_are_named(bert, tmp_path, how):
    work = Journal(tmp_path / "work")
    work.bind({"seed": 1})
    work.keep("retrain", {"a": 1}, bert)
    path = tmp_path / "work" / "retrain.safetensors"
    assert work.known("retrain") == {"a": 1}
    assert work.weights("retrain").keys() == bert.state_dict().keys()
    if how == "missing":
        path.unlink()
    elif how == "changed":
        save_file({name: tensor.clone() + 1 for name, tensor in load_file(path).items()}, path)
    else:
        damaged(path, how)
    with pytest.raises(CheckpointError, match=r"retrain\.safetensors is damaged: delete .*retrain\.json and --resume"):
        work.weights("retrain")


@pytest.mark.parametrize("how", ["empty", "cut", "else", "null"])
def test_a_damaged_folder_is_refused(dense, sets, left, how):
    damaged(work_of(left) / "run.json", how)
    with pytest.raises(CheckpointError, match=r"holds no run that can go on .*: delete it, or pass --force"):
        resumed(dense, sets, left)


# --- a disk that refuses ------------------------------------------------------------------------------------------


def refusing(error):
    def refuse(*args, **options):
        raise error

    return refuse


FULL, READ_ONLY = (OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EROFS))
WRITERS = {
    "safetensors": (
        "transformers.modeling_utils.safe_save_file",
        SafetensorError("I/O error: x (os error 28)"),
        "room",
    ),
    "torch": ("torch.save", RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/3"), "room"),
    "pickle": ("torch.save", FULL, "room"),
    "state": ("transformers.trainer_callback.TrainerState.save_to_json", READ_ONLY, "another"),
    "stage": ("wordelim.compression.journal.save_file", FULL, "room"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_refuses_is_one_sentence_and_the_run_goes_on(dense, sets, whole, left, monkeypatch, name):
    """Whichever library writes, and however deep."""
    place, error, repair = WRITERS[name]
    with monkeypatch.context() as patch:
        patch.setattr(place, refusing(error))
        with pytest.raises(CheckpointError) as caught:
            resumed(dense, sets, left)
    sentence = str(caught.value)
    assert "out.wordelim-work/retrain" in sentence
    assert ("make room" in sentence) == (repair == "room")
    assert sentence.endswith("name another output.")
    if name != "torch":
        assert os.strerror(errno.ENOSPC if repair == "room" else errno.EROFS) in sentence
    assert last_checkpoint(work_of(left) / "retrain")
    if name in ("torch", "state", "stage"):  # in the midst of a checkpoint, at its end, and after the last
        resumed(dense, sets, left)
        assert_same(left / "out", whole[0])


def test_another_error_of_torch_is_not_the_disks(dense, sets, left, monkeypatch):
    monkeypatch.setattr("torch.save", refusing(RuntimeError("CUDA out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        resumed(dense, sets, left)


def test_a_limit_of_the_system_is_a_sentence_too(dense, sets, left, tmp_path):
    """As a quota: files may be no larger than some kilobytes."""

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            resumed(dense, sets, left)
        except CheckpointError as error:
            os._exit(3 if "can't be written" in str(error) and "make room" in str(error) else 4)

    assert code_of(in_a_child(work)) == 3
    assert work_of(left).is_dir()


# --- by one at a time ---------------------------------------------------------------------------------------------


def test_a_second_run_is_told_who_holds_the_output(dense, sets, tmp_path):
    """From the first moment on, before there is anything to go on from, and until a kill."""
    (tmp_path / "report").mkdir()
    ready = tmp_path / "report" / "ready"

    def work():
        def wait(name, done):
            ready.touch()
            signal.pause()

        compress(dense, **sets, output=tmp_path / "out", progress=wait, **RUN)

    child = in_a_child(work)
    try:
        while not ready.exists():
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            time.sleep(0.01)
        before = {path: path.stat().st_mtime_ns for path in work_of(tmp_path).rglob("*")}
        for how in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(CheckpointError) as caught:
                compress(dense, **sets, output=tmp_path / "out", **RUN, **how)
            sentence = str(caught.value)
            assert f"is in use by another run (process {child} on {socket.gethostname()}, since 20" in sentence
            assert "wait until that ends, or name another output" in sentence
            assert {path: path.stat().st_mtime_ns for path in work_of(tmp_path).rglob("*")} == before
    finally:
        os.kill(child, signal.SIGKILL)
        code_of(child)
    compress(dense, **sets, output=tmp_path / "out", resume=True, **RUN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "report"]


@pytest.mark.parametrize("locks", ["system", "none"])
def test_a_folder_is_held_by_one_and_let_go(tmp_path, monkeypatch, locks):
    if locks == "none":
        monkeypatch.setattr("wordelim.system.lock.fcntl", None)
    folder = tmp_path / "new" / "work"
    for _ in range(2):
        with hold(folder):
            with pytest.raises(CheckpointError, match=f"another run .process {os.getpid()} on "), hold(folder):
                pass
            assert folder.is_dir()
        assert list(tmp_path.iterdir()) == []
    with hold(folder):
        (folder / "kept").touch()
    assert [path.name for path in folder.iterdir()] == ["kept"]


@pytest.mark.parametrize("locks", ["system", "none"])
def test_what_a_killed_process_held_is_free(tmp_path, monkeypatch, locks):
    if locks == "none":
        monkeypatch.setattr("wordelim.system.lock.fcntl", None)

    def work():
        with hold(tmp_path / "work"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert code_of(in_a_child(work)) == -signal.SIGKILL
    assert (tmp_path / "work" / "lock").exists()
    with hold(tmp_path / "work"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_a_launch_the_main_process_holds(tmp_path, monkeypatch):
    launch = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    with hold(tmp_path / "work"), monkeypatch.context() as patch:
        for name, value in launch.items():
            patch.setenv(name, value)
        with hold(tmp_path / "work"):
            pass
    assert list(tmp_path.iterdir()) == []


# --- to the same end ----------------------------------------------------------------------------------------------


def killed_until_done(dense, sets, folder, kills, longest, seed):
    """Kill a run at so many moments drawn at random, each time going on, and then let it end."""
    moments, output = random.Random(seed), folder / "out"
    for _ in range(kills):
        child = in_a_child(lambda: (resumed(dense, sets, folder), os._exit(0)))
        time.sleep(moments.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        assert code_of(child) in (0, -signal.SIGKILL)
        if output.exists() and not work_of(folder).exists():
            return
    resumed(dense, sets, folder)


@pytest.mark.parametrize("seed", range(1))
def test_kills_at_any_moment_change_nothing(dense, sets, whole, tmp_path, seed):
    killed_until_done(dense, sets, tmp_path, SHORT, whole[1], seed)
    assert_same(tmp_path / "out", whole[0])


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 100 + LONG))
def test_many_kills_at_any_moment_change_nothing(dense, sets, whole, tmp_path, seed):
    killed_until_done(dense, sets, tmp_path, 2 * SHORT, 1.2 * whole[1], seed)
    assert_same(tmp_path / "out", whole[0])
