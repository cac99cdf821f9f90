"""What the student is pulled towards."""

import itertools

import pytest
import torch

from wordelim.training.distillation import ByLength, distillation_loss

KINDS = ("single_label_classification", "multi_label_classification", "regression")


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(6, 4), torch.randn(6, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_where_student_and_teacher_agree(kind, logits):
    student = logits[0].requires_grad_()
    loss = distillation_loss(student, logits[0].detach().clone(), kind, 2.0)
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_following_the_gradient_brings_the_student_to_the_teacher(kind, logits):
    student, teacher = logits[0].clone().requires_grad_(), logits[1]
    optimizer = torch.optim.Adam([student], lr=0.1)
    first = distillation_loss(student, teacher, kind, 2.0)
    for _ in range(300):
        optimizer.zero_grad()
        loss = distillation_loss(student, teacher, kind, 2.0)
        loss.backward()
        optimizer.step()
    assert first.item() > 0.1
    assert 0 <= loss.item() + 1e-6 < 0.01 * first.item()


def test_single_label_loss_is_the_divergence_of_the_softened_classes(logits):
    student, teacher = logits
    p, q = (teacher / 3).softmax(-1), (student / 3).softmax(-1)
    expected = 9 * (p * (p / q).log()).sum(-1).mean()
    assert float(distillation_loss(student, teacher, KINDS[0], 3.0)) == pytest.approx(float(expected), rel=1e-5)


def test_multi_label_loss_is_the_divergence_of_each_label(logits):
    student, teacher = logits
    p, q = (teacher / 3).sigmoid(), (student / 3).sigmoid()
    expected = 9 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(-1).mean()
    assert float(distillation_loss(student, teacher, KINDS[1], 3.0)) == pytest.approx(float(expected), rel=1e-4)


def test_regression_ignores_the_temperature(logits):
    assert float(distillation_loss(*logits, "regression", 5.0)) == float((logits[0] - logits[1]).pow(2).mean())


@pytest.mark.parametrize("texts", [3, 8, 400, 403])
def test_batches_are_of_like_length_but_not_sorted(texts):
    lengths = torch.randint(1, 100, (texts,), generator=torch.Generator().manual_seed(0)).tolist()
    order = list(ByLength(8, lengths, seed=1, epoch=lambda: 0))
    assert sorted(order) == list(range(texts))
    batches = [[lengths[index] for index in order[start : start + 8]] for start in range(0, texts, 8)]
    assert max(batches[0]) == max(lengths)
    if texts >= 400:
        spread = sum(max(batch) - min(batch) for batch in batches) / len(batches)
        assert spread < 0.3 * (max(lengths) - min(lengths))
        longest = [max(batch) for batch in batches]
        rises = sum(after > before for before, after in itertools.pairwise(longest))
        assert 0.35 < rises / len(longest) < 0.65


def test_the_order_of_batches_depends_on_seed_and_epoch_alone():
    lengths = list(range(1, 101))
    epoch = 0
    sampler = ByLength(8, lengths, seed=1, epoch=lambda: epoch)
    first, again = list(sampler), list(sampler)
    epoch = 1
    assert first == again == list(ByLength(8, lengths, seed=1, epoch=lambda: 0))
    assert list(sampler) != first
    assert list(ByLength(8, lengths, seed=2, epoch=lambda: 0)) != first
