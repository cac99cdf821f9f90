"""Every kind of head, from its data to a directory that was checked, on models so small that it takes a second."""

import re
import shlex
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score
from typer.testing import CliRunner

import wordelim
from wordelim.checkpoint.loading import load_tokenizer
from wordelim.cli import app
from wordelim.errors import DataError, UnsupportedModelError, WordelimError
from wordelim.evaluation.inference import logits_of
from wordelim.evaluation.statistics import paired_bootstrap
from wordelim.tasks import task_for
from wordelim.tasks.divergence import divergence
from wordelim.tasks.metrics import Metric
from wordelim.training.distillation import distillation_loss

WORDS = (
    *("good", "bad", "film", "the", "a", "plot", "is", "it", "was", "not", "very"),
    *("one", "two", "three", "great", "poor", "acting", "story", "long", "short"),
)
QUICK = {"measure_speed": False, "batch_size": 8, "epochs": 1, "max_drop": 200}
TAGS = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "label2id": {"O": 0, "B-X": 1, "I-X": 2}}


def _words(random, least=4, most=14):
    return [WORDS[i] for i in random.integers(len(WORDS), size=random.integers(least, most))]


def tagged(rows, seed=0):
    random = np.random.default_rng(seed)
    tokens = [_words(random) for _ in range(rows)]
    tags = [["B-X" if word in ("good", "bad", "film", "plot") else "O" for word in words] for words in tokens]
    tags[0][:2] = ["B-X", "I-X"]
    return datasets.Dataset.from_dict({"tokens": tokens, "tags": tags})


def chosen(rows, seed=0):
    random = np.random.default_rng(seed)
    return datasets.Dataset.from_dict(
        {
            "context": [" ".join(_words(random)) for _ in range(rows)],
            "question": [" ".join(_words(random, 2, 4)) for _ in range(rows)],
            "choices": [[" ".join(_words(random, 1, 4)) for _ in range(3)] for _ in range(rows)],
            "label": [row % 3 for row in range(rows)],
        }
    )


def ranked(rows, seed=0):
    random = np.random.default_rng(seed)
    return datasets.Dataset.from_dict(
        {
            "query": [f"good film {WORDS[row // 4]}" for row in range(rows)],
            "document": [" ".join(_words(random)) for _ in range(rows)],
            "label": [int(row % 4 == 1) for row in range(rows)],
        }
    )


def answered(rows, seed=0):
    random = np.random.default_rng(seed)
    contexts = [_words(random, 6, 20) for _ in range(rows)]
    starts = [len(" ".join(words[:2])) + 1 for words in contexts]
    return datasets.Dataset.from_dict(
        {
            "question": [" ".join(_words(random, 2, 4)) for _ in range(rows)],
            "context": [" ".join(words) for words in contexts],
            "answers": [
                {"text": [" ".join(words[2:4])], "answer_start": [start]}
                for words, start in zip(contexts, starts, strict=True)
            ],
        }
    )


def alike(rows, seed=0):
    random = np.random.default_rng(seed)
    return datasets.Dataset.from_dict(
        {
            "sentence1": [" ".join(_words(random)) for _ in range(rows)],
            "sentence2": [" ".join(_words(random)) for _ in range(rows)],
            "score": random.random(rows).tolist(),
        }
    )


HEADS = {
    "tagging": ({"head": "token", "labels": 3, **TAGS}, tagged, "f1"),
    "choice": ({"head": "choice"}, chosen, "accuracy"),
    "ranking": ({"labels": 1}, ranked, "mrr"),
    "answering": ({"head": "answer"}, answered, "f1"),
    "similarity": ({"head": "none"}, alike, "spearman"),
}


@pytest.fixture(params=HEADS)
def head(request, make_model_dir):
    options, rows, metric = HEADS[request.param]
    return make_model_dir(**options), rows, metric


