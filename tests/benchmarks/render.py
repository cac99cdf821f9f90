"""Write docs/benchmarks.md and the README's table from the JSON files that the other scripts here leave.

python tests/benchmarks/render.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any

from engine_render import engine_section
from export_render import export_section
from probe_render import probe_section

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
RESULTS = DOCS / "benchmarks"

_HEAD = """# Benchmarks

Written by `python tests/benchmarks/render.py` from the JSON files in `docs/benchmarks/`, which the commands below leave
there; no figure here is typed by hand. Speed is always a ratio measured in one run against the dense model under SDPA:

- **fixed**: the dense model is given every text padded to one length (the paper's protocol), the compressed one the
  same texts padded to the longest of each batch;
- **dynamic**: both are given random batches padded to their longest text, as pipelines do;
- **unpadded**: both are given batches of equal length (texts of similar length, each cut or repeated to the mean of its
  batch), so that neither computes padding.
- **keep-all**: the compressed model against the rewritten one that drops nothing, on the same random batches: that has
  no padding and the exact cut of the last layer already, so what is left is won by dropping word vectors. The hardest.

The FLOPs ratio is against the dense encoder without any padding. Drops are in points of the metric on the same
examples, with a 95 % paired bootstrap interval; a negative drop is a gain. The dense model of each row is the given
checkpoint, as it is; the compressed one has been trained further, on the task and by distillation, while it adapted to
elimination.
"""


def main() -> None:
    """Render every result that is there."""
    parts = [_HEAD]
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("real-*.json"))]
    if runs:
        parts.append(_real(runs))
    for kind, about in (("glue", _GLUE), ("head", _HEADS)):
        tasks = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{kind}-*.json"))]
        if tasks:
            parts.append(_tasks(about, tasks))
    if probes := probe_section(RESULTS):
        parts.append(probes)
    if engine := engine_section(RESULTS):
        parts.append(engine)
    if exported := export_section(RESULTS):
        parts.append(exported)
    search = RESULTS / "search.json"
    if search.exists():
        parts.append(_search(json.loads(search.read_text())))
    (DOCS / "benchmarks.md").write_text("\n".join(parts))
    README.write_text(summarized(README.read_text()))


def summarized(readme: str) -> str:
    """The README with its table renewed: of each task and model the run that is fastest against unpadded dense.

    Of those of the first seed that met their bound on validation, made by retraining as it is now.
    """
    best: dict[tuple[str, str], dict[str, Any]] = {}
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("glue-*.json"))]
    for run in runs:
        if run["met"] and not _outdated(run) and not run["settings"]["seed"] and run["part"] in _CHOOSING:
            key = (run["task"], _MODELS.get(run["model"], run["model"]))
            best[key] = max(best.get(key, run), run, key=lambda run: float(run["speed"]["unpadded"]))
    lines = [
        "| task | model | metric | dense | points lost | against unpadded | against fixed (paper, BERT-base) |",
        "|---|---|---|---|---|---|---|",
    ]
    for (task, model), run in sorted(best.items()):
        test, speed = run["test"], run["speed"]
        low, high = test["drop_interval_95"]
        lost = f"{test['drop']:+.2f} ({low:+.2f} to {high:+.2f})"
        lines.append(
            f"| {task} | {model} | {run['metric']} | {test['dense']:.1f} | {lost} "
            f"| **{speed['unpadded']:.1f}x** | {speed['fixed']:.1f}x ({run['paper']}x) |"
        )
    start, end = "<!-- results -->\n", "<!-- end of results -->"
    before, _, rest = readme.partition(start)
    return "".join([before, start, "\n", *(f"{line}\n" for line in lines), "\n", end, rest.partition(end)[2]])


def _outdated(run: dict[str, Any]) -> bool:
    """Whether retraining was another when the run was made."""
    return "Made before" in run.get("note", "")


def _note(run: dict[str, Any]) -> str:
    """What sets a run apart from what its command does now."""
    return f" {run['note']}" if "note" in run else ""


def _asked(settings: dict[str, Any]) -> str:
    """The FLOPs ratio that a run was asked for, where it was."""
    speed = settings.get("target_speedup")
    return f", {speed:g}x in FLOPs asked for" if speed else ""


def _where(run: dict[str, Any]) -> str:
    """The cards that a run used, where it did."""
    trained, timed = (run.get(name, {}).get("card") for name in ("machine", "timed_on"))
    return "".join(
        f" {what} on one {card}." for what, card in (("Trained and judged", trained), ("Timed", timed)) if card
    )


def _also(metrics: dict[str, Any]) -> str:
    return "".join(
        " {}: {:.2f} dense, {:.2f} compressed, {:+.2f} points lost ({:+.2f} to {:+.2f}).".format(
            metric, lost["dense"], lost["compressed"], lost["drop"], *lost["drop_interval_95"]
        )
        for metric, lost in metrics.items()
    )


def _real(runs: list[dict[str, Any]]) -> str:
    lines = [
        "## Real models, real texts",
        "",
        "| task | examples | metric | dense | compressed | points lost | FLOPs ratio | fixed | dynamic | unpadded |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        test, speed = run["test"], run["speed"]
        low, high = test["drop_interval_95"]
        lines.append(
            f"| {run['task']} | {test['examples']} | {run['metric']} | {test['dense']:.2f} | {test['compressed']:.2f} "
            f"| {test['drop']:+.2f} ({low:+.2f} to {high:+.2f}) | {test['flops_ratio']:.2f}x | {speed['fixed']:.2f}x "
            f"| {speed['dynamic']:.2f}x | {speed['unpadded']:.2f}x |"
        )
    for run in runs:
        speed, settings, lengths = run["speed"], run["settings"], run["test"]["lengths"]
        versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        seconds = ", ".join(f"{name} {value:.0f} s" for name, value in run["seconds"].items())
        validation = run["validation"]
        keep = ", ".join(f"{value:g}" for value in run["retention"]["keep"])
        lines += [
            "",
            f"### {run['task']}",
            "",
            f"Model: {run['about']}. Word vectors kept after each layer ({run['retention']['kind']}): {keep}. "
            f"Retrained on {run['data']['train']['examples']} texts for {settings['epochs']:g} epochs (--epochs); "
            f"chosen on {validation['examples']} validation texts (lost there: {validation['drop']:+.2f}); "
            f"test texts have {lengths['mean']} tokens on average, {lengths['max']} at most. Speed: batches of "
            f"{speed['batch_size']}, {speed['threads']} threads, {speed['dtype']}, {speed['texts']} texts, fixed to "
            f"{speed['max_length']} tokens, median of {speed['rounds']} rounds{run.get('speed_note', '')}. "
            f"Time: {seconds}. Seed {settings['seed']}; {versions}.{_note(run)}",
            "",
            "```sh",
            run["command"],
            "```",
        ]
    return "\n".join(lines) + "\n"


_GLUE = """## The paper's tasks

calibrated and learned choose the keep counts. attention, random and first are given those of calibrated, or where it
says so of learned, and one retraining: they differ in what decides which word vectors stay (the paper's ablation). A
run that was asked for a speed retrains once too, so it is its own attention. In brackets the paper's speed-up of
BERT-base against texts padded to the same length, which is the protocol of fixed.

Each run chose on validation texts. Which rates, epochs and speeds were tried one after the other was decided with the
figures of earlier runs in view, which are of the same test texts: so take the best row of a task for a little too
kind, and read the intervals before the points. RTE's dense models are hardly better than chance, and the ALBERT learnt
little but SST-2 and IMDB: what they keep of the rest says little.

roberta-of-minilm-l6 and albert-of-minilm-l6 were made out of MiniLM by tests/benchmarks/relatives.py; the ALBERT of
IMDB is that one after SST-2, as the command of SST-2 leaves it in --cache before it is compressed. TEACHER is MiniLM
as the same command without --teacher and --fine-tune-epochs fine-tunes it. minilm-l6-imdb was fine-tuned on IMDB
before, as the --fine-tune-epochs 0 of its command says.
"""
_HEADS = """## Every kind of head

Each was fine-tuned by the script and compressed with the calibrated search; embeddings are compressed as they come.
Choices are made on the validation texts, the figures are of texts that nothing before has seen.
"""
_EQUAL = """
### What decides which word vectors stay

Points lost on the test texts, in brackets on the validation texts, at equal counts with equal retraining: the runs
above, seed by seed. Each seed fine-tunes a dense model of its own, and chooses counts of its own on it.

| task | model | counts of | seed | attention | random | first |
|---|---|---|---|---|---|---|"""
_VARIED = re.compile(r" --(part|keep-of|seed) \S+")
_MODELS = {
    "minilm-l6": "MiniLM-L6",
    "albert-of-minilm-l6": "ALBERT",
    "albert-of-minilm-l6-sst2": "ALBERT",
    "roberta-of-minilm-l6": "RoBERTa",
}
_CHOOSING = ("calibrated", "learned")
_ABLATION = ("attention", "random", "first")
_PARTS = ("calibrated", *_ABLATION, "learned", *(f"{part}-of-learned" for part in _ABLATION))


def _tasks(about: str, runs: list[dict[str, Any]]) -> str:
    lines = [
        about,
        "| task | model | rate | method | metric | dense | compressed | points lost | FLOPs ratio | fixed | dynamic "
        "| unpadded | search and retrain, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    runs = sorted(
        runs,
        key=lambda run: (
            run["task"],
            run["model"],
            run["settings"]["learning_rate"],
            _PARTS.index(run["part"]),
            run["settings"]["seed"],
        ),
    )
    for run in runs:
        test, speed, seconds = run["test"], run["speed"], run["seconds"]
        low, high = test["drop_interval_95"]
        paper = "" if run["paper"] is None else f" ({run['paper']}x)"
        cells = [
            run["task"],
            run["model"],
            f"{run['settings']['learning_rate']:g}",
            run["part"].replace("-", " "),
            run["metric"],
            f"{test['dense']:.2f}",
            f"{test['compressed']:.2f}",
            f"{test['drop']:+.2f} ({low:+.2f} to {high:+.2f})",
            f"{test['flops_ratio']:.2f}x",
            f"{speed['fixed']:.2f}x{paper}",
            f"{speed['dynamic']:.2f}x",
            f"{speed['unpadded']:.2f}x",
            f"{seconds.get('search', 0):.0f}, {seconds['choose and retrain']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Word vectors kept after each layer, as fractions, and what it was measured with:", ""]
    for run in runs:
        speed, settings, test = run["speed"], run["settings"], run["test"]
        keep = ", ".join(f"{value:g}" for value in run["retention"]["keep"])
        method = run["part"].replace("-", " ")
        lines.append(
            f"- {run['task']}, {run['model']}, rate {settings['learning_rate']:g}, {method}: {keep}. "
            f"{run['train']} training texts, {settings['epochs']:g} epochs of retraining, at most "
            f"{settings['max_drop']:g} points lost on validation (it lost {run['validation']['drop']:+.2f}"
            f"{'' if run['met'] else ', not met'}){_asked(settings)}; {test['examples']} judged, "
            f"{test['lengths']['mean']} tokens on average; fixed to {speed['max_length']} "
            f"tokens, batches of {speed['batch_size']}, {speed['threads']} threads, "
            f"{speed['dtype']}, median of {speed['rounds']} rounds; seed {settings['seed']}."
            f"{_where(run)}{_also(run.get('also', {}))}{_note(run)}"
        )
    lines += ["", "```sh", *sorted({run["command"] for run in runs}), "```"]
    return "\n".join([*lines, *_ablation(runs)]) + "\n"


def _ablation(runs: list[dict[str, Any]]) -> list[str]:
    """What is lost by what decides which word vectors stay, seed by seed; [] where no counts were tried with all three.

    Where a speed was asked for, the run that chose the counts was retrained once, as theirs are: it is attention's.
    """
    tried: dict[tuple[str, ...], dict[int, dict[str, dict[str, Any]]]] = {}
    for run in runs:
        decides, _, counts = run["part"].partition("-of-")
        if decides in _CHOOSING and run["settings"]["target_speedup"]:
            decides, counts = "attention", decides
        if decides in _ABLATION and not _outdated(run):
            same = (run["task"], run["model"], counts or "calibrated", _VARIED.sub("", run["command"]))
            tried.setdefault(same, {}).setdefault(run["settings"]["seed"], {})[decides] = run
    lines = []
    for (task, model, counts, _), seeds in tried.items():
        whole = {str(seed): found for seed, found in seeds.items() if len(found) == len(_ABLATION)}
        rows = {seed: [found] for seed, found in whole.items()}
        if len(rows) > 1:
            rows["mean"] = list(whole.values())
        for seed, several in rows.items():
            lost = [
                " ".join(
                    form.format(fmean(found[decides][judged]["drop"] for found in several))
                    for judged, form in (("test", "{:+.2f}"), ("validation", "({:+.2f})"))
                )
                for decides in _ABLATION
            ]
            lines.append(f"| {task} | {model} | {counts} | {seed} | {' | '.join(lost)} |")
    return [_EQUAL, *lines] if lines else []


def _search(result: dict[str, Any]) -> str:
    lines = [
        "## Calibrated search",
        "",
        f"{result['about']} It took {result['seconds']:.0f} seconds.",
        "",
        "| FLOPs ratio | divergence (nats) | kept after each layer |",
        "|---|---|---|",
    ]
    lines += [
        f"| {row['flops_ratio']:.2f}x | {row['divergence']:.4f} | {', '.join(f'{v:g}' for v in row['keep'])} |"
        for row in result["frontier"]
    ]
    return "\n".join([*lines, "", "```sh", result["command"], "```"]) + "\n"


if __name__ == "__main__":
    main()
