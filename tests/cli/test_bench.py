"""``wordelim bench``: what is reported, and what is refused. How fast it was, no test asserts."""

import json

import datasets
import pytest
import torch

import wordelim as package
from wordelim import Retention, eliminate_
from wordelim.checkpoint.directory import save
from wordelim.graph.speeds import offer_speeds_

QUICK = ("--texts", 10, "--batch-size", 4, "--latency-texts", 2, "--rounds", 1)


@pytest.fixture
def fast(here, template, make_tokenizer):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(template)
    return save(eliminate_(model, Retention.fractions([0.5, 0.25, 0.0])), make_tokenizer("bert"), "fast")


def refused(done):
    assert done.exit_code == 1
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


def test_tables(wordelim, fast):
    done = wordelim("bench", "dense", "fast", "--data", "dev.csv", *QUICK)
    assert done.exit_code == 0, done.stderr
    for shown in (
        "Throughput: batches of 4, 10 texts, median of 1, float32, eager",
        "Latency: one text at a time, 2 texts",
        "padded as in pipelines",
        "without padding",
        "efficiency",
        "(no padding) ×",
        "(word vectors dropped)",
        "cpu, 1 thread",
        f"torch {torch.__version__.partition('+')[0]}",
    ):
        assert shown in done.stdout
    assert "throughput, float32, eager" in done.stderr


@pytest.mark.parametrize("option", ["-o", "--html"])
def test_a_place_that_cant_be_written_is_refused_first(wordelim, fast, option):
    done = wordelim("bench", "nowhere", "fast", "--data", "dev.csv", option, "dev.csv/report")
    assert "dev.csv/report can't be written" in refused(done)


