"""Malformed directories, reports and data through the command line: always one sentence, nothing written, no hang.

The same as a long run: ``pytest -m long tests/cli/test_fuzz.py``.
"""

import copy
import gc
import json
import shutil
import signal
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wordelim import Retention, eliminate_
from wordelim.checkpoint.directory import save

# What the suite runs of each of the parts below, and what the long run does: 2,000 inputs in all.
FEW, MANY = 8, 334
LIMIT = 30  # seconds
DELETED, DEEP, DIGITS = "@deleted@", "@deep@", "@digits@"
VALUES = (
    *(DELETED, DEEP, DIGITS, None, True, False, 0, 1, -1, 2, 7, 10**9, 2**63, 10**400, 0.5, -0.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "x", "1", "nan", "é", "\ud800", "\x1b[31m", "a\nb", "\0"),
    *("y" * 5000, [], [None], [1], ["x"], [[]], [0.9, 0.5, 0.1], {}, {"x": 1}, {"0": "x"}, {"text": ["x"]}),
)
ENTRY = "quantization_config"


class Hang(BaseException):
    """Not an Exception, so that no command can take it for one of its own."""


@contextmanager
def watched():
    def ring(*_):
        raise Hang(f"no answer within {LIMIT} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- what is changed ----------------------------------------------------------------------------------------------


def places(value):
    """Every container and key in plain data."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def changed(value, changes):
    """Plain data with some of its values replaced or gone."""
    value = copy.deepcopy(value)
    for number, new in changes:
        found = list(places(value))
        if not found:
            return new
        parent, key = found[number % len(found)]
        if new == DELETED:
            del parent[key]
        else:
            parent[key] = copy.deepcopy(new)
    return value


def as_json(value) -> str:
    text = json.dumps(value)
    for name, raw in ((DEEP, "[" * 100_000 + "]" * 100_000), (DIGITS, "9" * 5000)):
        text = text.replace(json.dumps(name), raw)
    return text


def damaged(raw: bytes, damage) -> bytes:
    kind, number = damage
    at = number % max(1, len(raw))
    return {
        "whole": raw,
        "cut": raw[:at],
        "flipped": raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :] if raw else raw,
        "empty": b"",
        "null": b"null",
        "list": b"[]",
        "doubled": raw + raw,
    }[kind]


changes = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(VALUES)), min_size=1, max_size=3)
damages = st.tuples(
    st.sampled_from(["whole"] * 12 + ["cut", "flipped", "empty", "null", "list", "doubled"]), st.integers(0, 10**6)
)


def rewrite(path: Path, changes, damage, part=None) -> None:
    data = json.loads(path.read_text())
    if part is None:
        data = changed(data, changes)
    else:
        data[part] = changed(data[part], changes)
    path.write_bytes(damaged(as_json(data).encode(), damage))


def rewrite_header(path: Path, changes, damage) -> None:
    """Of safetensors: eight bytes that say how long the header is, the header, the weights."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = damaged(as_json(changed(json.loads(raw[8 : 8 + size]), changes)).encode(), damage)
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + size :])


# --- what is run --------------------------------------------------------------------------------------------------

