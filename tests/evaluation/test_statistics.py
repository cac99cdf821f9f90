"""The paired bootstrap against a plain one and against its promise; flips against counting by hand."""

import time

import numpy as np
import pytest
from transformers import BertConfig

from wordelim.errors import WordelimError
from wordelim.evaluation.statistics import Flips, Interval, flips, paired_bootstrap
from wordelim.tasks import Task

TWO, THREE, SCORE = BertConfig(num_labels=2), BertConfig(num_labels=3), BertConfig(num_labels=1)
MULTI = BertConfig(num_labels=3, problem_type="multi_label_classification")


def logits_of(decided, count=2):
    return np.eye(count)[np.asarray(decided)]


def pair_of_models(random, examples, *, classes=2, dense=0.9, compressed=0.9, shared=0.8):
    """Labels and the logits of two models that are right with these probabilities and often agree."""
    labels = random.integers(classes, size=examples)
    common = random.random(examples)
    outputs = []
    for rate in (dense, compressed):
        luck = np.where(random.random(examples) < shared, common, random.random(examples))
        wrong = (labels + random.integers(1, classes, size=examples)) % classes
        outputs.append(logits_of(np.where(luck < rate, labels, wrong), classes))
    return outputs[0], outputs[1], labels


def plain_bootstrap(metric, dense, compressed, labels, resamples, seed):
    random = np.random.default_rng(seed)
    drops = []
    for _ in range(resamples):
        rows = random.integers(len(labels), size=len(labels))
        drops.append(metric(dense[rows], labels[rows]) - metric(compressed[rows], labels[rows]))
    return np.percentile(drops, [2.5, 97.5])


def test_the_fast_path_gives_the_interval_of_a_plain_bootstrap():
    dense, compressed, labels = pair_of_models(np.random.default_rng(3), 300, classes=3, compressed=0.8)
    metric = Task(THREE, None).metric()
    interval = paired_bootstrap(metric, dense, compressed, labels, resamples=4000)
    low, high = plain_bootstrap(metric, dense, compressed, labels, 1500, seed=9)
    assert interval.drop == pytest.approx(metric(dense, labels) - metric(compressed, labels))
    assert interval.low == pytest.approx(low, abs=0.08 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.08 * (high - low))


def test_accuracy_interval_is_close_to_the_normal_one():
    dense, compressed, labels = pair_of_models(np.random.default_rng(0), 2000, compressed=0.87)
    difference = (dense.argmax(1) == labels).astype(float) - (compressed.argmax(1) == labels)
    half = 1.96 * 100 * difference.std() / np.sqrt(len(labels))
    interval = paired_bootstrap(Task(TWO, None).metric(), dense, compressed, labels)
    assert interval.drop == pytest.approx(100 * difference.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.06)


def test_the_interval_covers_the_true_drop_as_often_as_it_says():
    random = np.random.default_rng(11)
    metric = Task(TWO, None).metric()
    population = pair_of_models(random, 200_000, compressed=0.86)
    truth = metric(population[0], population[2]) - metric(population[1], population[2])
    covered = 0
    trials = 200
    for trial in range(trials):
        rows = random.integers(200_000, size=400)
        sample = [part[rows] for part in population]
        interval = paired_bootstrap(metric, *sample, resamples=400, seed=trial)
        covered += interval.low <= truth <= interval.high
    assert 0.9 <= covered / trials <= 0.99  # 0.95 and three standard errors


def test_models_that_agree_have_no_drop():
    dense, _, labels = pair_of_models(np.random.default_rng(1), 100)
    assert paired_bootstrap(Task(TWO, None).metric(), dense, dense, labels) == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("config", "name"), [(SCORE, "spearman"), (SCORE, "pearson"), (MULTI, "f1"), (MULTI, "accuracy")]
)
def test_other_heads(config, name):
    random = np.random.default_rng(2)
    labels = random.random(150) if config is SCORE else (random.random((150, 3)) < 0.4).astype(float)
    clean = labels[:, None] if config is SCORE else labels - 0.5
    dense = clean + random.normal(0, 0.3, clean.shape)
    compressed = clean + random.normal(0, 0.9, clean.shape)
    metric = Task(config, None).metric(name)
    interval = paired_bootstrap(metric, dense, compressed, labels, resamples=300)
    assert 0 < interval.low < interval.drop < interval.high
    assert interval.drop == metric(dense, labels) - metric(compressed, labels)


