"""The law of numbers: a model that answers with NaN or infinity passes nowhere, whatever its head and the metric."""

import copy
import json
from xml.etree import ElementTree

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer
from typer.testing import CliRunner

import wordelim
from wordelim.checkpoint.directory import save
from wordelim.cli import app
from wordelim.compression.choose import choose
from wordelim.errors import AnswersError, DataError, WordelimError
from wordelim.evaluation.statistics import paired_bootstrap
from wordelim.report.junit import render_junit
from wordelim.report.markdown import render_digest, render_markdown
from wordelim.tasks.metrics import Metric
from wordelim.testing import assert_accuracy_drop
from wordelim.verbs.audit import audit
from wordelim.verbs.check import check
from wordelim.verbs.explain import explain

ROWS = 12
PLOT = "plot"  # a word of some rows only
TAGS = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "label2id": {"O": 0, "B-X": 1, "I-X": 2}}
MULTI = {"problem_type": "multi_label_classification", "id2label": {0: "x", 1: "y", 2: "z"}}
QUICK = {"measure_speed": False, "batch_size": 8, "retrain": False, "keep": (0.7, 0.3), "max_drop": 200}


def _text(row, more=""):
    words = ["good", "film"] + ["the", "acting", "was", "long"][: row % 4] + [PLOT] * (row in (4, 7)) + more.split()
    return " ".join(words)


def _column(value):
    return [value(row) for row in range(ROWS)]


