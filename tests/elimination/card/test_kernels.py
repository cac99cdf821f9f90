"""The launches of a layer against plain operations in float64, run by Triton's interpreter where there is no card."""

import pytest
import torch

from wordelim import Retention
from wordelim.elimination.card import plain
from wordelim.elimination.card.level import Level
from wordelim.elimination.card.plan import Bucket, numbers, parts, stages

pytest.importorskip("triton", reason="Triton isn't installed: it comes with torch builds for CUDA")

from wordelim.elimination.card import kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SCALING = 0.2


def levels(retention, lengths, guarded=None):
    """In front of each layer and behind it, as the plan says."""
    bucket = Bucket.of(lengths, guarded)
    array = numbers(retention, bucket, lengths, guarded, None)
    found = parts(torch.from_numpy(array).to(DEVICE), bucket, len(retention.keep))
    sizes = [(stage.rows, stage.longest) for stage in stages(retention, bucket)]
    return [Level(*each) for each in zip(found.ends, found.kept, *zip(*sizes, strict=True), strict=False)]


def drawn(level, heads, size, dtype, seed=0):
    """Query, key and value, cut out of one tensor as one product leaves them; NaN behind the last text."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(level.rows, 3 * heads * size, generator=generator)
    values[int(level.ends[-1]) :] = float("nan")
    return values.to(DEVICE, dtype).chunk(3, 1)


def real(level, values):
    return values[: int(level.ends[-1])].double()


@pytest.mark.parametrize(
    ("lengths", "heads", "size", "dtype"),
    [
        ((1, 65, 5), 2, 32, torch.float32),
        ((512, 17), 1, 64, torch.float32),
        ((64, 2, 130), 1, 128, torch.float32),
        ((130, 64, 1), 2, 64, torch.float16),
        ((100, 17), 2, 32, torch.bfloat16),
        ((33, 5), 3, 24, torch.float32),
    ],
)
def test_context_and_columns_are_plain_attentions(lengths, heads, size, dtype):
    level, after = levels(Retention.fractions([0.6, 0.0]), lengths)[:2]
    parts = drawn(level, heads, size, dtype)
    context, received = kernels.score(*parts, heads, SCALING, level)
    exact, columns = plain.score(*(part.double() for part in parts), heads, SCALING, level)
    rounding = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(real(level, context), real(level, exact), rtol=rounding, atol=rounding)
    sums, expected = (of_rows(level, each) for each in (received, columns))
    apart = rounding / 10 if dtype == torch.float32 else rounding
    torch.testing.assert_close(sums, expected, rtol=apart, atol=0)
    alone = kernels.attend(*parts, heads, SCALING, level, level)
    torch.testing.assert_close(real(level, alone), real(level, context), rtol=0, atol=0)
    if dtype == torch.float32:
        chosen, _, _ = kernels.choose(received, level, after, 1, False, None)
        expected, _, _ = plain.choose(columns, level, after, 1, False, None)
        assert torch.equal(real(after, chosen), real(after, expected))


@pytest.mark.parametrize("package", [False, True])
@pytest.mark.parametrize(
    ("lengths", "heads", "size", "dtype"),
    [
        ((1, 90, 5), 2, 32, torch.float32),
        ((130, 64, 2), 2, 64, torch.float16),
        ((100, 17), 1, 128, torch.bfloat16),
        ((33, 5), 3, 24, torch.float32),
    ],
)
def test_rows_that_a_map_leaves_ask_as_plain_operations_do(lengths, heads, size, dtype, package):
    # The package stands at the end of a block of rows (63 and it) and at the beginning of one (64 and it) as well.
    keep = 64 if lengths[0] == 130 else 63 if lengths[0] == 100 else 12
    _, level, after = levels(Retention.counts([80, keep, 1], package=package), lengths)[:3]
    parts = drawn(level, heads, size, dtype)
    numbers = torch.randn(heads * size, generator=torch.Generator().manual_seed(1)).to(DEVICE) / 4
    stream = parts[0] * 2
    exact = [part.double() for part in parts]
    weights, expected = kernels.weigh(parts[2], numbers, level), plain.weigh(exact[2], numbers, level)
    torch.testing.assert_close(real(level, weights), real(level, expected), rtol=1e-5, atol=1e-5)
    index, shares, _ = kernels.choose(weights, level, after, 1, package, None)
    same, expected, _ = plain.choose(expected, level, after, 1, package, None)
    assert torch.equal(real(after, index), real(after, same))
    if package:
        torch.testing.assert_close(real(level, shares), real(level, expected), rtol=1e-5, atol=1e-7)
    got, packages = kernels.attend_kept(*parts, heads, SCALING, stream, index, shares, level, after)
    context, plainly = plain.attend_kept(*exact, heads, SCALING, stream.double(), same, expected, level, after)
    rounding = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(real(after, got), real(after, context), rtol=rounding, atol=rounding)
    if package:
        made = after.ends.diff() > after.kept
        assert made.any()
        torch.testing.assert_close(packages[made].double(), plainly[made], rtol=rounding, atol=rounding)


def of_rows(level, received):
    """[rows], of a text only the blocks that it has."""
    found = []
    for text, start in enumerate(level.ends[:-1].tolist()):
        end = int(level.ends[text + 1])
        found.append(received[:, : -(-(end - start) // 64), start:end].double().sum((0, 1)))
    return torch.cat(found)


@pytest.mark.parametrize("package", [False, True])
@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("lengths", [(8, 2, 8, 4, 1, 2, 3), (150, 1, 70)])
def test_the_rows_that_stay_are_plain_operations(lengths, guarded, package):
    # Twice, so that the second layer has packages; the longer texts alone drop some. Numbers without ties but one.
    retention = Retention.counts([5, 3, 1], protect=("first:2",), package=package)
    counts = [min(2, length) for length in lengths] if guarded else None
    first, second, third = levels(retention, lengths, counts)[:3]
    generator = torch.Generator().manual_seed(3)
    flags = None
    if guarded:  # the last and the one before it of each text
        flags = torch.zeros(first.rows, dtype=torch.int8, device=DEVICE)
        for end, count in zip(first.ends[1:].tolist(), counts, strict=False):
            flags[end - count : end] = 1
    stream = values = torch.randn(first.rows, 40, generator=generator).to(DEVICE)
    for level, after in ((first, second), (second, third)):
        heads, lines = 2, -(-level.longest // 64)
        received = torch.randint(1, 5, (heads, lines, level.rows), generator=generator).to(DEVICE, torch.float32)
        got, expected = (each.choose(received, level, after, 2, package, flags) for each in (kernels, plain))
        assert torch.equal(real(after, got[0]), real(after, expected[0]))
        if package:
            torch.testing.assert_close(*(real(level, each[1]) for each in (got, expected)), rtol=1e-6, atol=1e-6)
        index, shares, after_flags = expected
        if guarded:
            assert torch.equal(real(after, got[2]), real(after, after_flags))
        given = (values, stream, index, shares, level, after)
        (taken, packages), (plainly, plain_packages) = kernels.take(*given), plain.take(*given)
        torch.testing.assert_close(real(after, taken), real(after, plainly), rtol=1e-6, atol=1e-6)
        norm = (torch.rand(40, device=DEVICE), torch.rand(40, device=DEVICE), 1e-5)
        given = [(taken, stream, index, each, norm, after) for each in (packages, plain_packages)]
        normalised = kernels.add_norm(*given[0]), plain.add_norm(*given[1])
        torch.testing.assert_close(*(real(after, each) for each in normalised), rtol=1e-5, atol=1e-5)
        flags, stream = after_flags, normalised[1]
        values = stream * 2


def test_of_equals_the_earlier_stay_and_nan_does_no_harm():
    retention = Retention.fractions([0.5, 0.0])
    level, after = levels(retention, (6, 5))[:2]
    for value in (1.0, float("nan")):
        received = torch.full((2, 1, level.rows), value, device=DEVICE)
        index, _, _ = kernels.choose(received, level, after, 1, False, None)
        assert index[:6].tolist() == [0, 1, 2, 6, 7, 8]


def test_a_row_alone_is_normalised_as_torch_does():
    level = levels(Retention.fractions([1.0]), (3, 2))[0]
    hidden, stream = torch.randn(2, level.rows, 33, device=DEVICE)
    norm = torch.nn.LayerNorm(33, device=DEVICE)
    got = kernels.add_norm(hidden, stream, None, None, (norm.weight, norm.bias, norm.eps), level)
    torch.testing.assert_close(got, norm(hidden + stream), rtol=1e-5, atol=1e-5)
