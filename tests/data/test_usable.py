"""Rows that can't be used: each is named by every head, and every command leaves them out when asked to."""

import json

import datasets
import pytest
from transformers import BertConfig

from wordelim import Retention, audit, bench, check, compress, compress_model, eliminate_, probe
from wordelim.checkpoint.directory import load_dense
from wordelim.checkpoint.loading import load_tokenizer
from wordelim.data.read import read
from wordelim.data.usable import Skipped, Unusable, each_row
from wordelim.errors import DataError, RowError
from wordelim.evaluation.examples import examples_of
from wordelim.tasks import task_for
from wordelim.verbs.compress import plan

TEXTS = ["good film", "bad plot", "it is", "the cat", "not very", "one film", "two", "three"]
NAMES = {"id2label": {0: "O", 1: "X"}, "label2id": {"O": 0, "X": 1}}
ROWS = {
    "classes": (
        "ForSequenceClassification",
        BertConfig(**NAMES),
        {"text": TEXTS, "label": ["X", "O"] * 4},
        {1: ("label", "Y"), 3: ("text", " "), 6: ("text", "[SEP]"), 7: ("text", None)},
    ),
    "names and ids": (
        "ForSequenceClassification",
        BertConfig(**NAMES),
        {"text": TEXTS, "label": ["X", "O"] * 4},
        {1: ("label", "1"), 4: ("label", "")},
    ),
    "several labels": (
        "ForSequenceClassification",
        BertConfig(**NAMES, problem_type="multi_label_classification"),
        {"text": TEXTS, "label": [["X"], ["O"], [], ["X", "O"]] * 2},
        {2: ("label", ["X", "Y"]), 5: ("text", "")},
    ),
    "scores": (
        "ForSequenceClassification",
        BertConfig(num_labels=1),
        {"text": TEXTS, "score": [0.5, 1.0] * 4},
        {2: ("score", float("inf")), 5: ("text", ""), 8: ("score", None)},
    ),
    "ranking": (
        "ForSequenceClassification",
        BertConfig(num_labels=1),
        {"query": ["a", "a", "b", "b", "it", "it", "d", "d"], "document": TEXTS, "label": [1, 0] * 4},
        {1: ("label", 0), 2: ("label", 0), 8: ("label", -1)},
    ),
    "tagging": (
        "ForTokenClassification",
        BertConfig(**NAMES),
        {"tokens": [text.split() for text in TEXTS], "tags": [["O", "X"][: len(text.split())] for text in TEXTS]},
        {2: ("tags", ["O"]), 3: ("tokens", []), 4: ("tags", ["Y", "O"])},
    ),
    "choices": (
        "ForMultipleChoice",
        BertConfig(),
        {"context": TEXTS, "choices": [["a", "the"]] * 8, "label": [0, 1] * 4},
        {1: ("choices", ["a"]), 2: ("choices", ["a", "b", "c"]), 4: ("label", 2), 8: ("context", "")},
    ),
    "answers": (
        "ForQuestionAnswering",
        BertConfig(max_position_embeddings=12),
        {
            "question": ["what"] * 8,
            "context": TEXTS,
            "answers": [{"text": [text.split()[0]], "answer_start": [0]} for text in TEXTS],
        },
        {2: ("answers", {"text": ["no"], "answer_start": [0]}), 3: ("question", "good " * 9), 4: ("context", None)},
    ),
    "similarity": (
        "Model",
        BertConfig(),
        {"sentence1": TEXTS, "sentence2": TEXTS, "score": [0.5, 1.0] * 4},
        {2: ("score", float("inf")), 5: ("sentence1", ""), 8: ("sentence2", "[CLS]")},
    ),
}


@pytest.fixture(params=ROWS)
def spoilt(request, make_tokenizer):
    """A head's task, rows of which some can't be used, and these rows' numbers."""
    name, config, columns, bad = ROWS[request.param]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for number, (column, value) in bad.items():
        rows[number - 1][column] = value
    data = datasets.Dataset.from_list(rows)
    return task_for(f"Bert{name}", config, make_tokenizer("bert"), data), data, list(bad)


def test_the_first_row_that_cannot_be_used_is_named(spoilt):
    task, data, bad = spoilt
    with pytest.raises(RowError, match=r"^Row \d has ") as caught:
        examples_of(task, data, task.find_columns(data), part="validation")
    assert set(caught.value.rows) <= set(bad)
    assert str(caught.value).endswith(".")


