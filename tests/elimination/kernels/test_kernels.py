"""Every way to compute gives what plain tensor operations on padded rows give: one table."""

import pytest
import torch

from wordelim import Retention
from wordelim.elimination.attention import Attention
from wordelim.elimination.enter import Enter
from wordelim.elimination.kernels import kernel_for, packed, padded, positional, traced
from wordelim.elimination.kernels.mapped import Mapped, MappedRuns
from wordelim.elimination.kernels.runs import ByRuns
from wordelim.elimination.packed import Packed
from wordelim.elimination.protect import announce
from wordelim.elimination.rows import gather
from wordelim.elimination.significance import received_attention

HEADS, SIZE = 2, 4
PLAIN = Attention(0.35, 0.0)
STILL = PLAIN._replace(position=lambda query, key, rows, columns: (query, key, None))


def by_place(query, key, mask, scaling):
    return torch.arange(key.shape[2], device=key.device, dtype=torch.float32).expand(key.shape[0], -1)


def alike(query, key, mask, scaling):
    return torch.ones(key.shape[0], key.shape[2], device=key.device)


# Layout, kernel (None for one that can only be imported where Triton is), attention, dtypes, and whether it serves
# other selectors and rules that name tokens.
BOTH = (torch.float64, torch.float32)
WAYS = {
    "packed, scored once": ("packed", packed, PLAIN, BOTH, False, True),
    "packed, scored once, positional": ("packed", packed, STILL, BOTH, False, True),
    "packed, run by run": ("packed", padded, PLAIN, BOTH, True, True),
    "packed, at once": ("packed", None, PLAIN, BOTH[1:], False, True),
    "traced": ("traced", traced, PLAIN, BOTH, False, False),
    "positional, padded": ("padded", positional, STILL, BOTH, True, True),
    "positional, packed": ("packed", positional, STILL, BOTH, True, True),
    "positional, traced": ("traced", positional, STILL, BOTH, False, False),
}
# Powers of two, whose even shares add up without rounding: so there are ties.
BATCHES = {"ragged": (8, 2, 8, 4, 1, 2), "even": (8, 8), "one": (4,)}
RETENTIONS = {
    "all": Retention.fractions([1.0]),
    "some": Retention.fractions([0.55]),
    "one": Retention.fractions([0.0]),
    "packaged": Retention.fractions([0.55], package=True),
    "some of the long": Retention.counts([3], protect=("first:2",)),
}
SELECTORS = {"attention": received_attention, "place": by_place, "ties": alike}


def vectors(lengths, dtype, *, tied=False):
    """Query, key and value [batch, width, heads * size], and the mask."""
    generator = torch.Generator().manual_seed(len(lengths))
    width = max(lengths) + 1
    drawn = [torch.randn(len(lengths), width, HEADS * SIZE, generator=generator).to(dtype) for _ in range(3)]
    if tied:
        drawn[0].zero_()  # everybody attends to all alike
    return drawn, torch.arange(width) < torch.tensor(lengths)[:, None]


def computed(layout, kernel, attention, values, mask, retention, selector, protected):
    """What leaves the layer, and what leaves it when the first row alone is asked for."""
    enter = Enter("padded" if layout == "traced" else layout, origins=True, retention=retention)
    enter.selector = selector
    parts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: layout == "traced")
        for each in values:
            if protected is not None:
                announce(enter, retention, protected)
            rows, tokens = enter(each, mask)
            parts.append(rows.unflatten(2, (HEADS, SIZE)).transpose(1, 2))
    query, key, value = parts
    with torch.no_grad():
        left = tokens.left(0)
        context, rows, alive = kernel.extract(query, key, value, tokens, left, attention)
        assert (rows is None) == (left is None)
        first = kernel.first(tokens.first(query.transpose(1, 2)).transpose(1, 2), key, value, tokens, attention)
    return of_texts(context, tokens.take(rows, left, alive)), tokens.cut().leave(first)


def of_texts(context, after):
    """Places of the kept rows in their texts [batch, kept], from 1, and 0 where there is none; and their context."""
    places = after.positions()[..., None] + 1
    if isinstance(after, Packed):
        return after.leave(places[None])[..., 0], after.leave(context)
    real = torch.ones_like(places, dtype=torch.bool) if after.mask is None else after.mask[..., None]
    # A package stands last in the batch, and behind the rows of its own text elsewhere.
    order = (~real).to(torch.int8).sort(dim=1, stable=True).indices
    places, real, context = (each.gather(1, order.expand_as(each)) for each in (places, real, context))
    longest = int(real.sum(1).max())
    return (places * real)[:, :longest, 0], torch.where(real, context, 0)[:, :longest]


