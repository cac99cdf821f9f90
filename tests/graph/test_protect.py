"""Word vectors that are never dropped."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import wordelim
from wordelim import Retention, protect_rules
from wordelim.checkpoint.directory import save
from wordelim.elimination.extract import HardExtract
from wordelim.elimination.protect import protected_rows
from wordelim.errors import RetentionError, UnsupportedModelError
from wordelim.graph.splice import eliminating_encoder

FEW = [0.1, 0.0, 0.0]
SOME_RULES = ("first:3", "separators:5", "query:5", "tokens:7,9", "tokens:8-9,11", "tokens:30-31-32")
RULES = st.lists(st.sampled_from(SOME_RULES), max_size=3).map(lambda rules: ("first", *rules))


@pytest.mark.parametrize(
    ("rules", "ids", "expected"),
    [
        (["first:2"], [2, 9, 9, 9], "1100"),
        (["first:9"], [2, 9, 9, 0], "1110"),
        (["separators:3"], [2, 9, 3, 8, 3, 0], "001010"),
        (["query:3"], [2, 9, 3, 8, 3], "11100"),
        (["query:3"], [2, 9, 8, 8, 3], "00000"),  # one text alone
        (["query:2"], [1, 9, 2, 2, 8, 2, 0], "1110000"),
        (["tokens:9"], [2, 9, 3, 9], "0101"),
        (["tokens:7-8,5"], [2, 7, 8, 7, 5, 8], "011010"),
        (["tokens:7-7"], [7, 7, 7, 2], "1110"),
        (["tokens:1-2-3-4-5"], [1, 2, 3], "000"),
        (["first", "separators:3"], [2, 9, 3], "101"),
    ],
)
def test_what_each_rule_protects(rules, ids, expected):
    ids = torch.tensor([ids])
    assert "".join(map(str, protected_rows(rules, ids, ids != 0)[0].int().tolist())) == expected
    if bool((ids != 0).all()):
        assert torch.equal(protected_rows(rules, ids, None), protected_rows(rules, ids, ids != 0))


def test_rules_are_made_with_the_tokenizer(make_tokenizer, tmp_path):
    tokenizer = make_tokenizer("bert")
    ids = tokenizer.get_vocab()
    words = tmp_path / "words.txt"
    words.write_text("not\nvery good\n\nnot\n")
    assert protect_rules(["separators", "query"], tokenizer) == ("first", "separators:3", "query:3")
    assert protect_rules(["first:4"], tokenizer) == ("first:4",)
    assert protect_rules([f"words:{words}"], tokenizer) == (
        "first",
        f"tokens:{ids['not']},{ids['very']}-{ids['good']}",
    )
    assert Retention((0.5,), protect=protect_rules([f"words:{words}"], tokenizer)).protects_by_token
    words.write_text("not\nunheard\n")
    for rule, match in {
        f"words:{words}": "doesn't know 'unheard'",
        "words:nowhere": "can't be read",
        "words": "'words' is unknown",
        "last": "'last' is unknown: use first",
    }.items():
        with pytest.raises(RetentionError, match=match):
            protect_rules([rule], tokenizer)
    words.write_text("\n")
    with pytest.raises(RetentionError, match="holds no words"):
        protect_rules([f"words:{words}"], tokenizer)
    tokenizer.sep_token = None
    with pytest.raises(RetentionError, match="no sep_token"):
        protect_rules(["separators"], tokenizer)


@pytest.mark.parametrize(
    "rule", ["separators", "query", "words:list.txt", "tokens:", "tokens:a", "tokens:1-", "query:"]
)
def test_a_rule_that_the_tokenizer_has_not_seen_is_refused(rule):
    with pytest.raises(RetentionError, match="protect_rules"):
        Retention((0.5,), protect=("first", rule))


@pytest.mark.every_family
@given(rules=RULES, lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4), padding=st.integers(0, 4))
def test_what_is_protected_outlives_every_layer(shared, make_batch, logits, rules, lengths, padding):
    _, model = shared
    retention = Retention.fractions(FEW, protect=rules)
    wordelim.eliminate_(model, retention)
    encoder = eliminating_encoder(model)
    layout = encoder.layout
    batch = make_batch(model, lengths, width=max(lengths) + padding)
    together = logits(model, batch)
    encoder.layout = "padded" if layout == "packed" else "packed"
    torch.testing.assert_close(logits(model, batch), together, rtol=1e-5, atol=1e-5)
    encoder.layout = layout
    kept = []
    hooks = [
        module.register_forward_hook(lambda module, args, output: kept.append(output.rows))
        for module in encoder.children()
        if isinstance(module, HardExtract)
    ]
    try:
        for row, length in enumerate(lengths):
            alone = {name: values[row : row + 1, :length] for name, values in batch.items()}
            kept.clear()
            torch.testing.assert_close(logits(model, alone)[0], together[row], rtol=1e-5, atol=1e-5)
            protected = set(protected_rows(rules, alone["input_ids"], None)[0].nonzero().flatten().tolist())
            alive = torch.arange(length)
            entered = length
            for layer, rows in enumerate(kept):
                alive = alive if rows is None else alive[rows.flatten()]
                entered = retention.count(layer, length, entered, len(protected))
                assert len(alive) == entered >= len(protected)
                assert protected <= set(alive.tolist())
    finally:
        for hook in hooks:
            hook.remove()
        wordelim.eliminate_(model, Retention.keep_all(3))


def test_protection_is_saved_and_needs_the_tokens(make_model, make_tokenizer, make_batch, logits, tmp_path):
    rules = ("first", "separators:3", "tokens:9,7-8")
    model = wordelim.eliminate_(make_model("bert"), Retention.fractions(FEW, protect=rules))
    batch = make_batch(model, [9, 4])
    expected = logits(model, batch)
    loaded = wordelim.load(save(model, make_tokenizer("bert"), tmp_path / "out"))
    assert wordelim.retention_of(loaded).protect == rules
    assert torch.equal(logits(loaded, batch), expected)
    with torch.no_grad():
        assert torch.equal(loaded(batch["input_ids"], batch["attention_mask"]).logits, expected)
        with pytest.raises(UnsupportedModelError, match="takes input_ids"):
            loaded(inputs_embeds=torch.zeros(1, 4, 32))
        with pytest.raises(UnsupportedModelError, match="call the model, not its encoder"):
            loaded.bert.encoder(torch.zeros(1, 4, 32), torch.ones(1, 4))
