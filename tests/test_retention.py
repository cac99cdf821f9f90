"""Retention: what it refuses, how it counts, and its way to JSON and back."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import wordelim
from wordelim import Retention
from wordelim.elimination.significance import to_text
from wordelim.errors import RetentionError, WordelimError


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Retention(()), r"keep is \(\)"),
        (lambda: Retention("0.5"), r"keep is '0\.5'"),
        (lambda: Retention(0.5), r"keep is 0\.5"),
        (lambda: Retention(None), "keep is None"),
        (lambda: Retention((0.5, "a")), r"keep\[1\] = 'a' is not a number"),
        (lambda: Retention((0.5, None)), r"keep\[1\] = None is not a number"),
        (lambda: Retention((True,)), r"keep\[0\] = True is not a number"),
        (lambda: Retention((math.nan,)), r"keep\[0\] = nan is not a number"),
        (lambda: Retention((math.inf,), "count"), r"keep\[0\] = inf is not a number"),
        (lambda: Retention((1.5,)), r"keep\[0\] = 1\.5 is outside 0\.\.1"),
        (lambda: Retention((0.5, -0.1)), r"keep\[1\] = -0\.1 is outside 0\.\.1"),
        (lambda: Retention((0.5, 0.6)), r"keep\[1\] = 0\.6 is more than keep\[0\] = 0\.5"),
        (lambda: Retention((3, 5), "count"), r"keep\[1\] = 5 is more than keep\[0\] = 3"),
        (lambda: Retention((2.5,), "count"), r"keep\[0\] = 2\.5 is not a whole number"),
        (lambda: Retention((-1,), "count"), r"keep\[0\] = -1 is not a whole number"),
        (lambda: Retention((0.5,), "share"), "kind 'share' is unknown"),
        (lambda: Retention((0.5,), min_tokens=0), "min_tokens is 0"),
        (lambda: Retention((0.5,), min_tokens=1.5), r"min_tokens is 1\.5"),
        (lambda: Retention((0.5,), min_tokens=True), "min_tokens is True"),
        (lambda: Retention((0.5,), min_tokens="2"), "min_tokens is '2'"),
        (lambda: Retention((0.5,), protect="first"), "protect is 'first'"),
        (lambda: Retention((0.5,), protect=()), r"protect is \[\].*add 'first'"),
        (lambda: Retention((0.5,), protect=("last",)), r"protect is \['last'\].*add 'first'"),
        (lambda: Retention((0.5,), protect=("first", "last")), "protect rule 'last' is unknown"),
        (lambda: Retention((0.5,), protect=("first:0",)), "protect rule 'first:0' is unknown"),
        (lambda: Retention((0.5,), protect=("first:",)), "protect rule 'first:' is unknown"),
        (lambda: Retention((0.5,), protect=("first:x",)), "protect rule 'first:x' is unknown"),
        (lambda: Retention((0.5,), protect=("first:²",)), "protect rule 'first:²' is unknown"),
        (lambda: Retention((0.5,), protect=(1,)), r"protect is \(1,\)"),
        (lambda: Retention((0.5,), protect=None), "protect is None"),
        (lambda: Retention((0.5,), protect=3), "protect is 3"),
        (lambda: Retention((0.5,), restore="yes"), "restore is 'yes'"),
        (lambda: Retention((0.5,), version=3), "version 3 is unknown.*upgrade"),
        (lambda: Retention((10**400,)), r"keep\[0\] = 1000.* is outside"),
    ],
)
def test_what_is_refused_names_the_value(make, named):
    with pytest.raises(RetentionError, match=named) as caught:
        make()
    assert isinstance(caught.value, (WordelimError, ValueError))
    assert "\n" not in str(caught.value)


def test_what_is_accepted_is_normalised():
    assert Retention([1, 0.5]).keep == (1.0, 0.5)
    assert all(isinstance(value, float) for value in Retention((1, 0)).keep)
    assert all(isinstance(value, int) for value in Retention((4.0, 2.0), "count").keep)
    assert Retention.fractions(np.array([1.0, 0.5])).keep == (1.0, 0.5)
    assert Retention.fractions(x / 2 for x in (2, 1)) == Retention((1.0, 0.5))
    assert Retention.counts([4, 2]) == Retention((4, 2), "count")
    assert Retention.keep_all(3).keep == (1.0, 1.0, 1.0)
    assert Retention((0.5,), protect=["first"]) == Retention((0.5,))
    assert len({Retention((0.5,)), Retention([0.5])}) == 1


@pytest.mark.parametrize(
    ("fraction", "length", "count"),
    [
        (0.1, 30, 3),
        (0.07, 100, 7),  # 7.000000000000001 in floating point
        (0.55, 100, 55),  # 55.00000000000001
        (0.7, 10, 7),
        (0.29, 100, 29),
        (0.1, 31, 4),
        (0.5, 7, 4),
        (0.0, 50, 1),
        (1.0, 50, 50),
        (0.999, 50, 50),
        (0.01, 5, 1),
        (1e-12, 5, 1),
    ],
)
def test_a_fraction_of_the_length_is_rounded_up(fraction, length, count):
    assert Retention((fraction,)).count(0, length, length) == count


@given(per_mille=st.integers(0, 1000), length=st.integers(1, 1000))
def test_rounding_is_that_of_exact_arithmetic(per_mille, length):
    assert Retention((per_mille / 1000,)).count(0, length, length) == max(1, -(-per_mille * length // 1000))


def test_never_less_than_min_tokens_and_what_is_protected_nor_more_than_entered():
    retention = Retention((0.5, 0.0, 0.0), min_tokens=3, protect=("first:2",))
    assert retention.path(20) == (10, 3, 3)
    assert retention.path(4) == (3, 3, 3)
    assert retention.path(2) == (2, 2, 2)
    assert retention.path(1) == (1, 1, 1)
    assert Retention((0.0,), protect=("first:4",)).path(10) == (4,)
    assert Retention((0.0,), protect=("first", "first:4")).protected_first == 4
    assert Retention.counts([8, 2, 0]).path(5) == (5, 2, 1)
    assert retention.count(1, 20, 2) == 2
    assert Retention.counts([10**400]).path(7) == (7,)


def test_tokens_are_summed_over_texts():
    retention = Retention((0.5, 0.25))
    assert retention.tokens([10, 4, 1]) == (5 + 2 + 1, 3 + 1 + 1)
    assert retention.tokens(iter([10])) == (5, 3)
    assert retention.tokens([]) == (0, 0)


@given(data=st.data(), lengths=st.lists(st.integers(1, 200), max_size=6))
def test_tokens_are_the_sum_of_paths(retentions, data, lengths):
    retention = data.draw(retentions(4))
    assert retention.tokens(lengths) == tuple(sum(retention.path(n)[j] for n in lengths) for j in range(4))


def test_layers_are_counted():
    Retention((0.5, 0.25)).check_layers(2)
    with pytest.raises(RetentionError, match="keep has 2 values, but the model has 3 layers"):
        Retention((0.5, 0.25)).check_layers(3)


@given(data=st.data(), layers=st.integers(1, 6))
def test_json_and_back(retentions, data, layers):
    retention = data.draw(retentions(layers))
    text = retention.to_json()
    assert "\n" not in text
    assert Retention.from_json(text) == retention
    assert Retention.from_json(text).to_json() == text
    assert Retention.from_dict(json.loads(json.dumps(retention.to_dict()))) == retention
    assert [type(value) for value in Retention.from_json(text).keep] == [type(value) for value in retention.keep]


def test_the_file_format_is_written_in_its_order():
    assert Retention((0.5, 0.0)).to_json() == (
        '{"version": 1, "kind": "fraction", "keep": [0.5, 0.0], "min_tokens": 1, "protect": ["first"], '
        '"restore": false}'
    )
    assert json.loads(Retention((4, 1), "count").to_json())["keep"] == [4, 1]


def test_what_is_left_out_has_its_default():
    assert Retention.from_json('{"version": 1, "keep": [0.5]}') == Retention((0.5,))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[0.5]", "is a list, not an object"),
        ("3", "is a int, not an object"),
        ("{}", "'keep' is missing"),
        ('{"keep": [0.5]}', "'version' is missing"),
        ('{"version": 1}', "'keep' is missing"),
        ('{"version": 3, "keep": [0.5]}', "version 3 is unknown"),
        ('{"version": "1", "keep": [0.5]}', "version '1' is unknown"),
        ('{"version": 1, "keep": [0.5], "package": true}', "fields, which are of version 2"),
        ('{"version": null, "keep": [0.5]}', "fields, which are of version 1"),
        ('{"version": 3, "keep": [0.5], "new": 1}', "version 3 is unknown"),
        ('{"version": 1, "keep": [0.5], "kepe": 1}', "'kepe' is unknown"),
        ('{"version": 1, "keep": 0.5}', r"keep is 0\.5"),
        ('{"version": 1, "keep": [NaN]}', r"keep\[0\] = nan"),
        ('{"version": 1, "keep": [1e999], "kind": "count"}', r"keep\[0\] = inf"),
        ('{"version": 1, "keep": {"0": 0.5}}', "keep is {'0': 0.5}"),
        ('{"version": 1, "keep": [0.5], "protect": "first"}', "protect is 'first'"),
        ('{"version": 1, "keep": [0.5], "protect": null}', "protect is None"),
        ('{"version": 1, "keep": [0.5], "min_tokens": null}', "min_tokens is None"),
        ('{"version": 1, "keep": [0.5], "kind": ["fraction"]}', "kind"),
    ],
)
def test_json_that_is_refused_names_what_is_wrong(text, named):
    with pytest.raises(RetentionError, match=named):
        Retention.from_json(text)


def test_a_retention_is_never_changed():
    with pytest.raises(AttributeError):
        Retention((0.5,)).keep = (1.0,)


def test_linear_maps_are_for_one_model(bert):
    maps = tuple(to_text(torch.randn(48)) for _ in range(3))
    before = {name: tensor.clone() for name, tensor in bert.state_dict().items()}
    with pytest.raises(RetentionError, match=r"maps of 48 numbers, but the model's value vectors have 32"):
        wordelim.eliminate_(bert, Retention((0.5, 0.5, 0.0), significance=maps))
    assert before.keys() == bert.state_dict().keys()


@pytest.mark.parametrize(
    ("significance", "message"),
    [
        ("linear", "significance is 'linear': give 'attention', or a linear map for each of 2 layers"),
        (("AAA=",), "give 'attention', or a linear map for each of 2 layers"),
        (("AAA=", "no"), r"significance\[1\] = 'no' is no linear map"),
        (("AAA=", "AHw="), r"significance\[1\] = 'AHw=' is no linear map: give finite"),
        (("AAA=", "AAAAAA=="), r"significance has maps of \[1, 2\] numbers"),
        (("", ""), r"significance has no linear map: give one"),
        (("", "AAA="), r"significance\[0\] is empty, but the layer drops word vectors: give its map"),
        (("AAA=", None), r"significance\[1\] = None is no linear map"),
        ((b"AAA=", ""), r"is no linear map"),
        ((1, 2), r"significance\[0\] = 1 is no linear map"),
    ],
)
def test_maps_that_are_none_are_refused(significance, message):
    with pytest.raises(RetentionError, match=message):
        Retention((0.5, 0.0), significance=significance)


def test_a_report_says_that_there_are_maps_and_no_more():
    assert Retention((0.5, 0.0), significance=("AAA=", "")).told()["significance"] == "linear"
    assert "significance" not in Retention((0.5, 0.0)).told()
