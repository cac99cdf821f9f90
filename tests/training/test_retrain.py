"""Retraining on tiny models: what is trained, what is kept, what is left behind."""

import random
import signal
from collections import Counter

import numpy as np
import pytest
import torch
from transformers.utils import logging

import wordelim.training.distillation as distillation
from wordelim import Retention, eliminate_, restore_, retention_of
from wordelim.data.columns import find_columns
from wordelim.data.encode import encode
from wordelim.errors import TrainingError
from wordelim.evaluation.inference import logits_of
from wordelim.tasks import Task
from wordelim.training.fit import Fit
from wordelim.training.retrain import retrain_
from wordelim.training.teacher import Teacher

SOME = Retention.fractions([0.7, 0.4, 0.0])
OTHERS = (SOME, Retention.fractions([0.9, 0.8, 0.0]), Retention.fractions([0.3, 0.2, 0.0]))


@pytest.fixture(scope="module")
def bert_tokenizer(make_tokenizer):
    return make_tokenizer("bert")


@pytest.fixture
def teacher(make_model):
    return make_model("bert", labels=2).requires_grad_(False)


@pytest.fixture
def student(make_model):
    return make_model("bert", labels=2)


@pytest.fixture(scope="module")
def task(make_model, bert_tokenizer):
    return Task(make_model("bert", labels=2).config, bert_tokenizer)


@pytest.fixture(scope="module")
def encoded(make_model, make_texts, bert_tokenizer):
    """``encoded(rows, seed=0)``: texts that are ready for a model."""
    config = make_model("bert", labels=2).config

    def make(rows, seed=0):
        texts = make_texts(rows, seed)
        return encode(texts, bert_tokenizer, find_columns(texts), config).dataset

    return make


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unequal(state, other):
    return [name for name, tensor in state.items() if not torch.equal(tensor, other[name])]


def test_the_student_learns_and_the_teacher_does_not(student, teacher, task, encoded):
    eliminate_(student, SOME)
    before, dense = weights(student), weights(teacher)
    history = retrain_(student, Teacher(teacher, task), task, encoded(32), [SOME], Fit(batch_size=8))
    assert retention_of(student) == SOME
    assert not student.training
    assert set(unequal(before, weights(student))) > {"classifier.weight", "bert.encoder.layer.0.output.dense.weight"}
    assert unequal(dense, weights(teacher)) == []
    assert all(np.isfinite(entry["loss"]) for entry in history if "loss" in entry)


def test_all_is_trained_but_the_words_without_dropout_and_padded(student, teacher, task, encoded, monkeypatch):
    encoder, seen = eliminate_(student, SOME).base_model.encoder, set()

    def watching(*args):
        modes = {module.training for module in student.modules()}
        seen.add((encoder.layout, student.get_input_embeddings().weight.requires_grad, *modes))
        return loss(*args)

    loss = distillation.distillation_loss
    monkeypatch.setattr(distillation, "distillation_loss", watching)
    before = weights(student)
    retrain_(student, Teacher(teacher, task), task, encoded(32), [SOME], Fit(batch_size=8))
    after = student.state_dict()
    assert {name for name in before if torch.equal(before[name], after[name])} == {
        "bert.embeddings.word_embeddings.weight"
    }
    assert seen == {("padded", False, False)}
    assert encoder.layout == "auto"
    assert all(weight.requires_grad for weight in student.parameters())


def test_what_does_not_say_which_its_words_are_is_trained(student, teacher, task, encoded, monkeypatch):
    def unknown():
        raise NotImplementedError

    monkeypatch.setattr(student, "get_input_embeddings", unknown)
    before = weights(student)
    retrain_(student, Teacher(teacher, task), task, encoded(32), [SOME], Fit(batch_size=8))
    assert not any(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())


