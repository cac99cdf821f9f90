"""What the host says of a batch, against the retention's own counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wordelim import Retention
from wordelim.elimination.card.plan import BLOCK, Bucket, numbers, parts, stages

LAYERS = 4
LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=40)


def planned(retention, lengths, guarded=None, width=None):
    bucket = Bucket.of(lengths, guarded)
    array = numbers(retention, bucket, lengths, guarded, width)
    return bucket, array, parts(array, bucket, len(retention.keep))


@given(data=st.data(), lengths=LENGTHS, by_token=st.booleans())
def test_counts_are_those_of_the_retention_and_fit_into_the_buffers(retentions, data, lengths, by_token):
    retention = data.draw(retentions(LAYERS))
    guarded = [data.draw(st.integers(0, length)) for length in lengths] if by_token else None
    bucket, array, found = planned(retention, lengths, guarded)
    assert array.dtype == np.int32
    for place, stage in enumerate(stages(retention, bucket)):
        for text, length in enumerate(lengths):
            path = (length, *retention.path(length, guarded[text] if guarded else 0))
            kept, rows = found.kept[place][text], found.ends[place][text + 1] - found.ends[place][text]
            assert kept == path[place]
            assert rows == kept + (retention.package and kept < length)
            assert rows <= stage.longest
            assert stage.dropped or place == 0 or kept == path[place - 1]
        assert found.ends[place][0] == 0
        assert found.ends[place][-1] <= stage.rows <= bucket.tokens
        assert (found.ends[place][len(lengths) :] == found.ends[place][len(lengths)]).all()
        assert not found.kept[place][len(lengths) :].any()
    assert np.diff(found.ends[-1]).tolist() == [1] * len(lengths) + [0] * (bucket.texts - len(lengths))


@given(lengths=LENGTHS)
def test_a_bucket_holds_its_batch_with_little_waste(lengths):
    bucket = Bucket.of(lengths)
    for exact, rounded in ((len(lengths), bucket.texts), (sum(lengths), bucket.tokens)):
        assert exact <= rounded < exact * 9 / 8 + 1
    assert bucket.longest % BLOCK == 0
    assert 0 <= bucket.longest - max(lengths) < BLOCK


def test_there_are_few_buckets():
    assert len({Bucket.of([1] * texts).texts for texts in range(64, 129)}) == 9
    assert Bucket.of([512] * 128) == (128, 65536, 512, 0)  # nothing is wasted where all is even


@pytest.mark.parametrize("width", [None, 7])
def test_rows_are_found_where_they_entered(width):
    lengths = [3, 1, 7]
    _, _, found = planned(Retention.fractions([0.5, 0.0]), lengths, width=width)
    places = list(range(11)) if width is None else [0, 1, 2, 7, *range(14, 21)]
    assert found.source[:11].tolist() == places
    assert not found.source[11:].any()


def test_a_layer_that_drops_nothing_is_known_beforehand():
    bucket = Bucket.of([64, 64])
    found = stages(Retention.fractions([1.0, 0.5, 0.5, 0.0]), bucket)
    assert [stage.dropped for stage in found] == [False, False, True, False]
    assert [stage.rows for stage in found] == [128, 128, 64, 64]
    assert [stage.dropped for stage in stages(Retention.counts([64, 63, 1]), bucket)] == [False, False, True]
