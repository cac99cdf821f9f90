"""A bound that uses what both models make of a text, against the bootstrap and against its promise."""

import numpy as np
import pytest
from scipy.special import softmax
from transformers import BertConfig

from wordelim.evaluation.smoothed import smoothed_bound
from wordelim.evaluation.statistics import paired_bootstrap
from wordelim.tasks import Task


def metric_of(classes, name):
    return Task(BertConfig(num_labels=classes), None).metric(name)


def pair_of_models(random, texts, classes, worse):
    """Two models that each see what decides a text's class through noise of its own, and the labels."""
    signal = 2 * random.normal(size=(texts, classes))
    chances = softmax(signal, axis=-1).cumsum(-1)
    labels = (random.random((texts, 1)) > chances).sum(-1)
    dense, compressed = (signal + noise * random.normal(size=signal.shape) for noise in (0.3, 0.3 + worse))
    return dense, compressed, labels


@pytest.mark.parametrize(("classes", "worse", "name"), [(2, 0.4, "accuracy"), (2, 0.4, "mcc"), (5, 0.2, "f1_macro")])
def test_it_holds_as_often_as_it_says_and_asks_for_less_than_labels_alone(classes, worse, name):
    metric, random = metric_of(classes, name), np.random.default_rng(0)
    *many, truth = pair_of_models(random, 100_000, classes, worse)
    lost = metric(many[0], truth) - metric(many[1], truth)
    bounds = []
    for seed in range(60):
        pair = pair_of_models(random, 300, classes, worse)
        own = smoothed_bound(metric, *pair, confidence=0.8, seed=seed, resamples=200)
        bounds.append((own, paired_bootstrap(metric, *pair, confidence=0.6, seed=seed, resamples=200).high))
    smoothed, drawn = np.array(bounds).T
    assert (smoothed >= lost).mean() >= 0.7  # 0.8, but for the luck of sixty draws
    assert smoothed.std() < 0.85 * drawn.std()
    assert smoothed.mean() < drawn.mean()


def test_what_it_adds_to_labels_fades_where_these_say_something_else():
    """Both models are sure of themselves, and wherever they are not of one mind the dense one is right."""
    random = np.random.default_rng(1)
    labels = random.integers(2, size=4000)
    dense = 3.0 * np.eye(2)[labels]
    other = random.random(4000) < 0.08
    compressed = 3.0 * np.eye(2)[np.where(other, 1 - labels, labels)]
    metric = metric_of(2, "accuracy")
    lost = metric(dense, labels) - metric(compressed, labels)
    assert lost == pytest.approx(8, abs=1)
    assert smoothed_bound(metric, dense, compressed, labels, confidence=0.8) > 0.9 * lost


def test_of_metrics_that_are_one_it_is_one():
    pair = pair_of_models(np.random.default_rng(2), 200, 4, 0.5)
    accuracy, f1 = (smoothed_bound(metric_of(4, name), *pair, confidence=0.8) for name in ("accuracy", "f1_micro"))
    assert accuracy == pytest.approx(f1)


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_the_scale_of_logits_and_what_is_added_to_all_of_a_text_does_not_matter(factor):
    dense, compressed, labels = pair_of_models(np.random.default_rng(3), 200, 3, 0.5)
    metric = metric_of(3, "accuracy")
    as_they_are, others = (
        smoothed_bound(metric, a, b, labels, confidence=0.8)
        for a, b in ((dense, compressed), (factor * (dense + 7), factor * (compressed - 7)))
    )
    assert others == pytest.approx(as_they_are, abs=0.05)


def test_models_that_decide_the_same_lose_nothing():
    dense, _, labels = pair_of_models(np.random.default_rng(4), 50, 3, 0.0)
    assert smoothed_bound(metric_of(3, "mcc"), dense, 2 * dense, labels, confidence=0.99) == 0


def test_a_dense_model_that_is_always_right_leaves_a_finite_bound():
    labels = np.arange(40) % 2
    dense = 20.0 * np.eye(2)[labels]
    compressed = dense.copy()
    compressed[0] = compressed[0, ::-1]
    bound = smoothed_bound(metric_of(2, "accuracy"), dense, compressed, labels, confidence=0.8)
    assert 0 <= bound <= 10
