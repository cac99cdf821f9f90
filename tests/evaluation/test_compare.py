"""Two models on the same examples: planted differences are found, and no more."""

import datasets
import numpy as np
import pytest
from scipy.stats import binomtest
from transformers import BertConfig

from wordelim.evaluation.compare import compare
from wordelim.tasks import Task

NAMED = BertConfig(id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1})
MULTI = BertConfig(num_labels=2, problem_type="multi_label_classification")


def compared(config, dense, compressed, labels, lengths):
    examples = datasets.Dataset.from_dict({"labels": labels.tolist(), "length": list(lengths)})
    return compare(Task(config, None), Task(config, None).metric(), dense, compressed, examples)


def test_slices_say_where_the_drop_is():
    labels = np.array([0, 1] * 40)
    lengths = np.arange(80) // 2 + 4  # both labels of each length
    compressed = labels.copy()
    compressed[(lengths > 33) & (labels == 1)] = 0  # the longest quarter, where it is positive
    found = compared(NAMED, labels, compressed, labels, lengths)
    assert (found["dense"], found["compressed"], found["drop"]) == (100.0, 87.5, 12.5)
    assert found["flips"] == {"total": 80, "changed": 10, "fixed": 0, "broken": 10}
    assert found["mcnemar_p"] == pytest.approx(2 * 0.5**10, abs=1e-6)
    assert [(s["by"], s["slice"], s["examples"], s["metric"], s["drop"]) for s in found["slices"]] == [
        ("length", "4 to 13 tokens", 20, "accuracy", 0.0),
        ("length", "14 to 23 tokens", 20, "accuracy", 0.0),
        ("length", "24 to 33 tokens", 20, "accuracy", 0.0),
        ("length", "34 to 43 tokens", 20, "accuracy", 50.0),
        ("label", "neg", 40, "recall", 0.0),
        ("label", "pos", 40, "recall", 25.0),
    ]


def test_mcnemar_is_exact_and_looks_at_changed_answers_alone():
    labels = np.zeros(100, dtype=int)
    dense, compressed = labels.copy(), labels.copy()
    compressed[:7] = 1  # broken
    dense[7:9] = 1  # fixed
    found = compared(NAMED, dense, compressed, labels, [5] * 100)
    assert found["mcnemar_p"] == pytest.approx(binomtest(7, 9).pvalue, abs=1e-6)
    assert compared(NAMED, dense, dense, labels, [5] * 100)["mcnemar_p"] == 1.0
    assert [s["slice"] for s in found["slices"]] == ["5 tokens", "neg"]  # no text is positive, none of another length


def test_labels_that_are_independent_have_a_slice_each():
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    compressed = np.array([[1, 0], [1, 0], [0, 1], [0, 0]])
    found = compared(MULTI, labels, compressed, labels, [3, 4, 5, 6])
    assert [(s["slice"], s["examples"], s["drop"]) for s in found["slices"] if s["by"] == "label"] == [
        ("LABEL_0", 2, 0.0),
        ("LABEL_1", 2, 50.0),
    ]


def test_scores_have_no_flips_and_no_labels():
    config, labels = BertConfig(num_labels=1), np.arange(8.0)
    found = compared(config, labels, -labels, labels, range(3, 11))
    assert (found["drop"], found["flips"], found["mcnemar_p"]) == (200.0, None, None)
    assert {s["by"] for s in found["slices"]} == {"length"}
