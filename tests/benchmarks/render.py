"""Write the benchmarks' two pages and the README's table from docs/benchmarks/results.jsonl, the runs that are shown.

    python tests/benchmarks/render.py                   the pages anew
    python tests/benchmarks/render.py --results DIR     show what scripts left in DIR too, or in place of the same run
    python tests/benchmarks/render.py --commands        how each run that is shown was made

The same run is one of the same task, model, method, rule that decides, speed asked for and seed. What is said around
the tables is in page.md and engine_page.md. The plots need matplotlib: pip install -e '.[benchmarks]'.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from math import comb
from pathlib import Path
from statistics import fmean
from typing import Any

from engine_render import DTYPES, engine_tables, export_tables, plot, table, wrapped
from results import ROOT, SHOWN, Row, lines, merged, read_rows
from rivals_render import plot_rivals, rivals_section
from stack_render import stack_section

PAGE, ENGINE_PAGE = (ROOT / "docs" / name for name in ("benchmarks.md", "benchmarks-engine.md"))
README = ROOT / "README.md"

_RULES = ("attention", "random", "first")
_MPNET, _MINILM = "MPNet-base", "MiniLM-L6"
_LAYERS = {_MPNET: 12, _MINILM: 6}  # of the models that the headline is about, in the order in which all are shown
_MODELS = {
    "mpnet-base": _MPNET,
    "all-mpnet-base-v2": _MPNET,
    "minilm-l6": _MINILM,
    "albert-of-minilm-l6": "ALBERT",
    "albert-of-minilm-l6-sst2": "ALBERT",
    "roberta-of-minilm-l6": "RoBERTa",
}
_ASKED = """### Twelve layers, asked for the speeds of others

