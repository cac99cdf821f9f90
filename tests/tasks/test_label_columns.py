"""Which columns hold labels, and label names that contradict each other: over all heads that have labels."""

import datasets
import pytest
from transformers import BertConfig

import wordelim
from wordelim.data.columns import Columns, find_columns
from wordelim.data.labels import encode_labels
from wordelim.errors import DataError, RowError, UnsupportedModelError
from wordelim.tasks import task_for
from wordelim.verbs.compress import plan
from wordelim.verbs.inspect import inspect_model

NAMES = ("toxic", "severe_toxic", "obscene")
MULTI = {"problem_type": "multi_label_classification"}
TEXTS = ["good film", "bad plot", "it"]


def config(names=NAMES, **more):
    return BertConfig(id2label=dict(enumerate(names)), label2id={name: at for at, name in enumerate(names)}, **more)


def columns_of(names, rows=TEXTS, **more):
    return datasets.Dataset.from_dict({"text": rows, **dict.fromkeys(names, [0] * len(rows)), **more})


def task_of(names=NAMES, kind=MULTI, tokenizer=None):
    return task_for("BertForSequenceClassification", config(names, **kind), tokenizer)


# --- several columns of 0 and 1 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [None, "obscene,toxic, severe_toxic", ["toxic", "obscene", "severe_toxic"]])
@pytest.mark.parametrize(
    "cells", [[0, 1, 1], [0.0, 1.0, 1.0], [False, True, True], ["0", "1", "1.0"], ["False", "1", "True"]]
)
def test_a_column_for_each_label(label, cells, make_tokenizer):
    data = columns_of(NAMES, Obscene=cells).remove_columns("obscene").rename_column("Obscene", "obscene")
    task = task_of(tokenizer=make_tokenizer("bert"))
    found = task.find_columns(data, label=label)
    assert found == Columns("text", None, NAMES)
    assert found.used == ["text", *NAMES]
    assert found.to_dict()["label"] == list(NAMES)
    assert task.encode(data, found).dataset["labels"][:] == [
        [0.0, 0.0, float(cell in (1, "1", "1.0", "True"))] for cell in cells
    ]


def test_label_columns_are_found_only_where_all_are_there():
    task = task_of()
    assert task.find_columns(columns_of(NAMES, labels=[["toxic"]] * 3)).label == "labels"
    assert task.find_columns(columns_of([name.upper() for name in NAMES])).label == tuple(map(str.upper, NAMES))
    with pytest.raises(DataError, match="No column has a standard label name"):
        task.find_columns(columns_of(NAMES[:2]))
    # Columns of other names are those of the labels in their order, if they are as many.
    assert task.find_columns(columns_of("abc"), label="c,a,b").label == ("c", "a", "b")
    assert task.find_columns(columns_of(NAMES), label=None, need_label=False).label == NAMES


@pytest.mark.parametrize(
    ("columns", "label", "message"),
    [
        *(
            (columns, label, f"'{label or 'label'}' holds 0 and 1 alone.* has 3: .*--label toxic,severe_toxic,obscene")
            for columns, label in ((NAMES, "toxic"), (("is_toxic",), "is_toxic"), (("label",), None))
        ),
        (NAMES, ["TOXIC"], "no column 'TOXIC' for --label"),
        (NAMES, "toxic,obscene", "None of the label columns toxic, obscene is of the model's label 'severe_toxic'"),
        ("ab", "a,b", "None of the label columns a, b is of the model's label 'toxic'"),
        ((*NAMES, "x"), ",".join((*NAMES, "x")), "label column 'x' is none of the model's labels"),
        (NAMES, "toxic,toxic,obscene", "name one column twice"),
        (NAMES, "toxic,nothing", "no column 'nothing' for --label"),
    ],
)
def test_label_columns_that_are_not_the_labels_are_refused(columns, label, message):
    with pytest.raises(DataError, match=message):
        task_of().find_columns(columns_of(columns), label=label)


def test_a_column_of_ids_may_have_the_name_of_a_label(make_tokenizer):
    task, data = task_of(tokenizer=make_tokenizer("bert")), columns_of(["toxic"]).remove_columns("toxic")
    data = data.add_column("toxic", [0, 2, 1])
    found = task.find_columns(data, label="toxic")
    assert task.encode(data, found).dataset["labels"][1] == [0.0, 0.0, 1.0]


def test_a_cell_of_a_label_column_is_0_or_1(make_tokenizer):
    task = task_of(tokenizer=make_tokenizer("bert"))
    for cell in (2, -1, 0.5, None, float("nan")):
        data = columns_of(NAMES[:2], obscene=[0, 1, cell])
        with pytest.raises(
            RowError, match=r"Row 3 has .* in column 'obscene', but of several label columns each holds"
        ):
            task.encode(data, task.find_columns(data))


