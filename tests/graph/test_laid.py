"""Texts that lie one behind the other are answered as in a padded batch."""

import pytest
import torch

from wordelim import Retention, eliminate_
from wordelim.errors import UnsupportedModelError
from wordelim.graph.laid import call_laid

LENGTHS = [5, 17, 1, 9, 17, 30, 5]
KEEP = [0.7, 0.4, 0.2]


@pytest.fixture
def same(make_batch):
    """``same(model, types=False)``: assert that a model's first output is the same for texts that lie so."""

    def check(model, *, types=False):
        batch = make_batch(model, LENGTHS)
        ids = torch.cat([row[:length] for row, length in zip(batch["input_ids"], LENGTHS, strict=True)])
        kinds = None
        if types:
            batch["token_type_ids"] = torch.arange(max(LENGTHS)).expand(len(LENGTHS), -1) // 3 % 2
            kinds = torch.cat([torch.arange(length) // 3 % 2 for length in LENGTHS])
        with torch.inference_mode():
            (expected, *_), (found, *_) = (model(**batch).to_tuple(), call_laid(model, ids, LENGTHS, kinds).to_tuple())
        if expected.dim() == 3:  # of each token
            real = batch["attention_mask"].bool()
            expected, found = expected[real], found[real]
        assert expected.std() > 0
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    return check


@pytest.mark.every_family
@pytest.mark.parametrize("head", ["sequence", "none"])
def test_every_family_answers_the_same(make_model, family, head, same):
    same(eliminate_(make_model(family, head=head), Retention.fractions(KEEP)))


@pytest.mark.parametrize("protect", [("first:3",), ("first", "separators:5", "tokens:7,9-11")])
def test_what_is_protected_stays(bert, same, protect):
    same(eliminate_(bert, Retention.fractions(KEEP, protect=protect)))


@pytest.mark.parametrize("head", ["token", "answer"])
def test_heads_that_read_each_token(make_model, same, head):
    same(eliminate_(make_model("bert", head=head), Retention.fractions(KEEP)))


def test_token_types_maps_and_a_mean(make_model, random_maps, same):
    same(eliminate_(make_model("bert"), Retention.fractions(KEEP)), types=True)
    same(eliminate_(make_model("bert"), Retention.fractions(KEEP, package=True, significance=random_maps(3))))
    same(eliminate_(make_model("bert", head="none"), Retention.fractions(KEEP, restore="mean")), types=True)
    same(eliminate_(make_model("modernbert", classifier_pooling="mean"), Retention.fractions(KEEP)))


def test_lengths_that_arent_the_tokens_are_refused(bert):
    ids = torch.full((7,), 5)
    with pytest.raises(UnsupportedModelError, match="isn't compressed"):
        call_laid(bert, ids, [7])
    eliminate_(bert, Retention.fractions(KEEP))
    for lengths in ([3, 3], [7, 0], []):
        with pytest.raises(UnsupportedModelError, match="7 tokens can't be"):
            call_laid(bert, ids, lengths)
    padded = bert(input_ids=ids[None])  # and what is called next lies as ever
    torch.testing.assert_close(call_laid(bert, ids, [7]).logits, padded.logits, atol=1e-5, rtol=1e-5)