MPNet-base, asked for about the most that is published of BERT-base at a loss of about a point, in FLOPs without padding
(ToP, [Li et al., 2023](https://arxiv.org/abs/2306.14393): CoLA 1.75x, MRPC 3.0x, RTE 2.4x, SST-2 1.7x, STS-B 3.3x), and
what is lost then, within bounds or not (!)."""
_BESIDE = "Timed beside other work."
_WIDE = 2.0  # points to either side, from where on an interval can't tell a point

Runs = Sequence[Row]  # that differ in their seed alone


def main(arguments: Sequence[str] | None = None) -> None:
    """Render every run that is shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder of files to show too")
    parser.add_argument("--commands", action="store_true", help="print the commands of the runs, and write nothing")
    options = parser.parse_args(arguments)
    rows = read_rows()
    if options.commands:
        print("\n".join(sorted({row["command"] for row in rows if "command" in row})))
        return
    if options.results:
        rows = merged(rows, options.results)
        SHOWN.write_text(lines(rows), encoding="utf-8")
    PAGE.write_text(page(rows), encoding="utf-8")
    ENGINE_PAGE.write_text(engine_page(rows), encoding="utf-8")
    README.write_text(summarized(README.read_text(encoding="utf-8"), rows), encoding="utf-8")
    if not (plot(rows, SHOWN.with_name("engine-growth.svg")) and plot_rivals(rows, SHOWN.parent)):
        print("No plot: pip install -e '.[benchmarks]' for matplotlib.", file=sys.stderr)


def page(rows: Sequence[Row]) -> str:
    """docs/benchmarks.md."""
    glue = [row for row in rows if row["kind"] == "glue"]
    tasks, asked = _best(rows), _asked_of(_MPNET, rows)
    heads = _grouped(row for row in rows if row["kind"] == "head")
    ablation, signs = _ablation(glue)
    return _filled(
        "page.md",
        headline=headline(rows),
        tasks=_tasks(tasks),
        task_notes=_notes(tasks),
        asked=f"\n{_ASKED}\n\n{_tasks(asked)}\n\n{_notes(asked)}\n" if asked else "",
        searches=_searches(glue),
        ablation=ablation,
        signs=signs,
        rivals=rivals_section(rows),
        stack=stack_section(rows),
        heads=_tasks(heads),
        head_notes=_notes(heads),
        measured=_measured(rows),
    )


def engine_page(rows: Sequence[Row]) -> str:
    """docs/benchmarks-engine.md."""
    return _filled("engine_page.md", measured=_measured_engine(rows), **engine_tables(rows), **export_tables(rows))


def _filled(template: str, **places: str) -> str:
    return Path(__file__).with_name(template).read_text(encoding="utf-8").format(**places)


def summarized(readme: str, rows: Sequence[Row]) -> str:
    """The README with its headline and table renewed."""
    cells = [
        (
            runs[0]["task"],
            _model(runs[0]),
            f"**{_speed(runs):.1f}x**",
            f"{_lost(runs):+.2f} ({_interval(runs)})" + (f", {len(runs)} seeds" if len(runs) > 1 else ""),
            runs[0]["metric"],
            f"{fmean(run['test']['dense'] for run in runs):.1f}",
            f"{_speed(runs, 'fixed'):.1f}x ({runs[0]['paper']}x)",
        )
        for runs in _best(rows)
    ]
    columns = (
        "task",
        "model",
        "against unpadded",
        "points lost",
        "metric",
        "dense",
        "against fixed (paper, BERT-base)",
    )
    start, end = "<!-- results -->\n", "<!-- end of results -->"
    before, _, rest = readme.partition(start)
    return f"{before}{start}\n{headline(rows)}\n\n{table(columns, cells)}\n\n{end}{rest.partition(end)[2]}"


def headline(rows: Sequence[Row]) -> str:
    """What a user gets, in a few sentences: of each task the runs that are shown, by the model's size."""
    best = {model: [runs for runs in _best(rows) if _model(runs[0]) == model] for model in _LAYERS}
    shown = {model: found for model, found in best.items() if found}
    runs = [run for found in shown.values() for runs in found for run in runs]
    told = (
        "**Without padding on either side, for at most one point of the metric on test texts, compressed "
        f"{', and '.join(_gain(model, found, rows) for model, found in shown.items())}** ({_how(runs)})."
    )
    wide = {of[0]["task"]: half for found in shown.values() for of in found if (half := _half(of)) > _WIDE}
    if wide:
        told += (
            f" {_listed(sorted(wide))} have too few test texts to tell a point: there the 95 % intervals reach "
            f"{max(wide.values()):.0f} points to either side."
        )
    return wrapped(told)


def _gain(model: str, best: Sequence[Runs], rows: Sequence[Row]) -> str:
    """What a model gains on the tasks that it was compressed for."""
    speeds = sorted(map(_speed, best))
    lost = [_exception(runs, rows) for runs in best if _lost(runs) > 1]
    told = f"answers {speeds[0]:.1f} to {speeds[-1]:.1f} times as fast on {len(best)} of the paper's tasks"
    return f"{model} ({_LAYERS[model]} layers) {told}" + (f", but for {_listed(lost)}" if lost else "")


def _exception(runs: Runs, rows: Sequence[Row]) -> str:
    """A task on which more than a point is lost, and the speed of other runs where it isn't."""
    same = [other for other in _calibrated(rows) if _of(other) == _of(runs) and _held(other) and _lost(other) <= 1]
    other = max(same, key=_speed, default=None)
    within = f"; {_lost(other):+.2f} at {_speed(other):.1f}x" if other else ""
    return f"{runs[0]['task']} ({_lost(runs):+.2f} at {_speed(runs):.1f}x{within})"


def _calibrated(rows: Sequence[Row]) -> list[Runs]:
    return _grouped(row for row in rows if row["kind"] == "glue" and row["part"] == "calibrated")


def _grouped(rows: Iterable[Row]) -> list[Runs]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((_rank(row), row["task"], row["model"], row["part"], row["asked"] or 0.0), []).append(row)
    return [groups[key] for key in sorted(groups)]


def _rank(row: Row) -> int:
    """Where a model stands among the others."""
    names = [*_LAYERS, _model(row)]
    return names.index(_model(row))


def _best(rows: Sequence[Row]) -> list[Runs]:
    """Of each task and model the calibrated runs that are shown, of those that all held: of most seeds, for chance is
    least there; then those of the defaults rather than for a speed asked for; then the fastest without padding."""
    best: dict[tuple[str, str], Runs] = {}
    for runs in filter(_held, _calibrated(rows)):
        best[_of(runs)] = max(best.get(_of(runs), runs), runs, key=lambda of: (len(of), not of[0]["asked"], _speed(of)))
    return list(best.values())


def _asked_of(model: str, rows: Sequence[Row]) -> list[Runs]:
    """The calibrated runs of a model that a speed was asked for."""
    return [runs for runs in _calibrated(rows) if _model(runs[0]) == model and runs[0]["asked"]]


def _held(runs: Runs) -> bool:
    """Whether no more than the bound was lost on validation texts, with every seed."""
    return all(run["met"] for run in runs)


def _of(runs: Runs) -> tuple[str, str]:
    return runs[0]["task"], runs[0]["model"]


def _model(row: Row) -> str:
    return _MODELS.get(row["model"], row["model"])


def _asked(runs: Runs) -> str:
    return f"{runs[0]['asked']:g}x" if runs[0]["asked"] else "-"


def _lost(runs: Runs, judged: str = "test") -> float:
    return fmean(run[judged]["drop"] for run in runs)


def _interval(runs: Runs) -> str:
    lows, highs = zip(*(run["test"]["drop_interval_95"] for run in runs), strict=True)
    return f"{min(lows):+.2f} to {max(highs):+.2f}"


def _half(runs: Runs) -> float:
    """Half the width of the widest interval."""
    return max((high - low) / 2 for low, high in (run["test"]["drop_interval_95"] for run in runs))


def _alone(runs: Runs) -> Runs:
    """The runs that had the machine to themselves while they were timed; all where none had."""
    return [run for run in runs if _BESIDE not in run.get("note", "")] or runs


def _speed(runs: Runs, protocol: str = "unpadded") -> float:
    return fmean(run["speed"][protocol] for run in _alone(runs))


def _how(runs: Sequence[Row]) -> str:
    """What the speeds of the runs were measured on, once."""
    timed = [run["speed"] for run in _alone(runs)]
    told = {f"{of['threads']} threads of a CPU, {DTYPES[of['dtype']]}, batches of {of['batch_size']}" for of in timed}
    return "; ".join(sorted(told))


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _tasks(groups: Sequence[Runs]) -> str:
    cells = []
    for runs in groups:
        first, drops = runs[0], [run["test"]["drop"] for run in runs]
        spread = f" ({min(drops):+.2f} to {max(drops):+.2f})" if len(runs) > 1 else ""
        paper = "" if first["paper"] is None else f" ({first['paper']}x)"
        cells.append(
            (
                f"{first['task']}, {first['metric']}",
                _model(first),
                _asked(runs),
                len(runs),
                f"{fmean(run['test']['dense'] for run in runs):.2f}",
                f"{_lost(runs):+.2f}{spread}{'' if _held(runs) else ' (!)'}",
                _interval(runs),
                f"{fmean(run['test']['flops_ratio'] for run in runs):.2f}x",
                f"**{_speed(runs):.2f}x**",
                f"{_speed(runs, 'dynamic'):.2f}x",
                f"{_speed(runs, 'fixed'):.2f}x{paper}",
                f"{first['test']['tokens']:.0f} of {first['speed']['max_length']}",
                f"{fmean(sum(run['seconds'].values()) for run in runs) / 60:.0f}",
            )
        )
    columns = ("task", "model", "asked", "seeds", "dense", "points lost", "95 % interval", "FLOPs", "unpadded")
    return table((*columns, "dynamic", "fixed", "tokens", "minutes"), cells)


def _notes(groups: Sequence[Runs]) -> str:
    """What sets runs apart from what their commands do now, each said once."""
    said: dict[str, dict[str, None]] = {}
    for run in (run for runs in groups for run in runs):
        card = f"Trained and judged on one {run['card']}. " if "card" in run else ""
        for sentence in filter(None, f"{card}{run.get('note', '').replace(_BESIDE, '')}".split(". ")):
            named = run["task"] if _model(run) == _MINILM else f"{run['task']} ({_model(run)})"
            said.setdefault(sentence.strip(" ."), {})[named] = None
    told = [f"{'; '.join(of)}: {sentence}." for sentence, of in said.items()]
    if not all(map(_held, groups)):
        told.append("(!): more was lost on validation texts than allowed.")
    return wrapped(" ".join(told))


def _searches(rows: Sequence[Row]) -> str:
    """The two searches side by side, where both were asked for the same."""
    of = {(*_of(runs), runs[0]["asked"], runs[0]["part"]): runs for runs in _grouped(rows)}
    pairs = [
        (runs, of[*key, "learned"])
        for (*key, part), runs in of.items()
        if part == "calibrated" and (*key, "learned") in of
    ]
    columns = ("task", "asked", "seeds", "points lost", "on validation", "unpadded", "search, s", "first layer keeps")
    cells = [
        (
            pair[0][0]["task"],
            _asked(pair[0]),
            len(pair[0]),
            " / ".join(f"{_lost(runs):+.2f}" for runs in pair),
            " / ".join(f"{_lost(runs, 'validation'):+.2f}" for runs in pair),
            " / ".join(f"{_speed(runs):.2f}x" for runs in pair),
            " / ".join(f"{fmean(run['seconds']['search'] for run in runs):.0f}" for runs in pair),
            " / ".join(f"{fmean(run['keep'][0] for run in runs):.2f}" for runs in pair),
        )
        for pair in pairs
    ]
    return table(columns, cells)


def _ablation(rows: Sequence[Row]) -> tuple[str, str]:
    """What is lost by what decides which word vectors stay: a table of means over seeds, and what the signs say.

    Where a speed was asked for, the run that chose the counts was retrained once, as theirs are: it is attention's.
    """
    tried: dict[tuple[str, ...], dict[int, dict[str, Row]]] = {}
    for run in (run for run in rows if run["asked"]):
        rule, _, counts = run["part"].partition("-of-")
        if rule not in _RULES:
            rule, counts = "attention", rule
        same = (run["task"], run["model"], counts or "calibrated", run["asked"])
        tried.setdefault(same, {}).setdefault(run["seed"], {})[rule] = run
    cells, whole = [], []
    for (task, _, counts, asked), seeds in sorted(tried.items()):
        found = [of for of in seeds.values() if len(of) == len(_RULES)]
        lost = {rule: [of[rule] for of in found] for rule in _RULES}
        means = [f"{_lost(runs):+.2f} ({_lost(runs, 'validation'):+.2f})" for runs in lost.values() if runs]
        whole += found
        cells += [(task, counts, f"{asked:g}x", len(found), *means)] if found else []
    signs = " ".join(_sign(whole, judged) for judged in ("test", "validation"))
    return table(("task", "counts", "asked", "seeds", *_RULES), cells), wrapped(signs)


def _sign(found: Sequence[dict[str, Row]], judged: str) -> str:
    """How often attention loses less than the other rules, and whether luck would do as much (two-sided sign test)."""
    told = []
    for other in _RULES[1:]:
        gaps = [of[other][judged]["drop"] - of["attention"][judged]["drop"] for of in found]
        wins, runs = sum(gap > 0 for gap in gaps), sum(gap != 0 for gap in gaps)
        luck = min(1.0, 2 * sum(comb(runs, k) for k in range(max(wins, runs - wins), runs + 1)) / 2**runs)
        told.append(
            f"than *{other}* in {wins} of {runs} runs (luck {'may' if luck > 0.05 else 'hardly'}: p = {luck:.2g})"
        )
    return f"On {judged} texts *attention* lost less {' and '.join(told)}."


def _measured(rows: Sequence[Row]) -> str:
    """Versions, threads and rounds of the tasks and heads that are shown."""
    runs = [row for row in rows if row["kind"] in ("glue", "head")]
    timed = {f"{run['speed']['texts']} texts, the median of {run['speed']['rounds']} rounds" for run in runs}
    return wrapped(f"{_versions(runs)}. Tasks and heads: {_how(runs)}; {'; '.join(sorted(timed))}.")


def _measured_engine(rows: Sequence[Row]) -> str:
    """The same of the engine's parts."""
    engine = [row for row in rows if row["kind"] == "engine"]
    threads = {f"{row['machine']['threads']} threads" for row in engine}
    speeds = [row["gflops"]["float32"] for row in engine if "float32" in row["gflops"]] or [0]
    return wrapped(
        f"{_versions(engine)}. {'; '.join(sorted(threads))}; matrix products in fp32 ran at {min(speeds):.0f} to "
        f"{max(speeds):.0f} GFLOP/s from part to part, which is why only ratios within one run are shown."
    )


def _versions(rows: Iterable[Row]) -> str:
    told = {" with ".join(f"{name} {of}" for name, of in row.get("versions", {}).items()) for row in rows} - {""}
    return "; ".join(sorted(told, reverse=True))


if __name__ == "__main__":
    main()
