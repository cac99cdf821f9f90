"""Metrics against values worked out by hand; samples where a metric could be undefined."""

import pickle
import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import f1_score, matthews_corrcoef
from transformers import BertConfig

from wordelim.errors import WordelimError
from wordelim.tasks import Task, task_for
from wordelim.tasks.metrics import predictions


def config(num_labels=2, problem_type=None):
    return BertConfig(num_labels=num_labels, problem_type=problem_type)


MULTI = "multi_label_classification"


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("name", "points"),
    # 2 hits, 1 false alarm, 1 miss, 4 rejections: F1 4/6 of class 1 and 8/10 of class 0
    [
        (None, 100 * 6 / 8),
        ("accuracy", 100 * 6 / 8),
        ("f1", 100 * 4 / 6),
        ("f1_macro", 100 * (4 / 6 + 8 / 10) / 2),
        ("f1_micro", 100 * 6 / 8),
        ("mcc", 100 * (2 * 4 - 1 * 1) / (3 * 3 * 5 * 5) ** 0.5),
    ],
)
def test_metrics_of_two_classes(name, points):
    labels, decided = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]
    logits = 3 * np.eye(2)[decided] - 1
    assert Task(config(), None).metric(name)(logits, labels) == pytest.approx(points)


@pytest.mark.parametrize(
    ("labels", "problem", "name"),
    [
        *((labels, None, name) for labels in (2, 3, 5) for name in ("f1", "f1_macro", "f1_micro", "mcc")),
        *((labels, MULTI, name) for labels in (1, 2, 4) for name in ("f1", "f1_macro", "f1_micro")),
    ],
)
def test_sums_over_examples_come_to_what_scikit_learn_says(labels, problem, name):
    """On samples where classes are missing too."""
    metric, random = Task(config(labels, problem), None).metric(name), np.random.default_rng(labels)
    for size in (1, 2, 3, 8, 50) * 5:
        shape = (size,) if problem is None else (size, labels)
        truth, said = (random.integers(2 if problem else labels, size=shape) for _ in range(2))
        sums = metric.parts(truth, said).sum(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = scikit_learns(name, problem, labels)(truth, said)
        assert metric.score(truth, said) == float(metric.finish(sums)) == pytest.approx(expected)
        assert metric.finish(np.stack([sums, sums])).shape == (2,)


def scikit_learns(name, problem, labels):
    """The same metric from another hand; of one column it would take the two values for two classes."""
    if name == "mcc":
        return matthews_corrcoef
    usual = "micro" if problem else "binary" if labels == 2 else "macro"
    average = {"f1": usual, "f1_macro": "macro", "f1_micro": "micro"}[name]
    return partial(f1_score, average="binary" if problem and labels == 1 else average, zero_division=0.0)


def test_f1_of_three_classes_is_over_those_that_occur():
    labels, decided = [0, 0, 1, 1], [0, 0, 1, 0]  # F1 4/5 and 2/3; class 2 doesn't count
    logits = np.eye(3)[decided]
    assert Task(config(3), None).metric("f1_macro")(logits, labels) == pytest.approx(100 * (4 / 5 + 2 / 3) / 2)
    assert Task(config(3), None).metric("f1")(logits, labels) == Task(config(3), None).metric("f1_macro")(
        logits, labels
    )


@pytest.mark.parametrize(
    ("name", "points"),
    [
        (None, 100 * 4 / 6),  # 2 hits of 3 true and 3 predicted
        ("f1", 100 * 4 / 6),
        ("f1_micro", 100 * 4 / 6),
        ("f1_macro", 100 * (1 + 2 / 3 + 0 / 2 + 0) / 4),  # a class that never occurs counts as 0
        ("accuracy", 100 * 1 / 3),
    ],
)
def test_metrics_of_several_labels(name, points):
    labels = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    decided = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]])
    if name == "accuracy":
        decided[1, 2] = 1
    assert Task(config(4, MULTI), None).metric(name)(decided - 0.5, labels) == pytest.approx(points)


@pytest.mark.parametrize("name", [None, "f1_micro", "f1_macro"])
def test_one_label_of_a_multi_label_head_is_no_pair_of_classes(name):
    labels, logits = np.array([[1.0], [0.0], [1.0], [1.0]]), np.array([[1.0], [-1.0], [-1.0], [1.0]])
    assert Task(config(1, MULTI), None).metric(name)(logits, labels) == pytest.approx(80.0)


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_correlations_with_ties(shape):
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, 40) / 2
    scores = np.round(labels + random.normal(0, 1, 40), 1)
    ranks = [scipy.stats.rankdata(values) for values in (scores, labels)]
    assert Task(config(1), None).metric().name == "spearman"
    spearman, pearson = Task(config(1), None).metric(), Task(config(1), None).metric("pearson")
    assert spearman(scores.reshape(shape), labels) == pytest.approx(100 * np.corrcoef(*ranks)[0, 1])
    assert pearson(scores.reshape(shape), labels) == pytest.approx(100 * np.corrcoef(scores, labels)[0, 1])