@pytest.mark.parametrize("retention", RETENTIONS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_plain_attention_on_padded_rows(way, batch, retention):
    layout, kernel, attention, dtypes, selects, protects = WAYS[way]
    if kernel is None:
        kernel = pytest.importorskip("wordelim.elimination.kernels.triton", exc_type=ImportError)
        if retention == "packaged":
            pytest.skip("packages are computed otherwise on a card")
    elif layout == "packed":
        kernel = ByRuns(kernel)
    lengths, retention = BATCHES[batch], RETENTIONS[retention]
    for dtype in dtypes:
        for name in SELECTORS if selects else ("attention",):
            for tied in (False, True) if name == "attention" else (False,):
                for rule in (False, True) if protects else (False,):
                    values, mask = vectors(lengths, dtype, tied=tied)
                    # The last of each text, and what stands third.
                    ends = mask.sum(1, keepdim=True) - 1
                    protected = (torch.arange(mask.shape[1]) == ends) | (torch.arange(mask.shape[1]) == 2) & mask
                    given = (values, mask, retention, SELECTORS[name], protected if rule else None)
                    (places, context), first = computed("padded", padded, PLAIN, *given)
                    (same_places, same_context), same_first = computed(layout, kernel, attention, *given)
                    case = f"{dtype}, {name}, tied {tied}, protected {rule}"
                    assert torch.equal(same_places, places), case
                    tolerance = 1e-5 if dtype == torch.float32 or layout == "traced" or attention is STILL else 1e-6
                    kept = {"rtol": tolerance, "atol": tolerance}
                    torch.testing.assert_close(same_context, context, msg=case, **kept)
                    torch.testing.assert_close(same_first, first, **kept)


@pytest.mark.parametrize("rule", [False, True])
@pytest.mark.parametrize("retention", [name for name in RETENTIONS if name != "all"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("attention", [PLAIN, STILL], ids=["plain", "positional"])
def test_maps_keep_the_same_of_packed_rows(attention, batch, retention, rule):
    values, mask = vectors(BATCHES[batch], torch.float64)
    values[2] = (values[2] * 2).round() / 2  # so that some score alike
    one = Mapped(torch.tensor([1.0, 0.5] * (HEADS * SIZE // 2)))
    ends = mask.sum(1, keepdim=True) - 1
    protected = (torch.arange(mask.shape[1]) == ends) if rule else None
    given = (values, mask, RETENTIONS[retention], received_attention, protected)
    (places, context), _ = computed("padded", one, attention, *given)
    (same_places, same_context), _ = computed("packed", MappedRuns(one), attention, *given)
    assert torch.equal(same_places, places)
    torch.testing.assert_close(same_context, context, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_package_of_rows_that_score_far_below_the_others_is_still_their_mean(layout):
    # The second text drops nothing at the second layer, and its package scores 120 below the rows that stay.
    hidden = torch.randn(2, 10, HEADS * SIZE, generator=torch.Generator().manual_seed(0))
    hidden[..., 0] = 0.0
    hidden[1, 2:, 0] = -120.0
    mask = torch.arange(10) < torch.tensor([[10], [4]])
    one = Mapped(torch.eye(HEADS * SIZE)[0])
    kernel = MappedRuns(one) if layout == "packed" else one
    rows, tokens = Enter(layout, origins=True, retention=Retention.fractions([0.5, 0.4], package=True))(hidden, mask)
    for layer in range(2):
        parts = [rows.unflatten(2, (HEADS, SIZE)).transpose(1, 2)] * 3
        left = tokens.left(layer)
        _, kept, alive = kernel.extract(*parts, tokens, left, PLAIN)
        rows, tokens = gather(rows, kept), tokens.take(kept, left, alive)
    of_text = tokens.leave(rows)[1]
    package = of_text[2] if layout == "packed" else of_text[-1]
    torch.testing.assert_close(package, hidden[1, 2:4].mean(0))


@pytest.mark.parametrize(
    ("layout", "selector", "grad", "dropout", "attention", "chosen"),
    [
        ("padded", received_attention, False, 0.0, PLAIN, padded),
        ("padded", by_place, False, 0.0, PLAIN, padded),
        ("padded", received_attention, False, 0.0, STILL, positional),
        ("packed", received_attention, False, 0.0, PLAIN, ByRuns(packed)),
        ("packed", received_attention, True, 0.0, PLAIN, ByRuns(padded)),
        ("packed", received_attention, False, 0.1, PLAIN, ByRuns(padded)),
        ("packed", by_place, False, 0.0, PLAIN, ByRuns(padded)),
        ("packed", received_attention, False, 0.0, STILL, ByRuns(packed)),
        ("packed", received_attention, True, 0.0, STILL, ByRuns(positional)),
    ],
)
def test_the_fastest_way_that_serves_is_chosen(layout, selector, grad, dropout, attention, chosen):
    enter = Enter(layout, origins=True)
    enter.selector = selector
    _, tokens = enter(torch.zeros(2, 3, HEADS * SIZE), None)
    with torch.set_grad_enabled(grad):
        assert kernel_for(torch.zeros(1, HEADS, 6, SIZE), tokens, attention._replace(dropout=dropout)) == chosen
