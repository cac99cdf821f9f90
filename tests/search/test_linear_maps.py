"""Linear maps that are learned of a dense model: what they rank, and what learning them leaves behind."""

import copy

import datasets
import numpy as np
import pytest
import torch

import wordelim
from wordelim import Retention
from wordelim.elimination.significance import by_map, from_text, to_text
from wordelim.elimination.soft_extract import SoftExtract
from wordelim.errors import AnswersError
from wordelim.evaluation.inference import logits_of
from wordelim.graph.soft import soften_
from wordelim.graph.splice import eliminating_encoder
from wordelim.search import significance
from wordelim.search.significance import Seen, linear_maps
from wordelim.tasks import Task, task_for
from wordelim.tasks.divergence import divergence

KEEP = (0.4, 0.2, 0.0)


def sample_of(tokenizer, lengths=(14, 9, 20, 6, 11, 17, 8, 13) * 4):
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(4, 58, (n - 2,), generator=generator).tolist() for n in lengths]
    rows = [[tokenizer.cls_token_id, *row, tokenizer.sep_token_id] for row in rows]
    return datasets.Dataset.from_dict(
        {"input_ids": rows, "attention_mask": [[1] * len(r) for r in rows], "length": [len(r) for r in rows]}
    )


def reversed_maps(maps):
    return tuple(to_text(-from_text([one])[0]) if one else "" for one in maps)


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
def test_the_answer_moves_less_by_what_they_drop_than_by_what_they_keep(make_model, make_tokenizer, family):
    tokenizer, moved = make_tokenizer(family), np.zeros(2)
    for seed in range(16):  # how much less differs from one to the next, and with what the processor trains in
        model = make_model(family, seed=seed)
        task, sample = Task(model.config, tokenizer), sample_of(tokenizer)
        dense = logits_of(model, sample, task)
        maps = linear_maps(model, task, sample, Retention.keep_all(3), seed=seed)
        assert [len(one) > 0 for one in maps] == [True, True, False]  # the last layer keeps the first token alone
        for place, each in enumerate((maps, reversed_maps(maps))):
            wordelim.eliminate_(model, Retention(KEEP, significance=each))
            moved[place] += divergence(dense, logits_of(model, sample, task), task.kind)
    assert moved[0] < 0.8 * moved[1]


def test_rare_answers_stay_where_each_token_is_to_answer(make_model, make_tokenizer):
    model, tokenizer = make_model("bert", head="token", labels=2), make_tokenizer("bert")
    data = datasets.Dataset.from_dict({"tokens": [["good", "film"]], "tags": [[0, 1]]})
    task = task_for(type(model).__name__, model.config, tokenizer, data)
    sample = sample_of(tokenizer)
    said = logits_of(model, sample, task)
    real = np.array([np.arange(said.shape[1]) < n for n in sample["length"]])
    ahead = said[..., 1] - said[..., 0]
    usual = float(np.quantile(ahead[real], 0.8))
    with torch.no_grad():
        model.classifier.bias[1] -= usual
        model.classifier.weight.mul_(10)
        model.classifier.bias.mul_(10)
    rare = ahead > usual  # one in five
    maps = linear_maps(model, task, sample, Retention.keep_all(3))
    assert all(maps)
    seen = {}
    wordelim.eliminate_(model, Retention.keep_all(3))
    encoder = eliminating_encoder(model)
    encoder.layout = "padded"
    encoder.get_submodule("extract_2").register_forward_pre_hook(lambda module, args: seen.update(value=args[2]))
    batch = task.collate([sample[row] for row in range(len(sample))])
    with torch.no_grad():
        model(**batch)
    shares = by_map(seen["value"], from_text(maps)[2], batch["attention_mask"].bool()).numpy()
    relative = shares * real.sum(1, keepdims=True)
    assert relative[real & rare].mean() > 1.5 * relative[real & ~rare].mean()