def test_the_correlation_of_several_scores_is_the_mean():
    labels = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    logits = np.array([[0.0, 5.0], [1.0, 4.0], [3.0, 3.0]])
    assert Task(config(2, "regression"), None).metric()(logits, labels) == pytest.approx(0.0)
    logits[:, 1] = 7.0
    assert Task(config(2, "regression"), None).metric()(logits, labels) == pytest.approx(50.0)


@pytest.mark.parametrize("examples", [1, 4])
@pytest.mark.parametrize("name", ["spearman", "pearson"])
def test_a_constant_side_has_no_correlation(name, examples):
    constant, rising = np.full(examples, 0.1), np.arange(examples, dtype=float)
    assert Task(config(1), None).metric(name)(constant[:, None], rising) == 0.0
    assert Task(config(1), None).metric(name)(rising[:, None], constant) == 0.0


@pytest.mark.parametrize("labels", [[0], [1], [0, 0], [1, 1]])
@pytest.mark.parametrize(
    ("name", "right"), [("accuracy", 100.0), ("f1_macro", 100.0), ("f1_micro", 100.0), ("mcc", 0.0)]
)
def test_a_single_class_is_measured_without_a_warning(name, right, labels):
    metric = Task(config(), None).metric(name)
    assert metric(np.eye(2)[labels], labels) == right
    assert metric(np.eye(2)[1 - np.array(labels)], labels) == 0.0


def test_f1_of_a_class_that_never_occurs_is_0():
    assert Task(config(), None).metric("f1")(np.eye(2)[[0, 0]], [0, 0]) == 0.0
    assert Task(config(3, MULTI), None).metric()(np.full((2, 3), -1.0), np.zeros((2, 3))) == 0.0


def test_metrics_can_be_pickled():
    metric = pickle.loads(pickle.dumps(Task(config(), None).metric("mcc")))
    assert metric(np.eye(2), [0, 1]) == 100.0


@pytest.mark.parametrize(
    ("model", "name"),
    [(config(), "bleu"), (config(), "pearson"), (config(1), "accuracy"), (config(3, MULTI), "mcc")],
)
def test_an_unknown_metric_is_refused_with_the_known_ones(model, name):
    with pytest.raises(WordelimError, match=rf"{name}.*choose one of .*{Task(model, None).metric().name}"):
        Task(model, None).metric(name)


def test_predictions():
    logits = np.array([[0.2, -0.1], [-3.0, 1.0]])
    assert predictions(logits, config()).tolist() == [0, 1]
    assert predictions(logits, config(2, MULTI)).tolist() == [[1, 0], [0, 1]]
    assert predictions(logits[:, :1], config(1)).tolist() == [0.2, -3.0]
    assert predictions(logits, config(2, "regression")).tolist() == logits.tolist()


@pytest.mark.parametrize("model", [config(), config(2, MULTI), config(2, "regression")])
def test_an_output_that_is_no_number_is_refused(model):
    with pytest.raises(WordelimError, match=r"to 1 of 2 examples \(the first is number 2\)"):
        predictions([[0.0, 1.0], [np.nan, 1.0]], model)


@pytest.mark.parametrize("model", [config(), config(2, MULTI), config(2, "regression")])
def test_labels_that_do_not_fit_are_refused(model):
    metric = Task(model, None).metric()
    with pytest.raises(WordelimError, match=r"at least one: the labels have the shape \(0,"):
        metric(np.zeros((0, 2)), predictions(np.zeros((0, 2)), model))
    with pytest.raises(WordelimError, match=r"labels have the shape \(3,\), the predictions \(2,"):
        metric(np.zeros((2, 2)), [0, 1, 0])
    with pytest.raises(WordelimError, match=r"labels have the shape \(2, 1\), the predictions \(2,"):
        metric(np.zeros((2, 2)), [[0], [1]])


HEADS = {
    "classes": ("BertForSequenceClassification", config(), None),
    "several labels": ("BertForSequenceClassification", config(3, MULTI), None),
    "a score": ("BertForSequenceClassification", config(1), None),
    "ranking": ("BertForSequenceClassification", config(1), "mrr"),
    "choice": ("BertForMultipleChoice", config(), None),
    "tagging": ("BertForTokenClassification", config(), None),
    "answering": ("BertForQuestionAnswering", config(), None),
    "embedding": ("BertModel", config(), None),
}


def test_the_documentation_names_every_metric():
    lines = (Path(__file__).parents[2] / "docs" / "heads.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| class | columns | metrics, the usual one first |") + 2
    cells = [line.split("|")[3] for line in lines[start : lines.index("", start)]]
    told = [re.findall("`([a-z0-9_]+)`", part) for cell in cells for part in re.split("a text:|a score:", cell)]
    heads = [task_for(name, config, None, metric=metric) for name, config, metric in HEADS.values()]
    assert told == [list(head.metrics()) for head in heads]
    for head in heads:
        for name, metric in head.metrics().items():
            assert metric.name == name
            assert head.named_metric(name).name == name