WORDS = "good bad film the a plot is it was not very one two three great poor acting story long short"
TEXTS = [" ".join(WORDS.split()[row : row + 4 + row % 5]) for row in range(8)]
TAGS = ("O", "B-X", "I-X")
HEADS = {
    "sequence": ({"labels": 2}, [{"text": t, "label": row % 2} for row, t in enumerate(TEXTS)]),
    "names": (
        {"labels": 2, "id2label": {0: "neg", 1: "pos"}, "label2id": {"neg": 0, "pos": 1}},
        [{"text": t, "label": ("neg", "pos")[row % 2]} for row, t in enumerate(TEXTS)],
    ),
    "several": (
        {"labels": 3, "problem_type": "multi_label_classification"},
        [{"text": t, "labels": [row % 2, 1, row % 3 // 2]} for row, t in enumerate(TEXTS)],
    ),
    "score": (
        {"labels": 1},
        [{"sentence1": t, "sentence2": t[::-1], "score": row / 2} for row, t in enumerate(TEXTS)],
    ),
    "ranking": (
        {"labels": 1},
        [{"query": TEXTS[row % 2], "document": t, "label": row // 4} for row, t in enumerate(TEXTS)],
    ),
    "tagging": (
        {"head": "token", "labels": 3, "id2label": dict(enumerate(TAGS)), "label2id": {"O": 0, "B-X": 1, "I-X": 2}},
        [{"tokens": t.split(), "tags": ["B-X", *["O"] * (len(t.split()) - 1)]} for t in TEXTS],
    ),
    "choice": (
        {"head": "choice"},
        [{"context": t, "choices": [t, "good film"], "label": row % 2} for row, t in enumerate(TEXTS)],
    ),
    "answer": (
        {"head": "answer"},
        [
            {"question": "good film", "context": t, "answers": {"text": [t.split()[0]], "answer_start": [0]}}
            for t in TEXTS
        ],
    ),
    "embeddings": (
        {"head": "none"},
        [{"sentence1": t, "sentence2": "good film", "score": row / 8} for row, t in enumerate(TEXTS)],
    ),
}


def write_rows(path: Path, rows, damage=("whole", 0)) -> None:
    path.write_bytes(damaged("\n".join(as_json(row) for row in rows).encode() + b"\n", damage))


@pytest.fixture(scope="session")
def originals(make_model, make_tokenizer, tmp_path_factory):
    """A dense and a compressed directory and labelled rows of each head. Change nothing in them."""
    root = tmp_path_factory.mktemp("originals")
    for name, (options, rows) in HEADS.items():
        place = root / name
        model, tokenizer = make_model("bert", **options), make_tokenizer("bert")
        model.save_pretrained(place / "dense")
        tokenizer.save_pretrained(place / "dense")
        save(eliminate_(model, Retention.fractions([0.9, 0.5, 0.2])), tokenizer, place / "fast")
        write_rows(place / "rows.jsonl", rows)
    return root


@pytest.fixture(scope="session")
def baseline(originals):
    """The report of a check of the compressed classifier."""
    from wordelim import check

    place = originals / "sequence"
    return json.loads(json.dumps(check(place / "dense", place / "fast", data=place / "rows.jsonl").report))


def contents(root: Path):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def tried(wordelim, originals, monkeypatch):
    """``tried(head, change, *arguments)``: run a command on a changed copy, and hold it to the rule."""

    def run(head, change, *arguments):
        with tempfile.TemporaryDirectory() as scratch:
            here = Path(scratch)
            shutil.copytree(originals / head, here, dirs_exist_ok=True)
            change(here)
            monkeypatch.chdir(here)
            before = contents(here)
            with watched():
                done = wordelim(*arguments)
            said = f"{done.stdout}\n{done.stderr}"
            assert done.exception is None or isinstance(done.exception, SystemExit), said
            assert done.exit_code in (0, 1, 2, 3), said
            assert "Traceback" not in said, said
            assert "(unexpected: " not in said, said
            assert "\x1b" not in said, said
            if done.exit_code in (1, 2):
                assert done.stderr.strip(), arguments
            if done.exit_code == 1:
                assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1, said
                assert len(done.stderr) < 2000, said
            assert contents(here) == before
            monkeypatch.chdir(originals)
        gc.collect()

    return run


def fuzzed(**strategies):
    """A test on a few examples, always the same ones, and one on many."""

    def wrap(body):
        def with_examples(number):
            return settings(max_examples=number, suppress_health_check=list(HealthCheck))(given(**strategies)(body))

        return with_examples

    return wrap


COMMANDS = {
    "inspect": lambda model: ("inspect", model),
    "dry-run": lambda model: (
        *("compress", model, "--train", "rows.jsonl", "--validation", "rows.jsonl", "-o", "out", "--dry-run"),
    ),
    "check": lambda model: ("check", "dense", model, "--data", "rows.jsonl", "--max-drop", "100"),
}
heads, commands = st.sampled_from(sorted(HEADS)), st.sampled_from(sorted(COMMANDS))


@fuzzed(head=heads, command=commands, changes=changes, damage=damages)
def config(tried, head, command, changes, damage):
    model = "dense" if command == "dry-run" else "fast"
    tried(head, lambda here: rewrite(here / model / "config.json", changes, damage), *COMMANDS[command](model))


@fuzzed(head=heads, command=st.sampled_from(["inspect", "check"]), changes=changes, damage=damages)
def entry(tried, head, command, changes, damage):
    tried(head, lambda here: rewrite(here / "fast" / "config.json", changes, damage, ENTRY), *COMMANDS[command]("fast"))


@fuzzed(head=heads, command=commands, changes=changes, damage=damages)
def header(tried, head, command, changes, damage):
    model = "dense" if command == "dry-run" else "fast"
    tried(
        head,
        lambda here: rewrite_header(here / model / "model.safetensors", changes, damage),
        *COMMANDS[command](model),
    )


@fuzzed(changes=changes, damage=damages)
def report(tried, baseline, changes, damage):
    def change(here):
        (here / "baseline.json").write_text(json.dumps(baseline))
        rewrite(here / "baseline.json", changes, damage)

    tried(
        "sequence",
        change,
        *("check", "fast", "--baseline-report", "baseline.json", "--data", "rows.jsonl", "--max-drop", "100"),
    )


@fuzzed(head=heads, command=st.sampled_from(["dry-run", "check"]), changes=changes, damage=damages)
def cells(tried, head, command, changes, damage):
    model = "dense" if command == "dry-run" else "fast"
    rows = changed(HEADS[head][1], changes)
    tried(head, lambda here: write_rows(here / "rows.jsonl", rows, damage), *COMMANDS[command](model))


@fuzzed(
    head=heads,
    command=commands,
    name=st.sampled_from(["tokenizer.json", "tokenizer_config.json"]),
    changes=changes,
    damage=damages,
)
def words(tried, head, command, name, changes, damage):
    model = "dense" if command == "dry-run" else "fast"
    tried(head, lambda here: rewrite(here / model / name, changes, damage), *COMMANDS[command](model))


PARTS = (config, entry, header, report, cells, words)


def _tests(part):
    few, many = part(FEW), part(MANY)
    return few, pytest.mark.long(many)


test_configs, test_configs_long = _tests(config)
test_retention_entries, test_retention_entries_long = _tests(entry)
test_weights, test_weights_long = _tests(header)
test_baseline_reports, test_baseline_reports_long = _tests(report)
test_rows, test_rows_long = _tests(cells)
test_tokenizers, test_tokenizers_long = _tests(words)