@pytest.mark.parametrize(
    ("head", "kind", "more"),
    [
        ("ForSequenceClassification", {}, {}),
        ("ForSequenceClassification", {"num_labels": 1}, {}),
        ("ForTokenClassification", {}, {}),
        ("ForMultipleChoice", {}, {"choices": [["a", "b"]] * 3, "context": TEXTS}),
        ("ForQuestionAnswering", {}, {"question": TEXTS, "context": TEXTS}),
        ("Model", {}, {"sentence1": TEXTS, "sentence2": TEXTS}),
    ],
)
def test_a_head_of_one_label_takes_one_column(head, kind, more):
    names = NAMES[: kind.get("num_labels", 3)]
    task, data = task_for(f"Bert{head}", config(names), None), columns_of("ab", **more)
    data = data.remove_columns("text") if more else data
    with pytest.raises(DataError, match="The columns a, b can't all"):
        task.find_columns(data, label="a,b")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("comment_text label", ("comment_text", None)),
        ("sent1 sent2 label", ("sent1", "sent2")),
        ("question answer label", ("question", "answer")),
        ("question answer text label", ("text", None)),
        ("question answer context label", ("question", "context")),
        ("comment_text sentence label", ("sentence", None)),
    ],
)
def test_more_names_are_known_where_no_usual_one_is_there(names, found):
    data = datasets.Dataset.from_dict({name: [] for name in names.split()})
    assert find_columns(data) == Columns(*found, "label")


# --- names of labels ----------------------------------------------------------------------------------------------

MAPS = {
    "contradiction": ({"a": 0, "b": 1}, {0: "b", 1: "a"}, "label2id says 'a' is 0, but its id2label says 1"),
    "another case": ({"A": 0, "B": 1}, {0: "b", 1: "a"}, "label2id says 'A' is 0, but its id2label says 1"),
    "outside": ({"a": 0, "b": 2}, {0: "a", 1: "b"}, "label2id has the id 2, but its head the outputs 0 to 1"),
    "outside too": ({"a": 0, "b": 1}, {0: "a", 5: "b"}, "id2label has the id 5, but its head the outputs 0 to 1"),
    "negative": ({"a": 0, "b": -1}, {0: "a", 1: "b"}, "label2id has the id -1"),
    "twice": ({"a": 0}, {0: "a", 1: "a"}, "gives the outputs 0 and 1 one name, 'a'"),
    "no id": ({"a": 0, "b": "x"}, {0: "a", 1: "b"}, "label2id says 'b' is 'x'"),
    "no object": (["a", "b"], {0: "a", 1: "b"}, "label2id is .'a', 'b'.: give an object"),
    "no text": ({"a": 0, "b": 1}, {0: "a", 1: "\ud800"}, r"half a character in the name '\\ud800'"),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("kind", [{}, MULTI])
@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForTokenClassification"])
def test_label_names_that_contradict_each_other_are_refused(head, kind, name, make_tokenizer):
    by_name, by_id, message = MAPS[name]
    made = BertConfig(**kind)
    made.label2id, made.id2label = by_name, by_id
    data = datasets.Dataset.from_dict(
        {"text": TEXTS, "label": [[0], [0], [0]] if "Token" in head or kind else [0, 0, 0]}
    )
    task = task_for(f"Bert{head}", made, make_tokenizer("bert"), data)
    data = data.select([2])
    with pytest.raises(UnsupportedModelError, match=message):
        task.encode(data, task.find_columns(data))
    columns = task.find_columns(data.remove_columns("label"), need_label=False)
    assert len(task.encode(data, columns).dataset) == 1  # without labels no name is needed


@pytest.mark.parametrize(
    ("by_name", "by_id"),
    [
        ({"LABEL_0": 0, "LABEL_1": 1}, {0: "neg", 1: "pos"}),
        ({"neg": 0, "pos": 1}, {0: "LABEL_0", 1: "LABEL_1"}),
        ({"neg": 0}, {0: "neg", 1: "pos"}),
        ({"Neg": 0, "POS": 1}, {0: "neg", 1: "pos"}),
        ({"neg": 0, "negative": 0, "pos": 1}, {0: "neg", 1: "pos"}),
        (None, {0: "neg", 1: "pos"}),
    ],
)
def test_label_names_that_only_differ_are_all_known(by_name, by_id):
    made = BertConfig()
    made.label2id, made.id2label = by_name, by_id
    assert encode_labels(["pos", "neg"], made) == [1, 0]


@pytest.mark.parametrize("command", ["compress", "plan", "probe", "check", "bench", "inspect"])
def test_every_command_refuses_names_that_contradict_each_other(command, make_model_dir, make_texts, edit_json):
    directory, data = make_model_dir(labels=2), make_texts(8)
    edit_json(
        directory / "config.json", lambda found: found.update(id2label={0: "a", 1: "b"}, label2id={"a": 1, "b": 0})
    )
    run = {
        "compress": lambda: wordelim.compress(directory, train=data, validation=data),
        "plan": lambda: plan(directory, train=data, validation=data),
        "probe": lambda: wordelim.probe(directory, validation=data),
        "check": lambda: wordelim.check(directory, directory, data=data),
        "bench": lambda: wordelim.bench(directory, data=data),
        "inspect": lambda: inspect_model(directory),
    }
    with pytest.raises(UnsupportedModelError, match="label2id says 'a' is 1, but its id2label says 0"):
        run[command]()


@pytest.mark.parametrize("cells", [[0, 1, 1], ["0", "1", "1"], [False, True, True]])
def test_of_a_single_label_the_column_says_whether_a_text_has_it(cells, make_tokenizer):
    task = task_of(("toxic",), tokenizer=make_tokenizer("bert"))
    data = columns_of(("toxic",), toxic=cells)
    assert task.encode(data, task.find_columns(data, label="toxic")).dataset["labels"][:] == [[0.0], [1.0], [1.0]]