def test_a_head_is_compressed_saved_and_checked(head, tmp_path):
    directory, rows, metric = head
    sets = {"train": rows(16), "validation": rows(16, 1), "test": rows(16, 2)}
    found = wordelim.compress(directory, **sets, output=tmp_path / "out", keep=(0.7, 0.5, 0.3), **QUICK)
    assert found.met
    report = found.report
    assert report["metric"] == metric
    assert f"pipeline_tag: {report['task']}\n" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert all(np.isfinite(entry["loss"]) for entry in report["training"] if "loss" in entry)
    assert report["settings"]["learning_rate"] == (5e-5 if metric in ("accuracy", "mrr") else 2e-4)
    assert report["choice"]["texts"] == 16
    assert report["choice"]["bound"] >= report["choice"]["drop"]
    assert report["test"]["examples"] == (4 if metric == "mrr" else 16)
    # What the report says is what the directory on the disk does.
    model = wordelim.load(tmp_path / "out")
    task = task_for(type(model).__name__, model.config, load_tokenizer(directory), sets["test"])
    encoded = task.encode(sets["test"], task.find_columns(sets["test"])).dataset
    logits = logits_of(model, encoded, task, batch_size=4)
    assert task.points(task.metric(), logits, encoded) == pytest.approx(report["test"]["compressed"], abs=1e-3)
    result = wordelim.check(directory, tmp_path / "out", data=sets["test"], max_drop=200)
    for name in ("dense", "compressed", "drop"):
        assert result.report["result"][name] == report["test"][name]
    assert wordelim.check(directory, directory, data=sets["test"], max_drop=0, strict=True).passed


PAGE = Path(__file__).parents[2] / "docs" / "heads.md"
IN_PAGE = {
    "my-tagger": ("tagging", "tags"),
    "my-reranker": ("ranking", "pairs"),
    "my-chooser": ("choice", "choices"),
    "my-answerer": ("answering", "answers"),
    "my-embedder": ("similarity", "similar"),
}


def test_the_page_on_heads_runs_as_it_stands(make_model_dir, one_round, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, (kind, files) in IN_PAGE.items():
        options, rows, _ = HEADS[kind]
        make_model_dir(name=name, layers=2, **options)
        for seed, part in enumerate(("train", "dev")):
            rows(12, seed).to_json(tmp_path / f"{files}-{part}.jsonl")
    namespace = {}
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S):
        if language == "python":
            exec(compile(body, str(PAGE), "exec"), namespace)
            continue
        for command in body.splitlines():
            _, *arguments = shlex.split(command)
            done = CliRunner().invoke(app, [*arguments, "--max-drop", "200", "--no-retrain"])
            assert done.exit_code == 0, done.stderr


