"""The worst changes are found, in order, and said in the model's own names."""

import numpy as np
import pytest
from transformers import BertConfig

from wordelim.tasks.worst import worst_flips


def texts_of(row):
    return [f"text {row}"]


@pytest.fixture
def config():
    """``config(labels, problem=None)``: of a classifier with labels named a, b, c."""

    def make(labels, problem=None):
        names = dict(enumerate("abc"[:labels]))
        return BertConfig(
            num_labels=labels, id2label=names, label2id={v: k for k, v in names.items()}, problem_type=problem
        )

    return make


def test_classes(config):
    labels = np.array([0, 1, 2, 0, 1])
    dense = np.eye(3)[[0, 1, 2, 1, 1]] * 4
    compressed = dense.copy()
    compressed[1] = [1, 0, 0]  # from right to wrong, by little
    compressed[2] = [9, 0, 0]  # by much
    compressed[3] = [0, 9, 0]  # was wrong before
    found = worst_flips(config(3), dense, compressed, labels, texts_of)
    assert [(row["row"], row["label"], row["dense"], row["compressed"]) for row in found] == [
        (3, "c", "c", "a"),
        (2, "b", "b", "a"),
    ]
    assert found[0]["texts"] == ["text 2"]
    assert found[0]["before"] == pytest.approx(np.exp(4) / (np.exp(4) + 2), abs=1e-3)
    assert found[0]["after"] < 0.001
    assert worst_flips(config(3), dense, dense, labels, texts_of) == []


def test_independent_labels(config):
    labels = np.array([[1, 0], [1, 1]])
    dense = np.array([[3.0, -3.0], [3.0, 3.0]])
    found = worst_flips(config(2, "multi_label_classification"), dense, -dense, labels, texts_of)
    assert [(row["label"], row["dense"], row["compressed"]) for row in found] == [
        ("a", "a", "b"),
        ("a, b", "a, b", "none"),
    ]


def test_scores(config):
    labels, dense = np.array([1.0, 2.0, 3.0]), np.array([[1.0], [2.5], [3.0]])
    found = worst_flips(config(1), dense, np.array([[1.5], [2.0], [5.0]]), labels, texts_of)
    assert [(row["row"], row["label"], row["dense"], row["compressed"]) for row in found] == [
        (3, "3", "3", "5"),
        (1, "1", "1", "1.5"),
    ]
    assert (found[0]["before"], found[0]["after"]) == (0.0, 2.0)


def test_long_texts_are_cut(config):
    dense = np.array([[1.0, 0.0]])
    (row,) = worst_flips(config(2), dense, -dense, np.array([0]), lambda row: ["x" * 5000, "short"])
    assert len(row["texts"][0]) < 700
    assert row["texts"][1] == "short"
