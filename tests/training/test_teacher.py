"""What a teacher noted is what it would say of each batch, for every kind of head."""

import pytest
import torch

from tests.tasks.test_tasks import HEADS
from wordelim.tasks import task_for
from wordelim.training import teacher as module
from wordelim.training.teacher import ROW, Teacher


@pytest.fixture(params=[*HEADS, "classes"])
def taught(request, make_model, make_tokenizer, make_texts):
    """A teacher, and encoded texts."""
    options, rows, _ = HEADS.get(request.param, ({"labels": 3}, make_texts, None))
    tokenizer, data = make_tokenizer("bert"), rows(12)
    model = make_model("bert", **options)
    task = task_for(type(model).__name__, model.config, tokenizer, data)
    return Teacher(model.eval(), task), task.encode(data, task.find_columns(data)).dataset


def batch_of(teacher, texts, rows):
    inputs = teacher.task.collate([texts[row] for row in rows])
    known = {name: values for name, values in inputs.items() if name not in teacher.task.targets}
    return known, known | {ROW: torch.tensor(rows)}


def test_what_was_noted_is_what_is_said(taught, monkeypatch):
    monkeypatch.setattr(module, "has_fast_bf16", lambda device: False)
    teacher, texts = taught
    live = [teacher(batch_of(teacher, texts, rows)[0]) for rows in ([3, 0, 11], [7])]
    noted = teacher.note(texts)
    assert noted[ROW] == list(range(12))
    calls = []
    hook = teacher.model.register_forward_hook(lambda *given: calls.append(given))
    found = [teacher(batch_of(teacher, texts, rows)[1]) for rows in ([3, 0, 11], [7])]
    hook.remove()
    assert not calls
    for rows, said, mine in zip(([3, 0, 11], [7]), live, found, strict=True):
        real = batch_of(teacher, texts, rows)[0]["attention_mask"].bool()
        by_token = said.logits.dim() == 3
        assert mine.logits.shape == said.logits.shape
        torch.testing.assert_close(*((each.logits[real] if by_token else each.logits) for each in (mine, said)))
        torch.testing.assert_close(mine.state, said.state)


def test_what_is_too_large_is_asked_when_it_is_met(taught, monkeypatch):
    teacher, texts = taught
    monkeypatch.setattr(module, "_MOST", 100)
    assert teacher.note(texts) is texts
    known, _ = batch_of(teacher, texts, [1, 2])
    assert teacher(known).logits.isfinite().any()