def test_report(wordelim, fast):
    options = (*QUICK, "--max-length", 12, "--dtype", "float32,bfloat16", "-o", "bench.json", "--html", "bench.html")
    done = wordelim("bench", "dense", "fast", "--data", "dev.csv", *options, "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert json.loads((fast.parent / "bench.json").read_text()) == report
    assert "Speed of fast" in (fast.parent / "bench.html").read_text()
    assert report["retention"]["keep"] == [0.5, 0.25, 0.0]
    assert (report["base"], report["compressed"]) == ("dense", "fast")
    assert report["fixed_length"] == report["data"]["lengths"]["max"] == 12
    assert report["data"]["truncated"] > 0
    assert report["attention"] == "sdpa"
    assert [part["dtype"] for part in report["measurements"]] == ["float32", "bfloat16"]
    for part in report["measurements"]:
        assert list(part["throughput"]["against"]) == ["fixed", "dynamic", "unpadded", "keep-all"]
        assert list(part["latency"]["against"]) == ["fixed", "unpadded", "keep-all"]
    # FLOPs are counted, not timed: the same for every dtype.
    ratios = [
        {name: won["flops_ratio"] for name, won in part["throughput"]["against"].items()}
        for part in report["measurements"]
    ]
    assert ratios[0] == ratios[1]


def test_one_of_several_speeds(fast, make_tokenizer):
    model = package.load(fast)
    slower = Retention.fractions([1.0, 0.75, 0.0])
    offer_speeds_(model, {1.5: slower, 2.0: package.retention_of(model)})
    several = save(model, make_tokenizer("bert"), "several")
    quick = {"data": "dev.csv", "texts": 4, "batch_size": 4, "latency_texts": 0, "rounds": 1}
    kept = [package.bench("dense", several, speed=speed, **quick)["retention"]["keep"] for speed in (None, 1.5)]
    assert kept == [[0.5, 0.25, 0.0], [1.0, 0.75, 0.0]]


def test_what_packing_alone_gives_needs_no_compressed_model_and_no_labels(wordelim, here):
    datasets.Dataset.from_csv("dev.csv").remove_columns("label").to_csv("texts.csv")
    done = wordelim("bench", "dense", "--data", "texts.csv", *QUICK, "--latency-texts", 0)
    assert done.exit_code == 0, done.stderr
    assert "keep-all, texts/s" in done.stdout
    assert "dropped)" not in done.stdout
    assert "Latency" not in done.stdout


def test_models_that_are_no_pair_are_refused(wordelim, fast, make_model, make_tokenizer):
    data = ("--data", "dev.csv", *QUICK)
    assert "fast is compressed already: give the dense model" in refused(wordelim("bench", "fast", *data))
    assert "dense holds no compressed model" in refused(wordelim("bench", "dense", "dense", *data))
    make_model("bert", labels=3).save_pretrained("other")
    make_tokenizer("bert").save_pretrained("other")
    assert "have different labels" in refused(wordelim("bench", "other", "fast", *data))


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ({"text": ["good film"], "label": ["entailment"]}, "Row 1 has the label 'entailment', which the model doesn't"),
        ({"tokens": ["good film"]}, "No column has a standard text name"),
        ({"text": []}, "has no rows"),
    ],
)
def test_data_of_another_task_and_empty_data_are_refused(wordelim, here, rows, what):
    (here / "data.jsonl").write_text(
        "".join(json.dumps(dict(zip(rows, row, strict=True))) + "\n" for row in zip(*rows.values(), strict=True))
    )
    assert what in refused(wordelim("bench", "dense", "--data", "data.jsonl", *QUICK))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--device", "tpu"), "Device 'tpu' is unknown"),
        (("--dtype", "int8"), "dtypes is ['int8']: give a list out of float32, bfloat16, float16."),
        (("--rounds", 0), "rounds is 0: give a whole number of at least 1."),
        (("--seed", -1), "seed is -1: give a whole number from 0 to 4294967295."),
    ],
)
def test_what_cant_be_measured_is_refused(wordelim, here, options, what):
    assert what in refused(wordelim("bench", "dense", "--data", "dev.csv", *QUICK, *options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_no_cuda(wordelim, here):
    done = wordelim("bench", "dense", "--data", "dev.csv", "--device", "cuda")
    assert "Device 'cuda' isn't available here: use cpu" in refused(done)


def test_compiled_and_eager_stand_side_by_side(here, fast, monkeypatch):
    """The compiler is replaced by one that only marks what it was given: compiling takes a minute."""
    given = []
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: given.append(dynamic) or model)
    few = {"texts": 4, "batch_size": 4, "latency_texts": 0, "rounds": 1}
    report = package.bench("dense", "fast", data="dev.csv", dtypes=("float32",), compiled=True, **few)
    assert [part["mode"] for part in report["measurements"]] == ["eager", "compiled"]
    assert given == [True] * 3


def test_on_a_card_both_run_from_graphs_that_are_made_before_they_are_timed(here, fast, by_engine):
    made, counts = [], {}

    def counted(work, pool):
        made.append(work)
        return work

    def noted(stage, share):
        if share:  # from the end of the untimed round on
            counts.setdefault(stage, []).append(len(made))

    settings = {"texts": 10, "batch_size": 4, "latency_texts": 2, "rounds": 2, "dtypes": ("float32",)}
    with by_engine(capture=counted) as used:
        report = package.bench("dense", "fast", data="dev.csv", progress=noted, **settings)
    assert [part["mode"] for part in report["measurements"]] == ["eager", "graphed"]
    assert used
    assert None not in used
    throughput, latency = (counts[f"{part}, float32, graphed"] for part in ("throughput", "latency"))
    assert throughput == [throughput[0]] * 3
    assert latency == [latency[0]] * 3
    assert counts["latency, float32, eager"][-1] < throughput[0] <= latency[0]


def test_a_compiler_that_fails_is_named(wordelim, fast, monkeypatch):
    def fail(model, dynamic):
        def run(**batch):
            raise RuntimeError("no C++ compiler found\nlong story")

        return run

    monkeypatch.setattr(torch, "compile", fail)
    done = wordelim("bench", "dense", "fast", "--data", "dev.csv", *QUICK, "--compile")
    assert "torch.compile fails here (no C++ compiler found): leave the compiled" in refused(done)