TEXT = {"text": _column(_text)}
PAIR = {"sentence1": _column(_text), "sentence2": _column(lambda row: _text(row + 1, "story"))}
CHOICES = _column(lambda row: ["good", "bad story", _text(row)])
ANSWERS = _column(lambda row: {"text": ["good film"], "answer_start": [0]})
SCORES = np.random.default_rng(0).random(ROWS).tolist()
# What a head is made with, its data, and its metrics.
HEADS = {
    "classes": ({"labels": 2}, {**TEXT, "label": _column(lambda r: r % 2)}, "accuracy f1 f1_macro f1_micro mcc"),
    "labels": (
        {"labels": 3, **MULTI},
        {**TEXT, "labels": _column(lambda r: [r % 2, int(r % 3 == 0), int(r == 5)])},
        "f1 f1_micro f1_macro accuracy",
    ),
    "score": ({"labels": 1}, {**TEXT, "score": SCORES}, "spearman pearson"),
    "pair": ({"labels": 3}, {**PAIR, "label": _column(lambda row: row % 3)}, "accuracy mcc"),
    "ranking": (
        {"labels": 1},
        {
            "query": _column(lambda row: _text(row // 3)),
            "document": _column(_text),
            "label": _column(lambda r: r % 3 // 2),
        },
        "mrr map ndcg",
    ),
    "choice": ({"head": "choice"}, {**TEXT, "choices": CHOICES, "label": _column(lambda row: row % 3)}, "accuracy"),
    "tagging": (
        {"head": "token", "labels": 3, **TAGS},
        {
            "tokens": _column(lambda r: _text(r).split()),
            "tags": _column(lambda r: ["B-X"] + ["O"] * _text(r).count(" ")),
        },
        "f1 accuracy",
    ),
    "answering": (
        {"head": "answer"},
        {"question": _column(lambda row: "film"), "context": _column(_text), "answers": ANSWERS},
        "f1 exact_match",
    ),
    "embeddings": ({"head": "none"}, {**PAIR, "score": SCORES}, "spearman pearson"),
}
# Each metric with a model that answers nothing but NaN, and the usual one with those that are harder to see.
BROKEN = ("NaN", "NaN to some", "infinity")
CHECKS = [
    (head, metric, how)
    for head, (_, _, metrics) in HEADS.items()
    for number, metric in enumerate(metrics.split())
    for how in (BROKEN[:1] if number else BROKEN)
]


@torch.no_grad()
def break_(model, how, tokenizer):
    """Weights that are finite, and answers that aren't: to all texts, or to those with one word."""
    if how == "NaN":
        model.base_model.embeddings.LayerNorm.weight.fill_(3e38)
    elif how == "NaN to some":
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(PLOT)] = 3e38
    else:
        last = [module for module in model.modules() if isinstance(module, (torch.nn.Linear, torch.nn.LayerNorm))][-1]
        if (norm := model.base_model.encoder.layer[-1].output.LayerNorm) and last in model.base_model.modules():
            last = norm  # of a model without a head
        last.weight.fill_(3e38), last.bias.fill_(3e38)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    return model


@pytest.fixture(scope="module")
def head(make_model, make_tokenizer, tmp_path_factory):
    """``head(name)``: a folder with a dense model, it compressed, and both broken in each way; and its data."""
    made = {}
    tokenizer = make_tokenizer("bert")

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            dense = make_model("bert", layers=2, **HEADS[name][0])
            some = wordelim.Retention.fractions([0.9, 0.5])
            for how in (None, *BROKEN):
                model = copy.deepcopy(dense) if how is None else break_(copy.deepcopy(dense), how, tokenizer)
                for part in (model, tokenizer):
                    part.save_pretrained(folder / f"{how or ''} dense".strip())
                save(wordelim.eliminate_(model, some), tokenizer, folder / (how or "fast"))
            made[name] = folder, datasets.Dataset.from_dict(HEADS[name][1])
        return made[name]

    return make


def valid(text):
    """JSON without NaN, which json reads and nothing else does."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(("name", "metric", "how"), CHECKS)
def test_a_check_fails_whatever_may_be_lost(head, name, metric, how):
    if (name, metric) == ("tagging", "f1"):
        pytest.importorskip("seqeval")
    folder, data = head(name)
    strict = metric in ("accuracy", "mrr", "spearman")
    result = check(folder / "dense", folder / how, data=data, metric=metric, max_drop=1000, strict=strict)
    assert not result.passed
    found = result.report["result"]
    wrong = sum(how != "NaN to some" or PLOT in str(row) for row in data)
    assert f"to {wrong} of {ROWS} examples" in result.report["failures"]["drop"]
    assert {found[part] for part in ("compressed", "drop", "flips")} == {None, *found["drop_interval_95"]} == {None}
    assert np.isfinite(found["dense"])
    assert (found["examples"], result.report["judged"]) == (4 if name == "ranking" else ROWS, None)


# A class, a text, a query's documents and no head at all; how the others are shown is as of one of these.
SHOWN = ("classes", "answering", "ranking", "embeddings")


@pytest.mark.parametrize(
    "name", [name if name in SHOWN else pytest.param(name, marks=pytest.mark.long) for name in HEADS]
)
def test_every_medium_says_that_a_check_failed(head, name, tmp_path, monkeypatch):
    folder, data = head(name)
    monkeypatch.setenv("COLUMNS", "200")
    data.to_parquet(tmp_path / "data.parquet")
    metric = ["--metric", "accuracy"] if name == "tagging" else []
    command = ["check", folder / "dense", folder / "NaN to some", "--data", tmp_path / "data.parquet", *metric]
    media = {form: tmp_path / f"out.{form}" for form in ("junit", "markdown", "html", "output")}
    files = [part for form, path in media.items() for part in (f"--{form}", path)]
    run = lambda *more: CliRunner().invoke(app, [*map(str, (*command, "--min-speedup", "0.01", *more))])  # noqa: E731
    shown, printed = run(*files), run("--json", "--strict")
    said = "the compressed model answers with NaN or infinity to"
    assert (shown.exit_code, printed.exit_code) == (3, 3), shown.stderr
    assert f"Failed: {said}" in shown.stderr
    (row,) = (line for line in shown.stdout.splitlines() if line.split()[:1] == ["all"])
    assert row.split()[-2:] == ["–", "–"]
    for report in (valid(printed.stdout), valid(media["output"].read_text(encoding="utf-8"))):
        assert report["passed"] is False
        assert said in report["failures"]["drop"]
        assert "speed" in report["failures"]
        assert report["answers"]["compressed"] is None
    suite = ElementTree.parse(media["junit"]).find("testsuite")
    assert [suite.get("failures"), len(suite.findall("testcase/failure"))] == ["2", 2]
    assert said in suite.find("testcase/failure").get("message")
    for form in ("markdown", "html"):
        text = media[form].read_text(encoding="utf-8")
        assert said in text
        assert "–" in text
        assert "Passed" not in text
    # It is no baseline for another check.
    with pytest.raises(DataError, match="answered with NaN or infinity: give the report of one that passed"):
        check(None, folder / "fast", data=data, metric=(metric or [None])[-1], baseline_report=media["output"])
    with pytest.raises(AssertionError, match=said):
        assert_accuracy_drop(folder / "dense", folder / "NaN", data, max_drop=1000, metric=(metric or [None])[-1])


@pytest.mark.parametrize(("name", "how"), [*((name, "NaN") for name in HEADS), ("classes", "infinity")])
def test_a_broken_model_is_neither_a_base_nor_written_nor_timed(head, name, how, tmp_path, monkeypatch):
    folder, data = head(name)
    metric = "accuracy" if name == "tagging" else None
    with pytest.raises(AnswersError, match=rf"{how} dense answers with NaN or infinity .* examples .*: check its wei"):
        check(folder / f"{how} dense", folder / "fast", data=data, metric=metric, max_drop=1000)
    times = {"texts": ROWS, "latency_texts": 0, "rounds": 1, "dtypes": ["float32"]}
    for base, fast in (("dense", how), (f"{how} dense", None)):
        with pytest.raises(AnswersError, match=r"timed \(.*\) answers with NaN or infinity"):
            wordelim.bench(folder / base, fast and folder / fast, data=data, **times)
    tokenizer = AutoTokenizer.from_pretrained(folder / "dense")
    monkeypatch.setattr(
        "wordelim.compression.run.choose",
        lambda job, *given: (choose(job, *given), break_(job.model, how, tokenizer)),
    )
    with pytest.raises(AnswersError, match="The compressed model answers with NaN or infinity"):
        wordelim.compress(
            folder / "dense", train=data, validation=data, output=tmp_path / "out", metric=metric, **QUICK
        )
    assert list(tmp_path.iterdir()) == []


def test_the_test_texts_count_too(head, tmp_path):
    folder, data = head("classes")
    some = data.filter(lambda row: PLOT not in row["text"])
    sets = {"train": some, "validation": some, "output": tmp_path / "out"}
    with pytest.raises(AnswersError, match=r"The dense model answers with NaN or infinity to 2 of 12 .* number 5"):
        wordelim.compress(folder / "NaN to some dense", **sets, test=data, **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_model_is_probed_explained_and_exported_in_one_sentence(head, tmp_path):
    folder, data = head("classes")
    data.to_csv(tmp_path / "data.csv")
    texts, dense, fast = tmp_path / "data.csv", folder / "NaN to some dense", folder / "NaN to some"
    for command in (
        ("probe", dense, "--validation", texts),
        ("explain", fast, f"good {PLOT}"),
        ("explain", fast, "--audit", texts),
        ("bench", dense, fast, "--data", texts, "--rounds", 1),
        ("check", dense, fast, "--data", texts),
        ("compress", dense, "--train", texts, "--validation", texts, "-o", tmp_path / "out"),
    ):
        done = CliRunner().invoke(app, [str(part) for part in (*command, *(["--json"]))])
        assert (done.exit_code, done.stdout) == (1, "")
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert "with NaN or infinity" in last
        assert last.endswith("check its weights, or compute in another dtype.")
    assert not (tmp_path / "out").exists()
    model, tokenizer = wordelim.load(fast), AutoTokenizer.from_pretrained(fast)
    assert explain(model, tokenizer, "good film").label
    with pytest.raises(AnswersError, match=f"answers 'good film {PLOT}' with NaN"):
        audit(model, tokenizer, data)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_broken_model_isnt_exported(head, tmp_path, compressed):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder, data = head("classes")
    with pytest.raises(AnswersError, match="answers with NaN or infinity to the texts that it is compared on"):
        wordelim.export(folder / ("NaN" if compressed else "NaN dense"), tmp_path / "out", data=data)
    assert list(tmp_path.iterdir()) == []


# --- metrics of the user's own, and stored reports -----------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "x"])
def test_a_metric_that_is_no_number_is_named(head, value, tmp_path):
    folder, data = head("classes")

    def mine(evaluated):
        return {"mine": value}

    said = "The metric mine gave (nan|inf) for|The metric mine gave {'mine': .*must return a dictionary of numbers"
    with pytest.raises(WordelimError, match=said):
        check(folder / "dense", folder / "fast", data=data, metric=mine)
    with pytest.raises(WordelimError, match=said):
        wordelim.compress(folder / "dense", train=data, validation=data, output=tmp_path / "out", metric=mine, **QUICK)
    assert list(tmp_path.iterdir()) == []


def undefined_without(label, rows):
    """A metric that is NaN where this label doesn't occur, on labels that are 1 in so many of 100 rows."""

    def mine(evaluated):
        right = evaluated.predictions.argmax(-1) == evaluated.label_ids
        return {"mine": float(right.mean()) if (evaluated.label_ids == label).any() else float("nan")}

    truth = (np.arange(100) < rows).astype(int)
    return Metric.computed(mine), truth


@pytest.mark.parametrize(("rows", "known"), [(10, True), (3, True), (1, False)])
def test_an_interval_is_over_the_resamples_on_which_a_metric_is_defined(rows, known):
    metric, truth = undefined_without(1, rows)
    dense, compressed = np.eye(2)[truth], np.eye(2)[np.where(np.arange(100) % 10 == 9, 1 - truth, truth)]
    found = paired_bootstrap(metric, dense, compressed, truth)
    assert found.drop == pytest.approx(10)
    assert (None not in found.ends) is known
    if known:
        assert 0 < found.low < found.drop < found.high < 25


def test_a_strict_check_without_an_interval_fails(head):
    folder, data = head("classes")
    data = data.remove_columns("label").add_column("label", [1] + [0] * (ROWS - 1))

    def mine(evaluated):
        return {"mine": float("nan") if 1 not in evaluated.label_ids else 0.5}

    options = {"data": data, "metric": mine, "max_drop": 1000}
    result = check(folder / "dense", folder / "fast", strict=True, **options)
    assert not result.passed
    assert "has no upper end, for mine is undefined on too many resamples" in result.report["failures"]["drop"]
    assert result.report["judged"] is None
    loose = check(folder / "dense", folder / "fast", **options)
    assert loose.passed
    assert loose.report["result"]["drop_interval_95"] == [None, None]
    assert None in {part["dense"] for part in loose.report["result"]["slices"]}
    for report in (result.report, loose.report):
        valid(json.dumps(report))
        for render in (render_digest, render_junit, render_markdown):
            assert "nan" not in render(report)


@pytest.mark.parametrize("name", HEADS)
def test_a_stored_report_that_holds_no_numbers_is_refused(head, name, tmp_path):
    folder, data = head(name)
    metric = "accuracy" if name in ("labels", "tagging") else None
    report = check(folder / "dense", folder / "fast", data=data, metric=metric, max_drop=1000).report
    answers, path = report["answers"]["compressed"], tmp_path / "baseline.json"
    for value in ("NaN", "Infinity", "1e400", "null"):
        first = [value, *answers[0][1:]] if isinstance(answers[0], list) else value
        damaged = {**report, "answers": {**report["answers"], "compressed": [first, *answers[1:]]}}
        path.write_text(json.dumps(damaged).replace(f'"{value}"', value), encoding="utf-8")
        with pytest.raises(DataError, match=r"is damaged|which is no number"):
            check(None, folder / "fast", data=data, metric=metric, baseline_report=path)
