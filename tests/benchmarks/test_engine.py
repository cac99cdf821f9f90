"""The engine's benchmark runs as its help says, on tiny shapes; what it measures is no test's matter."""

import importlib.util
import json

import pytest

TINY = ("--device", "cpu", "--shapes", "tiny", "--dtypes", "float32", "--seconds", "0")


@pytest.fixture
def engine(script):
    return script("engine")


def test_every_part_that_needs_no_files_is_measured_and_shown(engine, script, tmp_path):
    sizes = ("--batches", "1,2", "--lengths", "8")
    parts = ("keep-all", "rte", "batch1", "families", "growth")
    chosen = [part for name in parts for part in ("--part", name)]
    engine.main([*chosen, *TINY, *sizes, "--results", str(tmp_path)])
    for part in parts:
        result = json.loads((tmp_path / f"engine-{part}.json").read_text())
        assert result["machine"]["device"] == "cpu"
        command = f"--part {part} --dtypes float32 --shapes tiny --batches 1,2 --lengths 8 --seconds 0"
        assert result["command"] == f"python tests/benchmarks/engine.py {command}"
        for row in result["rows"]:
            assert row["rounds"] == 3
            assert row["milliseconds"]["dense"] > 0
            assert row["flops_ratio"].keys() == row["speedup"].keys()
    shown, render = script("results").merged([], tmp_path), script("engine_render")
    tables = render.engine_tables(shown)
    last = json.loads((tmp_path / "engine-rte.json").read_text())["rows"][-1]
    assert f"| fp32, batch 2 | {last['speedup']['compressed']:.2f}x |" in tables["dropped"]
    of_family = json.loads((tmp_path / "engine-families.json").read_text())["rows"][-1]
    assert f"{of_family['speedup']['mapped']:.2f}x of {of_family['flops_ratio']['mapped']:.2f}x" in tables["families"]
    assert sorted(row["part"] for row in shown if row["command"]) == sorted(parts)
    picture = tmp_path / "growth.svg"
    assert render.plot(shown, picture) == picture.exists() == bool(importlib.util.find_spec("matplotlib"))


def test_the_part_of_a_card_runs_without_one(engine, script, tmp_path):
    engine.main(["--part", "gpu", *TINY, "--batches", "1,2", "--lengths", "8", "--results", str(tmp_path)])
    rows = json.loads((tmp_path / "engine-gpu.json").read_text())["rows"]
    by_kind = {kind: [row for row in rows if row["what"] == kind] for kind in ("parity", "even", "ragged")}
    kinds = [(row["package"], row["linear"]) for row in by_kind["parity"]]
    assert kinds == [(False, False), (True, False), (True, True)]
    for row in by_kind["parity"]:
        assert row["compressed"]["largest"] < 1e-5
        assert row["compressed"]["finite"]
        assert row["compressed"]["same again"]
    assert [(row["batch"], row["tokens"]) for row in by_kind["even"]] == [(1, 8), (2, 8)]
    for row in by_kind["even"] + by_kind["ragged"]:
        graphed = {f"{name} graphed" for name in ("dense", "keep-all", "compressed", "linear")}
        assert row["milliseconds"].keys() >= {"dense", *graphed}
        assert row["fastest_dense"] != "compressed"
    with pytest.raises(SystemExit):  # it isn't shown
        script("results").merged([], tmp_path)


def test_cells_that_take_too_long_are_left_out(engine, script, tmp_path):
    longest = ("--longest", "0", "--batches", "1", "--lengths", "8")
    engine.main(["--part", "rte", *TINY, *longest, "--results", str(tmp_path)])
    rows = json.loads((tmp_path / "engine-rte.json").read_text())["rows"]
    assert [row["rounds"] for row in rows] == [0]
    (shown,) = script("results").merged([], tmp_path)
    assert shown["rows"] == []


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--part", "unpadded"], "--data"),
        (["--part", "unpadded", "--data", "x"], "--tokenizer"),
        (["--part", "training", "--data", "x"], "--tokenizer"),
        (["--part", "paper", "--data", "x"], "--model"),
        (["--model", "sst2"], "TASK=DENSE"),
        (["--shapes", "huge"], "choose out of bert-base"),
    ],
)
def test_what_a_part_needs_is_said(engine, capsys, arguments, needed):
    with pytest.raises(SystemExit) as stopped:
        engine.main(arguments)
    assert stopped.value.code == 2
    assert needed in capsys.readouterr().err