def test_logits_of_tokens_are_nan_behind_the_text(make_model, make_tokenizer):
    model, data = make_model("bert", head="token", **TAGS), tagged(12)
    task = task_for("BertForTokenClassification", model.config, make_tokenizer("bert"))
    encoded = task.encode(data, task.find_columns(data)).dataset
    logits = logits_of(model, encoded, task, batch_size=5)
    assert logits.shape == (12, max(encoded["length"]), 3)
    for row, length in enumerate(encoded["length"]):
        assert np.isfinite(logits[row, :length]).all()
        assert np.isnan(logits[row, length:]).all()
        inputs = {name: torch.tensor([encoded[row][name]]) for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            np.testing.assert_allclose(logits[row, :length], model(**inputs).logits[0], atol=1e-5)


# --- metrics ------------------------------------------------------------------------------------------------------


def test_f1_of_entities_is_that_of_seqeval(make_model, make_tokenizer):
    seqeval = pytest.importorskip("seqeval.metrics")
    task = task_for("BertForTokenClassification", make_model("bert", head="token", **TAGS).config, None)
    random = np.random.default_rng(0)
    truth, answers = random.integers(3, size=(2, 30, 9))
    truth[:, 7:] = -100
    names = ["O", "B-X", "I-X"]
    as_names = [[[names[i] for i in row[:7]] for row in of] for of in (truth, answers)]
    found = task.metric()(np.where(truth == -100, -100, answers), truth)
    assert found == pytest.approx(100 * seqeval.f1_score(*as_names))
    assert 0 < found < 100


def test_ranking_metrics_are_those_of_scikit_learn_by_query(make_model):
    task = task_for("BertForSequenceClassification", make_model("bert", labels=1).config, None, metric="map")
    random = np.random.default_rng(1)
    data = datasets.Dataset.from_dict(
        {
            "query": [f"q{i % 5}" for i in range(30)],
            "labels": [float(i // 5 in (0, 3)) for i in range(30)],
            "length": [5] * 30,
        }
    )
    scores = random.random((30, 1))
    of_query = [(np.array(data["labels"])[i::5], scores[i::5, 0]) for i in range(5)]
    assert task.points(task.metric("map"), scores, data) == pytest.approx(
        100 * np.mean([average_precision_score(*pair) for pair in of_query])
    )
    assert task.points(task.metric("ndcg"), scores, data) == pytest.approx(
        100 * np.mean([ndcg_score([a], [b]) for a, b in of_query])
    )
    ranks = [1 + (score[label == 0] > score[label == 1].max()).sum() for label, score in of_query]
    assert task.points(task.metric("mrr"), scores, data) == pytest.approx(100 * np.mean(1 / np.array(ranks)))
    constant = task.points(task.metric("mrr"), np.zeros((30, 1)), data)
    assert constant == pytest.approx(100 / 5)  # four documents that aren't relevant are as good


def test_squad_metrics():
    config = type("Config", (), {"num_labels": 2})()
    task = task_for("BertForQuestionAnswering", config, None)
    truth = np.empty(3, dtype=object)
    truth[:] = [("the Denver Broncos",), ("1960s", "in the 1960s"), ("",)]
    answers = np.array(["Denver Broncos!", "the late 1960s", ""], dtype=object)
    assert task.metric("exact_match")(answers, truth) == pytest.approx(100 * 2 / 3)
    assert task.metric("f1")(answers, truth) == pytest.approx(100 * (1 + 2 / 3 + 1) / 3)


def test_a_context_longer_than_a_window_is_read_whole(make_model, make_tokenizer):
    model = make_model("bert", head="answer")
    task = task_for("BertForQuestionAnswering", model.config, make_tokenizer("bert"))
    words = [WORDS[i % len(WORDS)] for i in range(60)]
    context = " ".join(words)
    start = len(" ".join(words[:50])) + 1
    data = datasets.Dataset.from_dict(
        {
            "question": ["good film"],
            "context": [context],
            "answers": [{"text": [" ".join(words[50:52])], "answer_start": [start]}],
        }
    )
    encoded = task.encode(data, task.find_columns(data), max_length=30).dataset
    assert len(encoded) > 2
    assert max(encoded["length"]) <= 30
    ends = [row for row in encoded if row["end_positions"]]
    assert ends
    for row in ends:
        spans = row["spans"][row["start_positions"]][0], row["spans"][row["end_positions"]][1]
        assert context[slice(*spans)] == " ".join(words[50:52])
    # The window that is surest of itself gives the answer.
    logits = np.full((len(encoded), 30, 2), np.nan)
    for row, length in enumerate(encoded["length"]):
        logits[row, :length] = -5.0
    at = encoded["end_positions"].index(ends[0]["end_positions"])
    logits[at, ends[0]["start_positions"], 0] = logits[at, ends[0]["end_positions"], 1] = 5.0
    assert list(task.answers(task.metric(), logits, encoded)) == [" ".join(words[50:52])]
    assert task.points(task.metric(), logits, encoded) == 100


def test_a_bootstrap_by_parts_is_that_by_examples():
    random = np.random.default_rng(0)
    truth = random.integers(2, size=400)
    dense, compressed = (np.where(random.random(400) < share, truth, 1 - truth) for share in (0.9, 0.8))

    def parts(truth, answers):
        return np.stack([truth == answers, np.ones(len(truth))], axis=1)

    by_parts = Metric("accuracy", parts=parts, finish=lambda sums: sums[..., 0] / sums[..., 1])
    whole = Metric("accuracy", whole=by_parts.score)
    found, other = (paired_bootstrap(metric, dense, compressed, truth) for metric in (by_parts, whole))
    assert found.drop == other.drop
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.6)
    # Examples of one cluster stand or fall together: ten copies of forty examples are forty examples.
    copies = [np.repeat(of[:40], 10) for of in (dense, compressed, truth)]
    clusters = np.repeat(np.arange(40), 10)
    few = paired_bootstrap(by_parts, dense[:40], compressed[:40], truth[:40])
    together = paired_bootstrap(by_parts, *copies, clusters=clusters)
    assert (together.low, together.high) == pytest.approx((few.low, few.high), abs=3)
    apart = paired_bootstrap(by_parts, *copies)
    assert apart.high - apart.low < 0.5 * (together.high - together.low)


@pytest.mark.parametrize("kind", ["tokens", "spans"])
def test_what_is_lost_and_what_is_learnt_pass_padding_over(kind):
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 3, 5, 2).unbind()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    noisy = student.masked_fill(~mask.bool()[..., None], 7.0)
    loss = distillation_loss(student, teacher, kind, 2.0, mask)
    assert float(loss) > 0.01
    assert float(distillation_loss(noisy, teacher, kind, 2.0, mask)) == pytest.approx(float(loss))
    assert float(distillation_loss(teacher, teacher, kind, 2.0, mask)) == pytest.approx(0, abs=1e-6)
    dense, other = (of.masked_fill(~mask.bool()[..., None], torch.nan).numpy() for of in (teacher, student))
    assert divergence(dense, other, kind) > 0.01
    assert divergence(dense, dense, kind) == pytest.approx(0, abs=1e-9)
    assert divergence(dense, other[:, :5], kind) == divergence(np.pad(dense, ((0, 0), (0, 2), (0, 0))), other, kind)


# --- bad input ----------------------------------------------------------------------------------------------------


def _changed(data, row, **values):
    rows = data.to_list()
    rows[row] |= values
    return datasets.Dataset.from_list(rows)


def _bad(name):
    match name:
        case "tags":
            return "tagging", _changed(tagged(8), 2, tags=["O"]), r"Row 3 has \d+ words, but 1 tags"
        case "tag":
            return "tagging", _changed(tagged(8), 0, tags=["B-Y"] * len(tagged(8)[0]["tokens"])), "'B-Y'"
        case "answer":
            answers = {"text": ["nowhere"], "answer_start": [3]}
            return "answering", _changed(answered(8), 4, answers=answers), "Row 5 has the answer 'nowhere'"
        case "form":
            return "answering", answered(8).remove_columns("answers").add_column("answers", ["a"] * 8), "form of SQuAD"
        case "choices":
            return "choice", _changed(chosen(8), 5, choices=["a", "an"]), "Row 6 has 2 choices, but most rows 3"
        case "choice":
            return "choice", _changed(chosen(8), 5, label=3), "Row 6 has the label 3, which is none of its 3 choices"
        case "query":
            return (
                "ranking",
                _changed(ranked(8), 5, label=0),
                "Row 5 has the query 'good film .*', which has no relevant document",
            )
        case "score":
            rows = alike(8).remove_columns("score").add_column("score", ["x"] * 8)
            return "similarity", rows, "Row 1 has the label 'x', which is no finite number"


@pytest.mark.parametrize("name", ["tags", "tag", "answer", "form", "choices", "choice", "query", "score"])
def test_bad_rows_are_named(name, make_model_dir):
    kind, rows, message = _bad(name)
    options, good, _ = HEADS[kind]
    with pytest.raises(DataError, match=message):
        wordelim.compress(make_model_dir(**options), train=good(16), validation=rows, keep=(1, 1, 1), **QUICK)


def test_columns_that_are_missing_are_named(make_model_dir, make_texts):
    for kind, message in {
        "choice": "No column holds the choices",
        "tagging": "Row 1 has \\d+ words, but",
        "answering": "needs a question and a context",
        "similarity": "Embeddings are compared in pairs",
    }.items():
        directory = make_model_dir(name=kind, **HEADS[kind][0])
        texts = make_texts(8)
        texts = texts.add_column("tags", [["O"]] * 8).remove_columns("label") if kind == "tagging" else texts
        with pytest.raises(DataError, match=message):
            wordelim.compress(directory, train=texts, validation=texts, keep=(1, 1, 1), **QUICK)


def test_a_metric_of_another_task_is_refused(make_model_dir):
    for kind, (options, rows, _) in HEADS.items():
        with pytest.raises(WordelimError, match="There is no metric 'bleu' for"):
            wordelim.compress(
                make_model_dir(name=kind, **options), train=rows(8), validation=rows(8), metric="bleu", **QUICK
            )


def test_the_learned_search_says_which_heads_it_serves(make_model_dir):
    options, rows, _ = HEADS["tagging"]
    with pytest.raises(UnsupportedModelError, match="use --method calibrated"):
        wordelim.compress(make_model_dir(**options), train=rows(8), validation=rows(8), method="learned", **QUICK)


# --- protection ---------------------------------------------------------------------------------------------------


def test_what_is_protected_is_kept_and_counted(make_model_dir, make_tokenizer, tmp_path):
    directory, tokenizer = make_model_dir(labels=1), make_tokenizer("bert")
    sets = {"train": ranked(16), "validation": ranked(16, 1)}
    kept = {"keep": (0.5, 0.2, 0.0), "retrain": False, **QUICK}
    plain, found = (
        wordelim.compress(directory, **sets, output=tmp_path / str(len(protect)), protect=protect, **kept)
        for protect in ([], ["query", "separators"])
    )
    rules = (f"query:{tokenizer.sep_token_id}", f"separators:{tokenizer.sep_token_id}")
    assert found.retention.protect == ("first", *rules)
    assert found.report["settings"]["protect"] == ["query", "separators"]
    assert found.report["validation"]["flops_ratio"] < 0.95 * plain.report["validation"]["flops_ratio"]
    model = wordelim.load(tmp_path / "2")
    alive = []
    wordelim.graph.splice.eliminating_encoder(model).extract_1.register_forward_hook(
        lambda module, args, out: alive.append(sum(run.examples * run.alive for run in out.tokens.runs))
    )
    counts = []
    for row in sets["validation"]:
        inputs = tokenizer(row["query"], row["document"], return_tensors="pt")
        model(**inputs)
        length, query = inputs["input_ids"].shape[1], len(row["query"].split())
        counts.append(max(-(-length // 5), query + 3))  # [CLS], the query and two [SEP]
    assert alive == counts
    assert wordelim.check(directory, tmp_path / "2", data=sets["validation"], max_drop=200).report["result"][
        "flops_ratio"
    ] == pytest.approx(found.report["validation"]["flops_ratio"])


@pytest.mark.parametrize("method", ["calibrated", "learned"])
def test_a_search_reaches_its_speed_with_what_is_protected(method, make_model_dir):
    found = wordelim.compress(
        make_model_dir(labels=1),
        train=ranked(32),
        validation=ranked(32),
        protect="query",
        target_speedup=1.6,
        method=method,
        retrain=False,
        **QUICK,
    )
    assert found.report["validation"]["flops_ratio"] >= 1.6 * 0.98
    assert found.retention.protect[1].startswith("query:")
    with pytest.raises(wordelim.errors.NotMetError):
        wordelim.compress(
            make_model_dir(name="again", labels=1),
            train=ranked(16),
            validation=ranked(16),
            protect=["query", "first:12"],
            target_speedup=3,
            **QUICK,
        )


# --- metrics of the user's own ------------------------------------------------------------------------------------


def share_of_label_1(evaluated):
    """As transformers' Trainer takes it."""
    said = evaluated.predictions.argmax(-1)
    known = evaluated.label_ids != -100
    return {"share": float((said == 1)[known].mean()), "other": 0.0}


@pytest.mark.parametrize("name", ["sequence", "tagging"])
def test_a_metric_may_be_a_function(name, make_model_dir, make_texts, tmp_path):
    options, rows, _ = HEADS.get(name, ({"labels": 2}, make_texts, None))
    directory = make_model_dir(**options)
    found = wordelim.compress(
        directory,
        train=rows(16),
        validation=rows(16, 1),
        metric=share_of_label_1,
        keep=(0.7, 0.5, 0.3),
        output=tmp_path / "out",
        **QUICK,
    )
    assert found.report["metric"] == found.report["settings"]["metric"] == "share_of_label_1"
    part = found.report["validation"]
    assert 0 <= part["compressed"] <= 100
    assert part["flips"]["total"] == 16
    result = wordelim.check(directory, tmp_path / "out", data=rows(16, 1), metric=share_of_label_1, max_drop=100)
    assert result.report["result"]["drop"] == part["drop"]


def test_a_function_of_what_has_no_logits_and_labels_is_refused(make_model_dir):
    options, rows, _ = HEADS["answering"]
    with pytest.raises(WordelimError, match="question answering is chosen by its name"):
        wordelim.compress(
            make_model_dir(**options), train=rows(8), validation=rows(8), metric=share_of_label_1, **QUICK
        )
