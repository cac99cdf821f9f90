"""Families that somebody registers: served from a line of data, or refused by the name of the field that is wrong."""

import copy
import pickle

import pytest
import torch

import wordelim
from wordelim import Retention, adapters
from wordelim.adapters import Family, family_of, register, written_out
from wordelim.errors import UnsupportedModelError
from wordelim.graph.splice import eliminating_encoder

KEEP_ALL = Retention.keep_all(3)
SOME = Retention.fractions([0.7, 0.4, 0.2])
OWN = {name: written_out(f"{name}SelfAttention") for name in ("MegatronBert", "RemBert")}
# Two whose base model makes an additive mask of four dimensions, and two whose attention is written out.
FAMILIES = {
    "layoutlm": Family("layoutlm"),
    "markuplm": Family("markuplm", positions_after_padding=True),
    "megatron-bert": Family("megatron-bert", own_attention=OWN["MegatronBert"], final_norm="encoder.ln"),
    "rembert": Family("rembert", width="input_embedding_size", own_attention=OWN["RemBert"]),
}
FIELDS = {
    "markuplm": {
        "max_xpath_tag_unit_embeddings": 8,
        "max_xpath_subs_unit_embeddings": 8,
        "max_depth": 4,
        "tag_pad_id": 7,
        "subs_pad_id": 7,
    },
    "rembert": {"input_embedding_size": 16, "bos_token_id": 2, "eos_token_id": 3},
}


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What a test registers is forgotten."""
    monkeypatch.setattr(adapters, "_FAMILIES", dict(adapters._FAMILIES))


@pytest.fixture
def make_registered(make_model):
    def make(name, **options):
        register(FAMILIES[name])
        return make_model(name, **{"pad_token_id": 0, **FIELDS.get(name, {})}, **options)

    return make


def near(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["packed", "padded", "compiled"])
@pytest.mark.parametrize("head", ["sequence", "token"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_laws_hold(make_registered, make_batch, logits, monkeypatch, name, head, layout):
    model = make_registered(name, head=head)
    batch = make_batch(model, [9, 14, 3], width=16)
    real = batch["attention_mask"].bool() if head == "token" else slice(None)
    dense = logits(model, batch)
    wordelim.eliminate_(model, KEEP_ALL)
    eliminating_encoder(model).layout = "packed" if layout == "packed" else "padded"
    if layout == "compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # what a compiler or exporter would be shown
    near(logits(model, batch)[real], dense[real])
    wordelim.eliminate_(model, SOME)
    some = logits(model, batch)
    assert not torch.allclose(some[real], dense[real], atol=1e-3)
    for row, length in enumerate((9, 14, 3)):
        alone = logits(model, {key: values[row : row + 1, :length] for key, values in batch.items()})
        near(alone[0], some[row, :length] if head == "token" else some[row])


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_copied_and_loaded_like_one_that_is_built_in(make_registered, make_batch, logits, tmp_path, name):
    model = wordelim.eliminate_(make_registered(name), SOME)
    batch = make_batch(model, [9, 4])
    expected = logits(model, batch)
    model.save_pretrained(tmp_path / "out")
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), wordelim.load(tmp_path / "out")):
        assert wordelim.retention_of(again) == SOME
        assert torch.equal(logits(again, batch), expected)


@pytest.mark.parametrize("name", ["deberta-v2", "mpnet", "nomic_bert"])
def test_attention_that_is_written_out_is_pickled_with_its_model(make_model, make_batch, logits, name):
    model = wordelim.eliminate_(make_model(name), SOME)
    batch = make_batch(model, [9, 4])
    assert torch.equal(logits(pickle.loads(pickle.dumps(model)), batch), logits(model, batch))


def test_protected_tokens_are_found_under_an_additive_mask(make_registered, make_batch, logits):
    model = make_registered("layoutlm")
    batch = make_batch(model, [9, 4])
    batch["input_ids"][0, 6] = 3
    wordelim.eliminate_(model, Retention.counts([2, 2, 2], protect=("first", "tokens:3")))
    found = logits(model, batch)
    near(logits(model, {key: values[:1] for key, values in batch.items()}), found[:1])


@pytest.mark.parametrize("family", ["bert", "layoutlm"])
def test_a_mask_that_is_no_padding_is_refused(make_model, make_registered, make_batch, logits, family):
    model = make_registered(family) if family in FAMILIES else make_model(family)
    batch = make_batch(model, [9, 4])
    expected = logits(model, batch)
    wordelim.eliminate_(model, KEEP_ALL)
    mask = batch["attention_mask"].float()
    if family == "layoutlm":
        with pytest.raises(UnsupportedModelError, match="5 dimensions"):
            logits(model, {**batch, "attention_mask": mask[:, None]})
        return
    additive = (1 - mask)[:, None, None] * -10000
    near(logits(model, {**batch, "attention_mask": additive}), expected)
    with pytest.raises(UnsupportedModelError, match="something else than 0 and the lowest number"):
        logits(model, {**batch, "attention_mask": additive.clamp(min=-1.5)})
    with pytest.raises(UnsupportedModelError, match=r"4 dimensions: a compressed model takes \[batch, tokens\]"):
        logits(model, {**batch, "attention_mask": additive.expand(-1, 1, 9, -1)})


WRONG = {
    "another encoder": ({"encoder": "embeddings"}, "the encoder 'embeddings' holds no RemBertSelfAttention"),
    "encoder": (
        {"encoder": "layers"},
        "the encoder 'layers' is no module of RemBertModel: .* of embeddings, encoder",
    ),
    "width": ({"width": "hidden_size"}, r"the width 'hidden_size' is 32 .* is 16 wide: .*\(input_embedding_size\)"),
    "no width": ({"width": "dim"}, "the width 'dim' is no number in RemBertConfig"),
    "heads": ({"heads": {"ForSequenceClassification": "mean"}}, "the heads 'mean' is nothing that a head reads"),
    "a typo in heads": (
        {"heads": {"ForSequenceClasification": "first"}},
        r"by the heads of its .*Family the classes are \*ForSequenceClasification",
    ),
    "no pooling": ({"pooling": {"pooler": {"cls": "first"}}}, "the pooling 'pooler' is no field of RemBertConfig"),
    "pooling": ({"pooling": {"layer_norm_eps": {"cls": "1st"}}}, "the pooling '1st' is nothing that a head reads"),
    "own_attention": (
        {"own_attention": OWN["MegatronBert"]},
        "own_attention 'MegatronBertSelfAttention' is the class",
    ),
    "no own_attention": ({"own_attention": {}}, "can't be traced: .* where attention is written out, its class"),
    "another own_attention": (
        {"own_attention": written_out("RemBertAttention")},
        "says in own_attention how RemBertAttention is called",
    ),
    "final_norm": ({"final_norm": "norm"}, "the final_norm 'norm' is no module of RemBertModel"),
    "positions": ({"positions_after_padding": True}, "positions_after_padding 'True' isn't how .* set it to False"),
}


@pytest.mark.parametrize("field", WRONG)
def test_a_field_that_is_wrong_is_named(make_registered, capfd, field):
    model = make_registered("rembert")
    changes, match = WRONG[field]
    fields = {name: getattr(FAMILIES["rembert"], name) for name in ("width", "own_attention")}
    register(Family("rembert", **{**fields, **changes}))
    before = model.config.to_dict()
    with pytest.raises(UnsupportedModelError, match=match):
        wordelim.eliminate_(model, KEEP_ALL)
    assert model.config.to_dict() == before
    assert "Traceback" not in "".join(capfd.readouterr())
    assert not model.base_model._forward_pre_hooks


def test_a_norm_behind_the_encoder_must_be_named(make_model):
    model = make_model("roberta-prelayernorm")
    register(Family("roberta-prelayernorm", positions_after_padding=True))
    with pytest.raises(UnsupportedModelError, match="the final_norm 'None' leaves out 'LayerNorm'"):
        wordelim.eliminate_(model, KEEP_ALL)


@pytest.mark.parametrize(
    "fields", [{"heads": ("ForTokenClassification",)}, {"pooling": {"x": "first"}}, {"encoder": None}, {"width": 768}]
)
def test_a_field_of_another_type_is_named(fields):
    (name,) = fields
    with pytest.raises(UnsupportedModelError, match=f"The Family 'x' has .* as its {name}: give a (dictionary|name)"):
        Family("x", **fields)


def test_an_encoder_without_attention_is_refused(bert):
    class Own(torch.nn.Module):
        def forward(self, hidden_states, *args, **kwargs):
            return hidden_states, None

    for layer in bert.bert.encoder.layer:
        layer.attention.self = Own()
    with pytest.raises(UnsupportedModelError, match="where attention is written out, its class in own_attention"):
        wordelim.eliminate_(bert, KEEP_ALL)


def test_what_normalises_after_the_encoder_follows_from_what_normalises(make_model, family_names):
    for name in family_names:
        model = make_model(name, head="none")
        family = family_of(model)
        outside = {norm for norm, module in model.named_children() if type(module).__name__.lower().endswith("norm")}
        assert family.normalises_after == (family.final_norm in outside)
        assert outside <= {family.final_norm}
    with pytest.raises(TypeError, match="normalises_after"):
        Family("splinter", normalises_after=True)
