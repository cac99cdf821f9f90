"""What the student is pulled towards."""

import pytest
import torch

from wordelim.training.distillation import distillation_loss

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