def test_nothing_else_is_left_behind(student, teacher, task, encoded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    logging.set_verbosity_warning()
    config = student.config.to_dict()
    attributes = [set(vars(model)) for model in (student, teacher)]
    retrain_(student, Teacher(teacher, task), task, encoded(16), [SOME], Fit(batch_size=8))
    assert logging.get_verbosity() == logging.WARNING
    assert list(tmp_path.iterdir()) == []
    assert all(parameter.grad is None for parameter in student.parameters())
    for model in (student, teacher):
        assert not model.base_model._forward_hooks
    restore_(student)
    assert [set(vars(model)) for model in (student, teacher)] == attributes
    assert student.config.to_dict() == config


def test_each_of_several_retentions_is_trained(student, teacher, task, encoded, monkeypatch):
    seen = Counter()

    class Note(distillation.DistillationTrainer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            seen[retention_of(self.compressed)] += 1
            return loss

    monkeypatch.setattr("wordelim.training.retrain.DistillationTrainer", Note)
    retrain_(student, Teacher(teacher, task), task, encoded(64), OTHERS, Fit(batch_size=4, epochs=1.5))
    assert set(seen) == set(OTHERS)
    assert sum(seen.values()) == 24
    assert min(seen.values()) >= 3


def test_distillation_pulls_the_student_to_the_teacher(student, make_model, task, encoded):
    teacher, train = make_model("bert", labels=2, seed=1).requires_grad_(False), encoded(48)
    target = logits_of(teacher, train, task)
    eliminate_(student, SOME)

    def distance():
        return np.square(logits_of(student, train, task) - target).mean()

    before = distance()
    settings = Fit(batch_size=8, epochs=6, learning_rate=1e-3)
    retrain_(student, Teacher(teacher, task), task, train, [SOME], settings)
    assert distance() < 0.7 * before


def test_a_loss_that_is_not_a_number_is_named_with_its_step(student, teacher, task, encoded, monkeypatch):
    real, calls = distillation.distillation_loss, []

    def broken(*args):
        calls.append(args)
        return real(*args) * (float("nan") if len(calls) == 3 else 1)

    monkeypatch.setattr(distillation, "distillation_loss", broken)
    with pytest.raises(TrainingError, match="loss became nan at step 2: lower --learning-rate"):
        retrain_(student, Teacher(teacher, task), task, encoded(32), [SOME], Fit(batch_size=4))
    assert not student.base_model._forward_hooks
    assert not teacher.base_model._forward_hooks
    assert "forward" not in vars(student)


def test_weights_that_are_not_numbers_are_noticed(student, teacher, task, encoded):
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        retrain_(student, Teacher(teacher, task), task, encoded(8), [SOME], Fit(batch_size=4, learning_rate=1e40))


def test_same_seed_same_weights(make_model, teacher, task, encoded):
    results = []
    for seed in (1, 1, 2):
        student = make_model("bert", labels=2)
        retrain_(student, Teacher(teacher, task), task, encoded(12), OTHERS, Fit(batch_size=4, seed=seed))
        random.random()
        torch.rand(1)
        results.append(weights(student))
    assert unequal(results[0], results[1]) == []
    assert unequal(results[0], results[2]) != []


def test_progress_rises_to_one(student, teacher, task, encoded):
    shares = []
    retrain_(student, Teacher(teacher, task), task, encoded(16), [SOME], Fit(batch_size=4), progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_an_equal_teacher_has_nothing_to_teach(make_model, task, encoded, monkeypatch):
    """Where nothing is dropped, no word vector and no activation, the distillation starts at 0."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    student, teacher = make_model("bert", labels=2, **still), make_model("bert", labels=2, **still)
    losses, real = [], distillation.distillation_loss

    def note(*args):
        losses.append(real(*args).item())
        return real(*args)

    monkeypatch.setattr(distillation, "distillation_loss", note)
    keep_all = [Retention.keep_all(3)]
    retrain_(student, Teacher(teacher.requires_grad_(False), task), task, encoded(4), keep_all, Fit(batch_size=4))
    assert losses == [pytest.approx(0, abs=1e-3)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_that_got_lost_is_made_good(student, teacher, task, encoded):
    """As when it arrives in the finaliser of some library's object, where Python passes over what is raised."""
    steps = []

    class Careless:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def progress(share):
        steps.append(share)
        if len(steps) == 2:
            Careless()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        retrain_(student, Teacher(teacher, task), task, encoded(64), [SOME], Fit(batch_size=4), progress=progress)
    assert len(steps) == 2
    assert signal.getsignal(signal.SIGINT) is before
