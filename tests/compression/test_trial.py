"""What a model is said to lose while it is tried out."""

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from transformers import BertConfig

from wordelim import Retention, Settings
from wordelim.compression.job import Log
from wordelim.compression.trial import Trial
from wordelim.evaluation.smoothed import smoothed_bound
from wordelim.evaluation.statistics import paired_bootstrap
from wordelim.search.method import Candidate
from wordelim.tasks import Task

SLOW, MIDDLE, FAST = CANDIDATES = tuple(Candidate(Retention((1 / ratio,)), ratio, 0.1) for ratio in (1.5, 2.0, 3.0))
NAMES = {SLOW: "slow", MIDDLE: "middle", FAST: "fast"}
SHAKEN = {"slow": 0.2, "middle": 0.4, "fast": 0.9}


class Told(Trial):
    """A trial of models whose logits are known: a dense one's, and one's for each candidate."""

    def __init__(self, config, labels, metric=None, **logits):
        task = Task(config, None)
        job = SimpleNamespace(
            settings=Settings(max_drop=1.0),
            ready=SimpleNamespace(
                task=task,
                metric=task.metric(metric),
                cost=SimpleNamespace(ratio=lambda texts, retention: 1 / retention.keep[0]),
            ),
            screen=Dataset.from_dict({"labels": labels}),
            texts={"validation": ()},
            teacher="dense",
            model=SimpleNamespace(device="cpu"),
            logits=lambda model, texts, bf16: logits["dense" if model == "dense" else self.kept],
        )
        super().__init__(job, Log())
        self.logits = logits

    def _both(self, candidate, *, exact):
        self.kept = NAMES[candidate]
        return super()._both(candidate, exact=exact)


@pytest.fixture(autouse=True)
def nothing_is_rewritten(monkeypatch):
    monkeypatch.setattr("wordelim.compression.trial.eliminate_", lambda model, retention: None)
    monkeypatch.setattr("wordelim.compression.trial.has_fast_bf16", lambda device: False)


def told(metric=None):
    """A trial of classifiers, the less like the dense one the faster they are."""
    random = np.random.default_rng(0)
    labels = random.integers(2, size=200)
    dense = np.eye(2)[labels] + 0.4 * random.normal(size=(200, 2))
    faster = {name: dense + noise * random.normal(size=dense.shape) for name, noise in SHAKEN.items()}
    return Told(BertConfig(num_labels=2), labels, metric, dense=dense, **faster)


@pytest.mark.parametrize("metric", ["accuracy", "mcc"])
def test_what_a_classifier_may_lose_is_bounded_by_its_logits_too(metric):
    trial = told(metric=metric)
    lost, judged = trial.lost(FAST), trial.job.ready.metric
    truth = np.asarray(trial.job.screen["labels"])
    given = judged, trial.logits["dense"], trial.logits["fast"], truth
    assert lost.drop == pytest.approx(judged(given[1], truth) - judged(given[2], truth))
    assert lost.bound == pytest.approx(max(lost.drop, smoothed_bound(*given, confidence=0.8)))
    assert lost.bound != pytest.approx(paired_bootstrap(*given, confidence=0.6).high)


def test_with_a_confidence_of_a_half_what_is_measured_is_what_counts():
    trial = told()
    trial.job.settings = Settings(max_drop=1.0, confidence=0.5)
    lost = trial.lost(FAST)
    assert lost.bound == lost.drop


def test_what_scores_may_lose_is_bounded_by_drawing_texts():
    config = BertConfig(num_labels=1)
    random = np.random.default_rng(0)
    labels = random.normal(size=200)
    noisy = {name: labels[:, None] + random.normal(size=(200, 1)) for name in SHAKEN}
    trial = Told(config, labels, dense=labels[:, None] + 0.1 * random.normal(size=(200, 1)), **noisy)
    given = trial.job.ready.metric, trial.logits["dense"], trial.logits["slow"], labels
    assert trial.lost(SLOW).bound == pytest.approx(paired_bootstrap(*given, confidence=0.6).high)


def test_so_is_what_a_metric_of_the_users_own_says():
    def share(prediction):
        return {"share": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}

    trial = told(metric=share)
    truth = np.asarray(trial.job.screen["labels"])
    given = trial.job.ready.metric, trial.logits["dense"], trial.logits["fast"], truth
    assert trial.lost(FAST).bound == pytest.approx(paired_bootstrap(*given, confidence=0.6).high)


@pytest.mark.parametrize(("wrong", "named"), [(1, 2.0), (4, 1.5)])
def test_a_report_names_the_fastest_that_does_as_measured(wrong, named):
    """Though nothing faster than the slowest has been looked at before; a point is two texts."""
    labels = np.arange(200) % 2
    answers = {name: np.eye(2)[labels] for name in SHAKEN}
    for name, count in {"middle": wrong, "fast": 10}.items():
        answers[name][:count] = answers[name][:count, ::-1]
    trial = Told(BertConfig(num_labels=2), labels, dense=np.eye(2)[labels], **answers)
    report = trial.choice(SLOW, CANDIDATES)
    assert report["fastest_as_measured"]["flops_ratio"] == named
    assert report["drop"] == 0
