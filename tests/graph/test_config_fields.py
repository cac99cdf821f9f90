"""Fields of a config that change what a model returns or how it computes: what is accepted runs, the rest is named."""

import json

import pytest
import torch

import wordelim
from wordelim import Retention
from wordelim.errors import UnsupportedModelError, WordelimError
from wordelim.graph.splice import eliminating_encoder
from wordelim.verbs.compress import plan
from wordelim.verbs.inspect import inspect_model

FIELDS = {
    "output_hidden_states": True,
    "output_attentions": True,
    "return_dict": False,
    "chunk_size_feed_forward": 4,
    "torchscript": True,
    "use_cache": False,
    "is_decoder": True,
    "add_cross_attention": True,
    "is_encoder_decoder": True,
    "tie_word_embeddings": False,
    "gradient_checkpointing": True,
    "pruned_heads": {"0": [1]},
    "position_embedding_type": "absolute",
    "hidden_act": "relu",
}
QUICK = {"retrain": False, "measure_speed": False}
REFUSED = ("output_hidden_states", "output_attentions", "chunk_size_feed_forward")


def outcome(run):
    """The sentence with which a run is refused; None where it goes through."""
    try:
        run()
    except WordelimError as error:
        return str(error)
    return None


# Of one family, with what becomes of it: None, or how the sentence goes.
OF_FAMILIES = [
    ("albert", "num_hidden_groups", 3, None),
    ("albert", "inner_group_num", 2, "keep has 3 values, but the model has 6 layers"),
    ("deberta-v2", "conv_kernel_size", 3, "conv_kernel_size"),
    ("distilbert", "sinusoidal_pos_embds", True, None),
    ("eurobert", "classifier_pooling", "mean", None),
    ("eurobert", "classifier_pooling", "late", None),
    ("modernbert", "classifier_pooling", "mean", None),
    ("mpnet", "relative_attention_num_buckets", 64, None),
]


@pytest.fixture
def make_directory(make_model_dir, edit_json):
    """``make_directory(fields)``: a dense model's, with these in its config."""

    def make(fields):
        directory = make_model_dir("bert", labels=2)
        edit_json(directory / "config.json", lambda config: config.update(fields))
        return directory

    return make


# One directory asks about several fields that are served.
TOGETHER = [
    ("return_dict", "use_cache", "tie_word_embeddings", "hidden_act", "position_embedding_type"),
    ("torchscript", "is_encoder_decoder"),
]


@pytest.mark.parametrize(
    "fields", [*TOGETHER, *((field,) for field in FIELDS if field not in {*TOGETHER[0], *TOGETHER[1]})], ids=" ".join
)
def test_what_a_plan_accepts_runs_and_what_it_refuses_all_refuse(make_directory, make_texts, tmp_path, fields):
    directory = make_directory({field: FIELDS[field] for field in fields})
    sets = {"train": make_texts(12), "validation": make_texts(12, 1)}
    said = outcome(lambda: plan(directory, **sets))
    runs = {
        "inspect": lambda: inspect_model(directory),
        "compress": lambda: wordelim.compress(
            directory, **sets, output=tmp_path / "out", keep=[0.8, 0.5, 0.0], max_drop=100.0, **QUICK
        ),
        "probe": lambda: wordelim.probe(directory, validation=sets["validation"], examples=8, texts=4, rounds=1),
        "bench": lambda: wordelim.bench(directory, data=sets["validation"], texts=4, latency_texts=0, rounds=1),
    }
    for name, run in runs.items():
        assert outcome(run) == said, name
    field, *others = fields
    if others:  # all of them served
        assert said is None
    if field in REFUSED:
        assert f"has {field} {json.dumps(FIELDS[field])} in its config" in said
        assert "set it to" in said
    if said is not None:
        assert not (tmp_path / "out").exists()
        return
    check = wordelim.check(directory, tmp_path / "out", data=sets["validation"], max_drop=100.0)
    assert check.passed
    kept = json.loads((tmp_path / "out" / "config.json").read_text())
    assert all(kept.get(field, FIELDS[field]) == FIELDS[field] for field in fields)


@pytest.mark.every_family
@pytest.mark.parametrize(("name", "field", "value", "match"), OF_FAMILIES)
def test_a_field_of_one_family_is_served_or_refused_by_the_plan_already(
    make_model_dir, make_texts, tmp_path, name, field, value, match
):
    directory = make_model_dir(name, labels=2, **{field: value})
    sets = {"train": make_texts(12), "validation": make_texts(12, 1)}
    said = outcome(lambda: plan(directory, **sets))
    assert said is None if match is None else match in said
    keep = {"keep": [0.8, 0.5, 0.3], "epochs": 0.5, "max_drop": 100.0, "measure_speed": False}
    assert outcome(lambda: wordelim.compress(directory, **sets, output=tmp_path / "out", **keep)) == said


@pytest.mark.parametrize("field", REFUSED)
def test_a_program_and_a_compressed_directory_are_refused_in_the_same_words(
    make_directory, make_model, make_tokenizer, edit_json, tmp_path, field
):
    pytest.importorskip("onnx")
    match = f"has {field} {json.dumps(FIELDS[field])} in its config.*set it to"
    with pytest.raises(UnsupportedModelError, match=match):
        wordelim.export(make_directory({field: FIELDS[field]}), tmp_path / "program")
    assert not (tmp_path / "program").exists()
    model = wordelim.eliminate_(make_model("bert"), Retention.keep_all(3))
    directory = wordelim.checkpoint.save(model, make_tokenizer("bert"), tmp_path / "compressed")
    edit_json(directory / "config.json", lambda config: config.update({field: FIELDS[field]}))
    with pytest.raises(WordelimError, match=match):
        wordelim.load(directory)


@pytest.mark.every_family
@pytest.mark.parametrize("head", ["sequence", "token"])
def test_a_compressed_model_gives_tuples_where_the_dense_one_does(make_model, family, make_batch, head):
    model = make_model(family, head=head, return_dict=False)
    batch = make_batch(model, [9, 4])
    with torch.no_grad():
        try:
            dense = model(**batch)
        except AttributeError:  # as some heads of some versions of transformers do, whatever is compressed
            with pytest.raises(UnsupportedModelError, match=r"return_dict false in its config .*: set it to true"):
                wordelim.eliminate_(model, Retention.keep_all(3))
            return
        named = model(**batch, return_dict=True)
        wordelim.eliminate_(model, Retention.keep_all(3))
        for layout in ("packed", "padded"):
            eliminating_encoder(model).layout = layout
            kept = model(**batch)
            assert type(dense) is type(kept) is tuple
            assert len(kept) == len(dense)
            real = slice(None) if head == "sequence" else batch["attention_mask"].bool()
            torch.testing.assert_close(kept[0][real], dense[0][real], rtol=5e-5, atol=5e-5)
        assert type(model(**batch, return_dict=True)) is type(named)
    assert model.config.return_dict is False
    assert wordelim.restore_(model).config.return_dict is False
