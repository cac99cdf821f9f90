"""One table, whatever file it stands in, is the same data to every head; and what no head can use is refused by row."""

import json
from decimal import Decimal

import datasets
import numpy as np
import pandas as pd
import pytest
from transformers import BertConfig

from wordelim.data.cells import items_of, mapping_of, number, read_json, whole, words_of
from wordelim.data.read import read
from wordelim.errors import DataError, RowError
from wordelim.tasks import task_for

WORDS = [["good", "film"], ["bad", "plot", "it"], ["[", "good", "]", "film"], ["the", "cat"]]
TEXTS = [" ".join(words) for words in WORDS]
SEVERAL = ("joy", "anger", "fear")


def _named(*names, **more):
    return BertConfig(id2label=dict(enumerate(names)), label2id={name: at for at, name in enumerate(names)}, **more)


HEADS = {
    "classes": (
        "ForSequenceClassification",
        _named("neg", "pos"),
        {"text": TEXTS, "label": ["pos", "neg", "pos", "neg"]},
    ),
    "ids": ("ForSequenceClassification", _named("neg", "pos"), {"sentence": TEXTS, "label": [1, 0, 1, 0]}),
    "pairs": (
        "ForSequenceClassification",
        _named("no", "yes"),
        {"sent1": TEXTS, "sent2": ["it", "", "a\nb", 'a "good", one'], "label": [True, False, True, False]},
    ),
    "several labels": (
        "ForSequenceClassification",
        _named(*SEVERAL, problem_type="multi_label_classification"),
        {"comment_text": TEXTS, "labels": [["joy"], [], ["joy", "fear"], ["anger"]]},
    ),
    "several ids": (
        "ForSequenceClassification",
        _named(*SEVERAL, problem_type="multi_label_classification"),
        {"text": TEXTS, "labels": [[0], [], [0, 2], [1]]},
    ),
    "several columns": (
        "ForSequenceClassification",
        _named(*SEVERAL, problem_type="multi_label_classification"),
        {"comment_text": TEXTS, "anger": [0, 1, 0, 0], "fear": [1, 1, 0, 0], "joy": [0, 0, 0, 1]},
    ),
    "scores": ("ForSequenceClassification", BertConfig(num_labels=1), {"text": TEXTS, "score": [0.5, 1, 1e-9, 2.25]}),
    "several scores": (
        "ForSequenceClassification",
        BertConfig(num_labels=2, problem_type="regression"),
        {"text": TEXTS, "label": [[0.5, 1.0], [1.0, 2.0], [0.0, 0.0], [1e-9, 3.0]]},
    ),
    "ranking": (
        "ForSequenceClassification",
        BertConfig(num_labels=1),
        {"query": ["a", "a", "b", "b"], "document": TEXTS, "label": [1, 0, 2, 0]},
    ),
    "tags": (
        "ForTokenClassification",
        _named("O", "B-X", "I-X"),
        {"tokens": WORDS, "ner_tags": [["O", "B-X"], ["B-X", "I-X", "O"], ["O", "O", "O", "B-X"], ["O", "O"]]},
    ),
    "tag ids": (
        "ForTokenClassification",
        _named("O", "B-X", "I-X"),
        {"tokens": WORDS, "ner_tags": [[0, 1], [1, 2, 0], [0, 0, 0, 1], [0, 0]]},
    ),
    "tags as texts": (
        "ForTokenClassification",
        _named("O", "B-X", "I-X"),
        {"tokens": TEXTS, "tags": ["O B-X", "B-X I-X O", "O O O B-X", "O O"]},
    ),
    "choices": (
        "ForMultipleChoice",
        BertConfig(),
        {"context": TEXTS, "choices": [["it's", 'a "b"', "c"]] * 4, "answer": ["A", "C", "B", "A"]},
    ),
    "choices in columns": (
        "ForMultipleChoice",
        BertConfig(),
        {"sent1": TEXTS, "sent2": ["he"] * 4, "ending0": ["a"] * 4, "ending1": ["b"] * 4, "label": [0, 1, 1, 0]},
    ),
    "choices with letters": (
        "ForMultipleChoice",
        BertConfig(),
        {
            "question": TEXTS,
            "choices": [{"text": ["a", "b"], "label": [["A", "B"], ["1", "2"]][row % 2]} for row in range(4)],
            "answerKey": ["A", "1", "B", "2"],
        },
    ),
    "answers": (
        "ForQuestionAnswering",
        BertConfig(),
        {
            "question": ["what"] * 4,
            "context": TEXTS,
            "answers": [
                {"text": [words[1]], "answer_start": [len(words[0]) + 1]} if row else {"text": [], "answer_start": []}
                for row, words in enumerate(WORDS)
            ],
        },
    ),
    "similarity": ("Model", BertConfig(), {"sentence1": TEXTS, "sentence2": TEXTS[::-1], "score": [0, 1, 0.5, 0.25]}),
}