def test_rows_that_cannot_be_used_are_left_out(spoilt):
    task, data, bad = spoilt
    skipped, columns = Skipped(), task.find_columns(data)
    found = examples_of(task, data, columns, part="validation", skipped=skipped)
    rows = found.rows
    assert sorted(skipped.reasons) == bad
    assert rows.to_dict() == data.select([at for at in range(8) if at + 1 not in bad]).to_dict()
    assert found.dataset.to_dict() == task.encode(rows, columns).dataset.to_dict()
    assert skipped.to_dict()["skipped"]["rows"][0] == {"row": bad[0], "reason": skipped.reasons[bad[0]]}
    assert all(reason.startswith("has ") for reason in skipped.reasons.values())


def test_what_is_used_is_the_same_without_bad_rows(spoilt):
    task, data, bad = spoilt
    good = data.select([at for at in range(8) if at + 1 not in bad])
    skipped = Skipped()
    assert examples_of(task, good, task.find_columns(good), skipped=skipped).rows is good
    assert skipped.to_dict() == {}


def test_numbers_are_those_of_the_source():
    skipped, data = Skipped(), datasets.Dataset.from_dict({"x": list(range(1, 13))})
    for bad, left in (
        ({1: "a", 5: "b"}, [2, 3, 4, 6, 7, 8, 9, 10, 11, 12]),
        ({4: "c"}, [2, 3, 4, 7, 8, 9, 10, 11, 12]),
    ):
        data = skipped.leave_out(data, bad)
        assert data["x"][:] == left
    assert skipped.reasons == {1: "a", 5: "b", 6: "c"}
    with pytest.raises(DataError, match="7 of 12 rows can't be used, too many to leave out; the first, row 1, a"):
        skipped.leave_out(data, dict.fromkeys(range(1, 5), "d"))


def test_all_rows_are_looked_at():
    def read(value):
        if value < 0:
            raise Unusable(f"has {value}.")
        return value

    assert each_row(read, [1, 2]) == [1, 2]
    with pytest.raises(RowError, match="Row 2 has -1") as caught:
        each_row(read, [1, -1, 2, -2])
    assert caught.value.rows == {2: "has -1.", 4: "has -2."}


# --- commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(make_model_dir, make_texts, tmp_path):
    """Every command that reads data, with a file that only its options make readable, of which row 2 is bad."""
    dense, path, frame = make_model_dir(labels=2), tmp_path / "a.csv", make_texts(24).to_pandas()
    frame.loc[1, "text"] = ""
    frame["note"] = "é"
    frame.to_csv(path, index=False, sep=":", encoding="cp1252")
    sets, quick = {"train": path, "validation": path}, {"keep": (1, 1, 0.5), "retrain": False, "measure_speed": False}
    quick["max_drop"] = 200

    def audited(**options):
        model = eliminate_(load_dense(dense), Retention((1.0, 0.5, 0.0)))
        return audit(model, load_tokenizer(dense), path, **options)

    def modelled(*, skip_bad_rows, **_):
        data = read(path, delimiter=":", encoding="cp1252")
        given = (load_dense(dense), load_tokenizer(dense))
        return compress_model(*given, train=data, validation=data, skip_bad_rows=skip_bad_rows, **quick).report

    few = {"rounds": 1, "texts": 8}
    return {
        "compress": lambda **options: compress(dense, **sets, **quick, **options).report["data"]["train"],
        "compress_model": lambda **options: modelled(**options)["data"]["validation"],
        "plan": lambda **options: plan(dense, **sets, **quick, **options)["train"],
        "probe": lambda **options: probe(dense, validation=path, **few, **options)["data"],
        "check": lambda **options: check(dense, dense, data=path, **options).report["data"],
        "bench": lambda **options: bench(dense, data=path, latency_texts=0, **few, **options)["data"],
        "audit": audited,
    }


@pytest.mark.parametrize("name", ["compress", "compress_model", "plan", "probe", "check", "bench", "audit"])
def test_every_command_leaves_bad_rows_out(name, commands):
    run, form = commands[name], {"delimiter": ":", "encoding": "cp1252"}
    with pytest.raises(DataError, match=r"ow 2 has (a blank|no) text in column 'text'"):
        run(**form, skip_bad_rows=False)
    report = run(**form, skip_bad_rows=True)
    if name == "plan":
        assert report.startswith("23 texts")
        assert report.endswith("rows left out: 1")
        return
    assert report["skipped"]["count"] == 1
    assert report["skipped"]["rows"][0]["row"] == 2
    assert report.get("examples", 23) == 23
    json.dumps(report)
    if name != "compress_model":
        with pytest.raises(DataError, match="not UTF-8 text"):
            run(delimiter=":", skip_bad_rows=False)
