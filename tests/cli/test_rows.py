"""Options of every command that reads data."""

import importlib.util
import json

import pytest

FORM = ("--delimiter", ":", "--encoding", "cp1252")
KEEP = ("--keep", "1,1,0.5", "--no-retrain", "--max-drop", "200", "--max-length", "32")
COMMANDS = {
    "compress": ("compress", "dense", "--train", "a.csv", "--validation", "dev.csv", "-o", "out", *KEEP),
    "probe": ("probe", "dense", "--validation", "a.csv"),
    "check": ("check", "dense", "dense", "--data", "a.csv"),
    "bench": ("bench", "dense", "--data", "a.csv", "--texts", "8", "--latency-texts", "0", "--rounds", "1"),
    "explain": ("explain", "fast", "--audit", "a.csv"),
    "export": ("export", "fast", "--data", "a.csv", "-o", "program"),
}


LONG = [pytest.param("export", marks=pytest.mark.long)]  # as the others, and takes its time


@pytest.mark.parametrize("name", [*(name for name in COMMANDS if name != "export"), *LONG])
def test_bad_rows_are_left_out_and_listed(name, here, wordelim, make_texts):
    if name == "export" and not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        pytest.skip("nothing to export with")
    if name in ("explain", "export"):
        train = ("--train", "train.csv", "--validation", "train.csv")
        assert wordelim("compress", "dense", *train, "-o", "fast", *KEEP).exit_code == 0
    for path, rows in (("a.csv", make_texts(24)), ("dev.csv", make_texts(16, 1))):
        frame = rows.to_pandas().assign(note="é")
        if path == "a.csv":
            frame.loc[1, "text"] = " "
        frame.to_csv(path, index=False, sep=":", encoding="cp1252")
    done = wordelim(*COMMANDS[name], *FORM)
    assert done.exit_code == 1
    assert "ow 2 has" in done.stderr
    assert "text in column 'text'; fill it in or leave the row out" in done.stderr
    done = wordelim(*COMMANDS[name], *FORM, "--skip-bad-rows", "--json")
    assert done.exit_code == 0, done.stderr
    assert "data: 1 row." in done.stderr
    assert "- Row 2 has a blank text in column 'text'" in done.stderr
    assert '"skipped"' in json.dumps(json.loads(done.stdout))
    done = wordelim(*COMMANDS[name], "--delimiter", ":", *(["--force"] if name in ("compress", "export") else []))
    assert done.exit_code == 1
    assert "is not UTF-8 text; save the file as UTF-8, or name its --encoding." in done.stderr


def test_sets_with_other_columns_are_told_apart(here, wordelim, make_texts):
    make_texts(8).rename_column("text", "sentence").to_csv("other.csv")
    done = wordelim("compress", "dense", "--train", "train.csv", "--validation", "other.csv", "-o", "out", *KEEP)
    assert done.exit_code == 1
    assert "In the validation data: there is no column 'text', which the train data has; the columns are" in done.stderr
    assert "--text" not in done.stderr