def test_what_is_missed_is_the_slope_of_the_answer(make_model, make_tokenizer):
    model, tokenizer = make_model("bert").double(), make_tokenizer("bert")
    task, sample = Task(model.config, tokenizer), sample_of(tokenizer, (9,))
    batch = task.collate([sample[0]])
    noted = significance._Gradients(model, soften_(model))
    missed = [layer.missed[0] for layer in noted.run(task, batch)]
    retention = eliminating_encoder(model).get_submodule("soft_retention")
    extracts = [module for module in model.modules() if isinstance(module, SoftExtract)]

    def ahead(layer, token, weight):
        def factor(index, rank, lengths, protected=None):
            factors = torch.ones(rank.shape, dtype=torch.float64)
            factors[0, token] = weight if index == layer else 1.0
            return factors

        retention.factor = factor
        with torch.no_grad():
            said = model(**batch).logits[0]
        return float(said.max() - said.mean())

    for layer in range(len(extracts)):
        for token in range(9):
            slope = (ahead(layer, token, 1.0) - ahead(layer, token, 1 - 1e-4)) / 1e-4
            assert float(missed[layer][token]) == pytest.approx(abs(slope), rel=0.1, abs=5e-3)


def test_a_map_is_found_again():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(12, generator=generator)
    seen = []
    for _ in range(8):
        vectors = torch.randn(4, 10, 12, generator=generator) * torch.linspace(0.1, 3, 12)
        missed = (vectors @ truth).exp()
        missed[:, 8:] = -1.0  # padding, which may hold anything
        vectors[:, 8:] = 1e3
        seen.append(Seen(vectors, missed))
    found = significance._ranking(seen, generator)
    fresh = torch.randn(200, 12, generator=generator) * torch.linspace(0.1, 3, 12)
    ranks = [(fresh @ each).argsort().argsort().double() for each in (truth, found)]
    assert float(torch.corrcoef(torch.stack(ranks))[0, 1]) > 0.95


@pytest.mark.parametrize("head", ["sequence", "token"])
def test_the_model_is_as_it_was(make_model, make_tokenizer, head):
    model, tokenizer = make_model("bert", head=head), make_tokenizer("bert")
    task = task_for(
        type(model).__name__,
        model.config,
        tokenizer,
        datasets.Dataset.from_dict({"tokens": [["a"]], "tags": [[0]], "text": ["a"], "label": [0]}),
    )
    model.train()
    model.bert.embeddings.requires_grad_(False)
    before, shares = copy.deepcopy(model.state_dict()), []
    options = {"progress": shares.append}
    first = linear_maps(model, task, sample_of(tokenizer), Retention((0.5, 0.3, 0.1)), **options)  # whatever it keeps
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert first == linear_maps(model, task, sample_of(tokenizer), Retention.keep_all(3))
    assert first != linear_maps(model, task, sample_of(tokenizer), Retention.keep_all(3), seed=1)
    assert model.training
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        name for name, _ in model.named_parameters() if name.startswith("bert.embeddings")
    }
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_what_never_varies_says_nothing(make_model, make_tokenizer):
    model, tokenizer = make_model("bert"), make_tokenizer("bert")
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.self.value.weight[5] = 0.0
    task = Task(model.config, tokenizer)
    maps = from_text(linear_maps(model, task, sample_of(tokenizer), Retention.keep_all(3)))
    assert maps.isfinite().all()
    assert maps[:2, 5].tolist() == [0.0, 0.0]
    alone = linear_maps(model, task, sample_of(tokenizer, (2,)), Retention.keep_all(3))
    assert from_text(alone).isfinite().all()


def test_maps_keep_their_bits_whatever_the_model_is_cast_to(make_model, make_batch, random_maps):
    model = wordelim.eliminate_(make_model("bert"), Retention(KEEP, significance=random_maps(3)))
    batch = make_batch(model, [25, 20, 9])
    with torch.inference_mode():
        before = model(**batch).logits
        model.bfloat16()
        assert eliminating_encoder(model).get_submodule("enter").maps.dtype == torch.float32
        copied = copy.deepcopy(model)
        torch.testing.assert_close(model(**batch).logits, copied(**batch).logits, rtol=0, atol=0)
        model.float()
    assert before.shape == (3, 3)


