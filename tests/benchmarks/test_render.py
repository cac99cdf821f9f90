"""The benchmarks' page and the README say what docs/benchmarks/results.jsonl holds; the scripts' files add to it."""

import copy
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
STALE = "run python tests/benchmarks/render.py"


@pytest.fixture
def render(script):
    return script("render")


@pytest.fixture
def results(script):
    return script("results")


@pytest.fixture
def rows(results):
    return results.read_rows()


def report(part="calibrated", seed=0, asked=2.0, lost=0.5, unpadded=1.9, met=True, **more):
    """What glue.py leaves of a run."""
    given = part.startswith(("random", "first"))
    command = "python tests/benchmarks/glue.py task" + (f" --target-speedup {asked:g}" if asked else "")
    judged = {"examples": 9, "dense": 90.0, "drop": lost, "drop_interval_95": [lost - 1, lost + 1], "flops_ratio": 2.0}
    return {
        "task": "Task",
        "model": "minilm-l6",
        "part": part,
        "metric": "accuracy",
        "paper": 2.0,
        "met": met,
        "command": command,
        "retention": {"keep": [1.0, 0.0]},
        "settings": {"seed": seed, "target_speedup": None if given else asked},
        "validation": judged | {"drop": lost - 1, "slices": [1, 2]},
        "test": judged | {"lengths": {"mean": 7.0, "histogram": [3]}, "slices": [1, 2]},
        "speed": {"unpadded": unpadded, "dynamic": 2.5, "fixed": 3.0, "batch_size": 32, "max_length": 64}
        | {"texts": 128, "threads": 2, "dtype": "float32", "rounds": 5},
        "seconds": {"search": 3.0, "choose and retrain": 117.0, "verify": 9.0},
        "versions": {"wordelim": "0", "torch": "2", "transformers": "5"},
        "history": [1, 2],
        **more,
    }


@pytest.fixture
def shown(results, tmp_path):
    """``shown(*reports)``: the rows of these runs, as they come from the scripts' files."""

    def make(*reports, rows=()):
        for old in tmp_path.glob("*.json"):
            old.unlink()
        for number, found in enumerate(reports):
            (tmp_path / f"glue-task-{number}.json").write_text(json.dumps(found))
        return results.merged(rows, tmp_path)

    return make


def test_the_page_and_the_readme_are_what_the_results_give(render, rows):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert render.page(rows) == (DOCS / "benchmarks.md").read_text(encoding="utf-8"), STALE
    assert render.engine_page(rows) == (DOCS / "benchmarks-engine.md").read_text(encoding="utf-8"), STALE
    assert render.summarized(readme, rows) == readme, STALE
    assert render.headline(rows) in readme


def test_the_results_are_one_file_without_bulk(results, rows):
    assert results.lines(rows) == results.SHOWN.read_text(encoding="utf-8")
    assert len({results.identity(row) for row in rows}) == len(rows)
    assert not list((DOCS / "benchmarks").glob("*.json"))
    assert not re.search("slices|histogram|history", results.lines(rows))


def test_a_page_is_two_screens(render, rows):
    assert max(len(page.splitlines()) for page in (render.page(rows), render.engine_page(rows))) <= 200