def _files(rows, folder):
    """The table in every file, as pandas writes it with Python's own lists and with those of numpy, and as JSON."""
    frames = {"python": pd.DataFrame(rows), "numpy": datasets.Dataset.from_dict(rows).to_pandas()}
    for kind, frame in frames.items():
        frame.to_csv(folder / f"{kind}.csv", index=False)
        frame.to_csv(folder / f"{kind}.tsv", index=False, sep="\t")
        frame.to_csv(folder / f"{kind}-semicolon.csv", index=False, sep=";")
        frame.to_csv(folder / f"{kind}-16.csv.gz", index=False, encoding="utf-16")
    as_json = pd.DataFrame(
        {name: [json.dumps(v) if isinstance(v, (list, dict)) else v for v in rows[name]] for name in rows}
    )
    as_json.to_csv(folder / "json.csv", index=False)
    whole_table = datasets.Dataset.from_dict(rows)
    whole_table.to_json(folder / "a.jsonl")
    whole_table.to_parquet(folder / "a.parquet")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("head", HEADS)
def test_one_table_is_the_same_in_every_file(head, make_tokenizer, tmp_path):
    name, config, rows = HEADS[head]
    expected = None
    for path in [None, *_files(rows, tmp_path)]:
        encoding = "utf-16" if path is not None and "16" in path.name else None
        data = datasets.Dataset.from_dict(rows) if path is None else read(path, encoding=encoding)
        task = task_for(f"Bert{name}", config, make_tokenizer("bert"), data)
        columns = task.find_columns(data)
        found = task.encode(data, columns).dataset.to_dict()
        shown = [task.shown(columns, row) for row in data]
        expected = expected or (found, shown)
        assert found == expected[0], path
        assert shown == expected[1], path
    if name == "ForTokenClassification":
        assert [texts for (texts,) in shown] == TEXTS


@pytest.mark.parametrize(
    "label",
    [[1, 0], [1.0, 0.0], [True, False], ["1", "0"], ["1.0", "0.0"], ["True", "False"], [Decimal(1), Decimal(0)]],
    ids=str,
)
@pytest.mark.parametrize(
    ("name", "more"),
    [("ForSequenceClassification", {}), ("ForMultipleChoice", {"choices": [["yes", "no"]] * 2})],
)
def test_a_number_is_a_class_or_a_choice_in_every_form(name, more, label, make_tokenizer, tmp_path):
    rows = datasets.Dataset.from_dict({"context": TEXTS[:2], "text": TEXTS[:2], "label": label, **more})
    rows = rows.remove_columns("text" if more else "context")
    rows.to_parquet(tmp_path / "a.parquet")
    pd.DataFrame(rows.to_dict()).to_csv(tmp_path / "a.csv", index=False)
    for data in (rows, read(tmp_path / "a.parquet"), read(tmp_path / "a.csv")):
        task = task_for(f"Bert{name}", _named("neg", "pos"), make_tokenizer("bert"), data)
        assert task.encode(data, task.find_columns(data)).dataset["labels"][:] == [1, 0]


@pytest.mark.parametrize("head", ["scores", "several scores", "ranking", "similarity"])
@pytest.mark.parametrize("score", [float("nan"), float("inf"), "nan", "1e400", "1_0", "", "9" * 5000])
def test_a_score_is_a_finite_number(head, score, make_tokenizer):
    name, config, rows = HEADS[head]
    label = "score" if "score" in rows else "label"
    values = list(rows[label])
    values[2] = [score, score] if isinstance(values[2], list) else score
    if isinstance(score, str):
        values = [list(map(str, value)) if isinstance(value, list) else str(value) for value in values]
    data = datasets.Dataset.from_dict({**rows, label: values})
    task = task_for(f"Bert{name}", config, make_tokenizer("bert"), data)
    with pytest.raises(RowError, match=r"Row 3 has (the label|no label)"):
        task.encode(data, task.find_columns(data))


@pytest.mark.parametrize(
    ("choices", "labels", "expected"),
    [
        ([["a", "b"]] * 2, ["b", "A"], [1, 0]),
        ([["3", "1", "2"]] * 2, [0, 2], [0, 2]),
        ([["True", "False"]] * 2, [True, False], [0, 1]),
        ([["10", "20"]] * 2, ["20", "10"], [1, 0]),
        ([["0", "1"]] * 2, [1, 0], [1, 0]),
        ([["1", "2"]] * 2, ["1", "1"], "may be the text of one choice or the number of another"),
        ([["yes", "no", "maybe"]] * 2, [True, False], "none of its 3 choices"),
        ([["yes", "no"]] * 2, [2, 1], "Row 1 has the label 2, which is none of its 2 choices"),
    ],
)
def test_a_choice_is_read_in_one_way(choices, labels, expected, make_tokenizer):
    data = datasets.Dataset.from_dict({"context": TEXTS[:2], "choices": choices, "label": labels})
    task = task_for("BertForMultipleChoice", BertConfig(), make_tokenizer("bert"), data)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            task.encode(data, task.find_columns(data))
    else:
        assert task.encode(data, task.find_columns(data)).dataset["labels"][:] == expected