def test_a_metric_of_classes_that_is_no_mean():
    dense, compressed, labels = pair_of_models(np.random.default_rng(3), 300, classes=3, compressed=0.7)
    metric = Task(THREE, None).metric("mcc")
    interval = paired_bootstrap(metric, dense, compressed, labels, resamples=200)
    assert 0 < interval.low < interval.drop < interval.high
    assert interval.drop == metric(dense, labels) - metric(compressed, labels)


@pytest.mark.filterwarnings("error")
def test_resamples_in_which_a_metric_is_undefined_count_as_0():
    labels = np.array([0.0, 0.0, 1.0])
    interval = paired_bootstrap(Task(SCORE, None).metric(), labels, np.zeros(3), labels, resamples=100)
    assert interval == Interval(100.0, 0.0, 100.0)  # some resamples hold one label only
    decided = logits_of([0, 0, 1])
    interval = paired_bootstrap(Task(TWO, None).metric("mcc"), decided, decided[:, ::-1], [0, 0, 1], resamples=100)
    assert interval == Interval(200.0, 0.0, 200.0)


@pytest.mark.parametrize("name", ["accuracy", "f1_macro"])
def test_the_same_seed_gives_the_same_interval(name):
    sample = pair_of_models(np.random.default_rng(4), 200, compressed=0.8)
    metric = Task(TWO, None).metric(name)
    first, again, other = (paired_bootstrap(metric, *sample, resamples=100, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert first.drop == other.drop
    assert first != other


def test_more_confidence_is_a_wider_interval():
    sample = pair_of_models(np.random.default_rng(4), 500, compressed=0.85)
    wide, narrow = (paired_bootstrap(Task(TWO, None).metric(), *sample, confidence=c) for c in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.drop < narrow.high < wide.high


def test_accuracy_on_25000_examples_is_quick():
    sample = pair_of_models(np.random.default_rng(4), 25_000)
    start = time.process_time()
    paired_bootstrap(Task(TWO, None).metric(), *sample)
    assert time.process_time() - start < 2.0


def test_a_bootstrap_that_makes_no_sense_is_refused():
    metric = Task(TWO, None).metric()
    sample = pair_of_models(np.random.default_rng(4), 10)
    with pytest.raises(WordelimError, match="confidence of 95"):
        paired_bootstrap(metric, *sample, confidence=95)
    with pytest.raises(WordelimError, match="0 resamples"):
        paired_bootstrap(metric, *sample, resamples=0)
    with pytest.raises(WordelimError, match=r"shape \(9,\), the predictions \(10,\)"):
        paired_bootstrap(metric, sample[0], sample[1], sample[2][:9])


def test_flips_by_hand():
    labels = [0, 0, 1, 1, 2, 2]
    dense = [0, 1, 1, 0, 0, 2]
    compressed = [0, 0, 0, 0, 1, 2]  # kept, fixed, broken, still wrong, wrong otherwise, kept
    assert flips(dense, compressed, labels) == Flips(total=6, changed=3, fixed=1, broken=1)


def test_flips_of_multi_label_count_examples():
    labels = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    dense = np.array([[1, 0], [1, 0], [0, 0]])
    compressed = np.array([[1, 1], [1, 1], [0, 0]])
    assert flips(dense, compressed, labels) == Flips(total=3, changed=2, fixed=1, broken=1)


def test_flips_are_the_drop_in_accuracy():
    dense, compressed, labels = pair_of_models(np.random.default_rng(8), 400, compressed=0.8)
    counted = flips(dense.argmax(1), compressed.argmax(1), labels)
    drop = paired_bootstrap(Task(TWO, None).metric(), dense, compressed, labels, resamples=1).drop
    assert 100 * (counted.broken - counted.fixed) / counted.total == pytest.approx(drop)


def test_scores_have_no_flips():
    assert flips([0.1, 0.2], [0.1, 0.3], [0.0, 0.5]) is None


def test_flips_of_other_shapes_are_refused():
    with pytest.raises(WordelimError, match=r"\(2,\), \(3,\) and \(2,\)"):
        flips([0, 1], [0, 1, 1], [0, 1])