def test_every_run_that_is_kept_is_shown(render, rows):
    """Without it the pages, or the plot, would be others."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    plotted = [row for row in rows if row.get("part") == "growth" or row["kind"] == "rival"]

    def shown(rows):
        return render.page(rows), render.engine_page(rows), render.summarized(readme, rows)

    for row in rows:
        assert shown([other for other in rows if other is not row]) != shown(rows) or row in plotted, row["command"]


def test_what_lies_in_a_folder_is_added_or_replaces_the_same_run(shown):
    first = shown(report(), report(seed=1))
    again = shown(report(lost=0.7), report(asked=3.0), report("learned"), report("random-of-learned"), rows=first)
    found = {(row["part"], row["seed"], row["asked"]): row["test"]["drop"] for row in again}
    assert found == {
        ("calibrated", 0, 2.0): 0.7,
        ("calibrated", 1, 2.0): 0.5,
        ("calibrated", 0, 3.0): 0.5,
        ("learned", 0, 2.0): 0.5,
        ("random-of-learned", 0, 2.0): 0.5,
    }
    assert "slices" not in json.dumps(again)
    assert shown(*[report("learned")], rows=again) == again  # in the same order, whatever came when


@pytest.mark.parametrize("named", [(), ("probe-sst2.json",), ("engine-gpu.json",), ("real-imdb.json",)])
def test_a_folder_with_nothing_to_show_is_refused(results, tmp_path, named):
    for name in named:
        (tmp_path / name).write_text("{}")
    with pytest.raises(SystemExit, match=r"holds no run that the docs can show"):
        results.merged([], tmp_path)


def test_a_run_that_is_not_timed_yet_is_refused(results, tmp_path):
    (tmp_path / "glue-rte-minilm-l6-calibrated.json").write_text(json.dumps({"task": "RTE"}))
    with pytest.raises(SystemExit, match=r"glue-rte-minilm-l6-calibrated.json isn't timed yet: .* --time-only"):
        results.merged([], tmp_path)


def test_two_files_of_the_same_run_are_refused(shown):
    with pytest.raises(SystemExit, match=r"glue-task-1.json and glue-task-0.json in .* hold the same run"):
        shown(report(), report(lost=0.7))


def rival(name, strength, speed, lost, seed=0, **more):
    """What rivals.py leaves of a run."""
    judged = {"examples": 9, "dense": 90.0, "compressed": 1.0, "drop": lost, "drop_interval_95": [0, 1]}
    return {
        "task": "Task",
        "model": "tiny",
        "rival": name,
        "strength": strength,
        "seed": seed,
        "metric": "f1",
        "validation": judged,
        "test": judged | {"flops_ratio": speed},
        "speed": {"unpadded": speed},
        "cpu_seconds": 3.0,
        "versions": {"torch": "2", "transformers": "5"},
        "shape": {"bulk": 1},
        "command": "python tests/benchmarks/rivals.py task",
        **more,
    }


@pytest.fixture
def rivals_shown(shown, results, tmp_path):
    """``rivals_shown(*runs)``: their rows."""

    def make(*runs):
        shown(report())
        for number, run in enumerate(runs):
            (tmp_path / f"rival-task-{number}.json").write_text(json.dumps(run))
        return results.merged([], tmp_path)

    return make


def test_rivals_are_shown_where_there_are_some_and_the_page_says_where_they_win(render, shown, rivals_shown):
    assert "Its rivals" not in render.page(shown(report()))
    rows = rivals_shown(
        rival("elimination", 2, 2.0, 1.0),
        rival("elimination", 3, 3.0, 2.0),
        rival("pkd", 3, 2.5, 1.0, cut={"flops_ratio": 3, "speed": {"unpadded": 2.8}}),
        rival("pkd", 3, 2.5, 1.8, seed=1, cut={"flops_ratio": 3, "speed": {"unpadded": 2.8}}),
        rival("tome", 1.5, 1.5, 0.7),
        rival("lat", 4, 4.0, 0.0),  # nothing to be compared with
    )
    assert [row["asked"] for row in rows if row["kind"] == "rival"] == [2, 3, 4, 3, 3, 1.5]
    assert "bulk" not in json.dumps(rows)
    page = " ".join(render.page(rows).split())
    assert "### Its rivals" in page
    assert (
        "elimination's fastest here, less than elimination lose, at their speed: BERT-PKD at 2.50x (+1.40, not "
        "+1.50), BERT-PKD with the cut at 2.80x (+1.40, not +1.80). " in page
    )
    none = render.page(rivals_shown(rival("elimination", 2, 2.0, 1.0), rival("tome", 1.5, 1.5, 0.7)))
    assert "elimination's fastest here, none loses less than elimination at its speed." in none


def test_rivals_are_plotted_for_each_task_and_model(script, rivals_shown, tmp_path):
    pytest.importorskip("matplotlib")
    rows = rivals_shown(
        rival("elimination", 2, 2.0, 1.0),
        rival("distilbert", 3, 2.5, 1.0, cut={"flops_ratio": 3, "speed": {"unpadded": 2.8}}),
        rival("first", 2, 2.0, 3.0, task="Other"),
    )
    assert script("rivals_render").plot_rivals(rows, tmp_path)
    assert "DistilBERT, last layer cut" in (tmp_path / "rivals-task-tiny.svg").read_text()
    assert "first" in (tmp_path / "rivals-other-tiny.svg").read_text()


def test_main_renews_every_page(render, results, shown, rows, tmp_path, monkeypatch, capsys):
    for name, path in (("PAGE", "page.md"), ("README", "README.md"), ("SHOWN", "results.jsonl")):
        monkeypatch.setattr(render, name, tmp_path / path)
    monkeypatch.setattr(results, "SHOWN", tmp_path / "results.jsonl")
    (tmp_path / "results.jsonl").write_text(results.lines(rows))
    (tmp_path / "README.md").write_text("Before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    shown(report())
    render.main(["--results", str(tmp_path)])
    kept = results.read_rows()
    assert len(kept) == len(rows) + 1
    assert (tmp_path / "page.md").read_text() == render.page(kept)
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("Before\n<!-- results -->\n\n**Without padding")
    assert "| Task | MiniLM-L6 | **1.9x** | +0.50 (-0.50 to +1.50) | accuracy | 90.0 | 3.0x (2.0x) |\n" in readme
    assert readme.endswith("\n<!-- end of results -->\nafter\n")
    capsys.readouterr()
    render.main(["--commands"])
    assert capsys.readouterr().out.splitlines() == sorted({row["command"] for row in kept if "command" in row})


def test_the_readme_shows_the_runs_of_most_seeds_that_held_with_every_seed(render, shown):
    rows = shown(
        report(),
        report(asked=3.0, unpadded=2.9, lost=0.25),
        report(asked=3.0, unpadded=2.8, lost=0.75, seed=1, note="Timed beside other work."),
        report(asked=4.0, unpadded=3.9, met=False),
        report("learned", asked=4.0, unpadded=4.9),
        report(asked=5.0, unpadded=5.9),
        report(asked=5.0, unpadded=5.9, seed=1, met=False),
    )
    readme = render.summarized("<!-- results -->\n<!-- end of results -->", rows)
    lines = [line for line in readme.splitlines() if line.startswith("| Task")]
    assert lines == [
        "| Task | MiniLM-L6 | **2.9x** | +0.50 (-0.75 to +1.75), 2 seeds | accuracy | 90.0 | 3.0x (2.0x) |"
    ]


def test_a_task_has_one_row_a_model_and_it_is_the_defaults_own_where_they_were_run(render, shown):
    asked = report(asked=3.0, unpadded=2.9)
    for rows, row in (
        (shown(report(asked=None, unpadded=1.5), asked), "| Task, accuracy | MiniLM-L6 | - | 1 |"),
        (shown(report(asked=None, unpadded=1.5, met=False), asked), "| Task, accuracy | MiniLM-L6 | 3x | 1 |"),
        (shown(report(), asked), "| Task, accuracy | MiniLM-L6 | 3x | 1 |"),
        (shown(report(asked=None), report(), report(seed=1), asked), "| Task, accuracy | MiniLM-L6 | 2x | 2 |"),
    ):
        found = [line for line in render.page(rows).splitlines() if line.startswith("| Task, accuracy |")]
        assert len(found) == 1
        assert found[0].startswith(row)


def test_the_headline_names_the_tasks_that_lost_more(render, shown):
    kind = render.headline(shown(report(asked=1.5, unpadded=1.4), report(unpadded=1.9)))
    assert "1.9 to 1.9 times" in kind
    assert "but for" not in kind
    honest = render.headline(shown(report(asked=1.5, unpadded=1.4), report(unpadded=1.9, lost=1.2)))
    assert "but for Task (+1.20 at 1.9x; +0.50 at 1.4x)" in " ".join(honest.split())
    interval = report()["test"] | {"drop_interval_95": [-4.0, 5.0]}
    assert "to either side" in " ".join(render.headline(shown(report(test=interval))).split())


def test_the_ablation_is_shown_as_means_over_the_seeds_that_have_all_three(render, shown):
    seeds = {0: (1, 3, 2), 1: (2, 5, 5), 2: (9, 9)}
    parts = ("learned", "random-of-learned", "first-of-learned")
    runs = [report(part, seed, lost=lost) for seed, of in seeds.items() for part, lost in zip(parts, of, strict=False)]
    page = render.page(shown(*runs))
    assert "| Task | learned | 2x | 2 | +1.50 (+0.50) | +4.00 (+3.00) | +3.50 (+2.50) |" in page
    assert "*random* in 2 of 2 runs (luck may: p = 0.5)" in " ".join(page.split())
    # Without a speed the one that chose the counts was retrained for several, so it isn't comparable.
    page = render.page(shown(*[copy.deepcopy(run) | report(run["part"], asked=None) for run in runs[:3]]))
    assert "| Task | learned |" not in page