def test_numbers_that_may_count_from_0_or_1_are_no_choices(make_tokenizer):
    task = task_for("BertForMultipleChoice", BertConfig(), make_tokenizer("bert"))

    def labels(**rows):
        data = datasets.Dataset.from_dict({"question": TEXTS[:2], **rows})
        return task.encode(data, task.find_columns(data)).dataset["labels"][:]

    listed, columns = {"choices": [["x", "y", "z"]] * 2}, {"option1": ["x"] * 2, "option2": ["y"] * 2}
    with pytest.raises(DataError, match="may count from 0 or from 1"):
        labels(**listed, answerKey=["1", "2"])
    assert labels(**listed, answerKey=["B", "A"]) == [1, 0]
    for one, two in ((1, 2), ("1", "2"), (1.0, 2.0), ("1.0", "2.0")):
        assert labels(**columns, answer=[two, one]) == [1, 0]
    assert labels(**columns, label=[1, 0]) == [1, 0]
    with pytest.raises(DataError, match="may be the number of one choice or the key of another"):
        labels(**columns, label=[1, 1])


# --- cells --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items", [["a", "it's", 'say "x"', "b\nc", "\\"], [0, 1, 2], [0.5, 1e-9], [], [[1, 2], [3, 4]]]
)
def test_a_list_is_read_as_it_was_printed(items):
    array = np.array(items, dtype=object if items and isinstance(items[0], str) else None)
    for text in (
        json.dumps(items),
        str(items),
        repr(array),
        str(array),
        str(list(array)) if array.ndim == 1 else str(items),
    ):
        assert items_of(text) == items, text
    assert items_of(array) == items_of(items) == items_of(tuple(items)) == items
    assert mapping_of(str({"x": array, "y": None})) == {"x": items, "y": None}


@pytest.mark.parametrize(
    "text",
    [
        *("[ good ] film", "[1] is cited", "[", "[]]", "[0 1 ... 8 9]", "[1, 2", "{'a'}", "[ good , film ]", "[good]"),
        *("[__import__('os')]", "array(", "array([1]", "[" * 100_000, "[" * 17 + "]" * 17, "[" + "9" * 5000 + "]"),
        *("(good) film", "( it is )", "(good)"),
    ],
)
def test_a_text_is_no_list(text):
    assert items_of(text) is None
    assert words_of(text) == text.split()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "['a' 'b', 'c']",
            "['a''b']",
            "['good', x]",
            "[good, film]",
            "['good' ... 'film']",
            "['a'; 'b']",
        ),
        *("['good', None]", "['good', nan]", "['good', [1]]", "['good', 1.5]", "('good', True)"),
    ],
)
def test_what_is_written_as_a_list_of_something_else_has_no_words(text):
    assert words_of(text) is None


def test_words_may_be_numbers_and_stand_in_any_brackets():
    for text in ("['good', 3]", "('good', 3)", "['good', 3,]", "['good' 3]"):
        assert words_of(text) == ["good", "3"]


def test_json_has_bounds():
    for text in ("[" * 50 + "]" * 50, "[" * 200_000, '{"a":' * 50 + "1" + "}" * 50):
        with pytest.raises(ValueError, match="nested too deep"):
            read_json(text)
    with pytest.raises(ValueError, match="a number of thousands of digits"):
        read_json("[" + "9" * 5000 + "]")


def test_numbers():
    for value in (
        1,
        1.0,
        True,
        "1",
        " 1.0 ",
        "True",
        "1e0",
        Decimal("1.00"),
        np.int64(1),
        np.float32(1),
        np.bool_(True),
    ):
        assert (number(value), whole(value)) == (1.0, 1)
    for value in ("", "x", None, [1], "1_0", "١", "nan", "inf", "1e400", float("inf"), 10**5000, Decimal("NaN")):
        assert number(value) is whole(value) is None
    assert whole(1.5) is whole("0.5") is None


@pytest.mark.parametrize("head", ["tags", "choices", "several labels", "answers"])
def test_half_a_character_in_a_cell_is_refused_by_its_row(head, make_tokenizer):
    name, config, rows = HEADS[head]
    column = {"tags": "tokens", "choices": "choices", "several labels": "labels", "answers": "answers"}[head]
    texts = [json.dumps(value) for value in rows[column]]
    texts[1] = json.dumps({"text": ["\ud83d"], "answer_start": [0]} if head == "answers" else ["\ud83d", "b", "c"])
    data = datasets.Dataset.from_dict({**rows, column: texts})
    task = task_for(f"Bert{name}", config, make_tokenizer("bert"), data)
    with pytest.raises(RowError, match=r"Row 2 has half a character, '\\ud83d'"):
        task.encode(data, task.find_columns(data))
