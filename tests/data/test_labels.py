"""Labels of every form, against every kind of head."""

import datasets
import pytest
from transformers import BertConfig

from wordelim.data.labels import encode_labels
from wordelim.data.problem import problem_type
from wordelim.errors import DataError

MULTI = "multi_label_classification"
STARS = tuple("12345")


def config(names=("negative", "positive"), **more):
    return BertConfig(label2id={name: i for i, name in enumerate(names)}, id2label=dict(enumerate(names)), **more)


@pytest.mark.parametrize(
    ("names", "values", "ids"),
    [
        (("negative", "positive"), ["positive", " NEGATIVE"], [1, 0]),
        (("negative", "positive"), [1, 0], [1, 0]),
        (("negative", "positive"), ["1", "0"], [1, 0]),
        (("negative", "positive"), [1.0, 0.0], [1, 0]),
        (("a", "A", "b"), ["A", "a", "B"], [1, 0, 2]),
        (("LABEL_0", "LABEL_1"), ["label_1", "LABEL_0"], [1, 0]),
        (("false", "true"), [True, False], [1, 0]),
        (("no", "yes"), [True, False], [1, 0]),
        (STARS, ["5", "1"], [4, 0]),
        (STARS, [5, 1], [4, 0]),
        (STARS, [5.0, 1.0], [4, 0]),
        (STARS, [0, 4], [0, 4]),
        (tuple("01"), ["1", "0"], [1, 0]),
    ],
)
def test_classes(names, values, ids):
    assert encode_labels(values, config(names)) == ids


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        (
            ("negative", "positive"),
            ["positive", "neutral"],
            "Row 2 has the label 'neutral'.*negative, positive",
        ),
        (("negative", "positive"), [1, 2], "Row 2 has the label 2"),
        (("negative", "positive"), [-1], "Row 1 has the label -1.*often carry -1"),
        (("negative", "positive"), [0.5], "Row 1 has the label 0.5"),
        (("negative", "positive"), [["positive"]], r"Row 1 has the label \['positive'\]"),
        (("negative", "positive"), [0, None], "Row 2 has no label"),
        (("negative", "positive"), [0.0, float("nan")], "Row 2 has no label"),
        (("a", "A", "B"), ["a", "b", "Ä"], "Row 3"),
        (("b", "a", "A"), ["a", "A", " a"], "Row 3 has the label ' a'"),
        (("negative", "positive"), ["positive", "0"], "Row 2 has an id as its label, '0', where others have names"),
        (STARS, ["1", "2"], "read as names .* and as ids"),
    ],
)
def test_labels_that_the_model_does_not_know_are_refused(names, values, message):
    with pytest.raises(DataError, match=message):
        encode_labels(values, config(names))


def test_class_labels_go_by_name_where_the_model_knows_the_names():
    swapped = datasets.ClassLabel(names=["Positive", "Negative"])
    assert encode_labels([0, 1, 1], config(), feature=swapped) == [1, 0, 0]
    assert encode_labels([0, 1], config(STARS), feature=datasets.ClassLabel(names=["1", "2"])) == [0, 1]
    assert encode_labels([0, 1], config(), feature=datasets.ClassLabel(names=["neg", "pos"])) == [0, 1]
    assert encode_labels([0, 1], config(("a", "b")), feature=datasets.ClassLabel(names=["b", "a", "c"])) == [
        1,
        0,
    ]
    with pytest.raises(DataError, match="the class 'c', which the model doesn't know"):
        encode_labels([0, 2], config(("a", "b")), feature=datasets.ClassLabel(names=["b", "a", "c"]))
    with pytest.raises(DataError, match="Row 2 has the label -1, which is no class of its column"):
        encode_labels([0, -1], config(), feature=swapped)


def test_scores():
    assert problem_type(BertConfig(num_labels=1)) == "regression"
    assert encode_labels(["3.5", 2, True], BertConfig(num_labels=1)) == [3.5, 2.0, 1.0]
    two = BertConfig(num_labels=2, problem_type="regression")
    assert encode_labels([[1, 2.5], "[0, 1]"], two) == [[1.0, 2.5], [0.0, 1.0]]
    for value in ("good", "", float("inf"), "nan", [1.0, 2.0]):
        with pytest.raises(DataError, match="Row 2 has the label"):
            encode_labels([1.0, value], BertConfig(num_labels=1))
    with pytest.raises(DataError, match="predicts 2 numbers"):
        encode_labels([1.0], two)


def test_several_labels():
    model = config(("joy", "anger", "fear"), problem_type=MULTI)
    expected = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    forms = [
        [["joy", "Fear"], [], ["anger"]],
        [[0, 2], [], [1]],
        [[1, 0, 1], [0, 0, 0], [0, 1, 0]],
        [[True, False, True], [False] * 3, [False, True, False]],
        ['["joy", "fear"]', "[]", "anger"],
        ["[1, 0, 1]", "[0, 0, 0]", "[0, 1, 0]"],
        [["1", "0", "1"], ["0", "0", "0"], '["0", "1", "0"]'],
        expected,
    ]
    for values in forms:
        assert encode_labels(values, model) == expected, values
    feature = datasets.List(datasets.ClassLabel(names=["fear", "anger", "joy"]))
    assert encode_labels([[0, 2], [], [1]], model, feature=feature) == expected
    with pytest.raises(DataError, match="Row 2 has the label 'hope'"):
        encode_labels([["joy", "fear"], ["hope"]], model)
    for nothing in (None, "", " "):
        with pytest.raises(DataError, match="Row 2 has no label"):
            encode_labels([["joy", "fear"], nothing], model)