def test_a_call_goes_by_the_maps_that_held_when_it_began(make_model, make_batch, random_maps):
    first, later = (Retention((0.6, 0.3, 0.0), significance=random_maps(3, seed)) for seed in (1, 2))
    model = wordelim.eliminate_(make_model("bert"), first)
    batch = make_batch(model, [25, 20, 9])

    def answer(retention):
        with torch.inference_mode():
            return wordelim.eliminate_(model, retention)(**batch).logits

    expected, others = answer(first), answer(later)
    assert (expected - others).abs().max() > 1e-3
    wordelim.eliminate_(model, first)
    hook = (
        eliminating_encoder(model)
        .get_submodule("extract_0")
        .register_forward_pre_hook(lambda *_: wordelim.eliminate_(model, later) and None)
    )
    with torch.inference_mode():
        found = model(**batch).logits
    hook.remove()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_steep_maps_rank_as_flat_ones(make_model, make_batch, random_maps):
    model, flat = make_model("bert"), random_maps(3)
    steep = tuple(to_text(500 * from_text([one])[0]) for one in flat)
    answers = []
    for maps in (flat, steep):
        wordelim.eliminate_(model, Retention((0.5, 0.5, 0.0), significance=maps))
        with torch.inference_mode():
            answers.append(model(**make_batch(model, [30, 22])).logits)
    torch.testing.assert_close(*answers, rtol=0, atol=1e-5)


def test_a_model_that_answers_with_nan_ranks_nothing(make_model, make_tokenizer):
    model, tokenizer = make_model("bert"), make_tokenizer("bert")
    sample = sample_of(tokenizer)
    with torch.no_grad():
        model.get_input_embeddings().weight[sample[20]["input_ids"][1]] = torch.nan
    with pytest.raises(AnswersError, match="The dense model answers with NaN or infinity to a text that words are"):
        linear_maps(model, Task(model.config, tokenizer), sample, Retention.keep_all(3))
    assert type(model.base_model.encoder).__name__ == "BertEncoder"
    assert all(weight.requires_grad for weight in model.parameters())


def test_gradients_of_a_few_texts_at_a_time_say_the_same(make_model, make_tokenizer, monkeypatch):
    model, tokenizer = make_model("bert"), make_tokenizer("bert")
    task, sample = Task(model.config, tokenizer), sample_of(tokenizer)
    monkeypatch.setattr(significance, "has_fast_bf16", lambda device: False)  # whose rounding depends on the batch
    whole = linear_maps(model, task, sample, Retention.keep_all(3))
    monkeypatch.setattr(significance, "_TOKENS", 50)
    parts = linear_maps(model, task, sample, Retention.keep_all(3))
    assert all(map(len, whole[:2]))
    for one, other in zip(whole[:2], parts[:2], strict=True):
        torch.testing.assert_close(from_text([other]), from_text([one]), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("answers", [(), (3,)])
def test_of_long_texts_some_rows_are_drawn_real_ones_first(monkeypatch, answers):
    monkeypatch.setattr(significance, "_ROWS", 4)
    real = torch.tensor([[True] * 9, [True] * 2 + [False] * 7])
    numbers = torch.arange(18.0).view(2, 9)
    missed = numbers.masked_fill(~real, -1.0)
    given = Seen(numbers[..., None], missed if not answers else missed[..., None].expand(2, 9, *answers))
    few = given.few(torch.Generator().manual_seed(0))
    assert few.vectors.shape == (2, 4, 1)
    assert few.missed.shape == (2, 4, *answers)
    kept = few.missed if not answers else few.missed[..., 0]
    assert torch.equal(few.vectors[kept >= 0][:, 0], kept[kept >= 0])  # each row with what it is missed by
    assert (kept[0] >= 0).all()
    assert len(set(kept[0].tolist())) == 4
    assert sorted(kept[1].tolist()) == [-1.0, -1.0, 9.0, 10.0]
    monkeypatch.setattr(significance, "_ROWS", 9)
    assert given.few(torch.Generator()) is given
