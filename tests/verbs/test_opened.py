"""A model on disk is opened by one name, whatever it is; two that can't be one before and after are refused."""

import pytest

import wordelim
from wordelim import Retention, eliminate_
from wordelim.checkpoint.directory import save
from wordelim.errors import CheckpointError, ExportError, WordelimError
from wordelim.graph.cost import cost_of
from wordelim.verbs.comparable import require_one_model
from wordelim.verbs.opened import open_model

KEEP = (0.5, 0.0)


@pytest.fixture
def make_compressed_dir(make_model, make_tokenizer, tmp_path):
    """``make_compressed_dir(change=..., **options of make_model)``: a compressed model directory."""

    def make(change=lambda model, tokenizer: None, **options):
        model, tokenizer = make_model("bert", **{"layers": 2, **options}), make_tokenizer("bert")
        change(model, tokenizer)
        keep = Retention.fractions(KEEP[-model.config.num_hidden_layers :])
        return save(eliminate_(model, keep), tokenizer, tmp_path / "compressed")

    return make


@pytest.fixture
def exported(make_model_dir, make_compressed_dir, traced_once, tmp_path):
    """Both, exported."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    # Of one layer each, for it is the layers that take time.
    for name, directory in {"slow": make_model_dir("bert", layers=1), "fast": make_compressed_dir(layers=1)}.items():
        with traced_once():
            wordelim.export(directory, tmp_path / name)
    return tmp_path


def test_what_there_is_is_told_and_asked_alike(exported, make_texts):
    dense, compressed = open_model(exported / "dense"), open_model(exported / "compressed")
    slow, fast = open_model(exported / "slow"), open_model(exported / "fast")
    assert [each.kind for each in (dense, compressed, slow, fast)] == ["dense", "compressed", "exported", "exported"]
    assert {each.head for each in (dense, compressed, slow, fast)} == {"BertForSequenceClassification"}
    last = Retention.fractions(KEEP[-1:])
    assert [each.retention for each in (dense, compressed, slow, fast)] == [None, last, None, last]
    assert [each.runtime for each in (dense, fast)] == ["eager", "onnx"]
    assert {each.precision for each in (dense, compressed, slow, fast)} == {"float32"}
    costs = {each.cost() for each in (dense, compressed, slow, fast)}
    assert costs == {cost_of(compressed.model)}
    assert not hasattr(dense.model.base_model.encoder, "retention")
    for base in (dense, slow):
        for after in (compressed, fast):
            require_one_model(base, after)
    with pytest.raises(ExportError, match="fast is compressed: name the dense model"):
        require_one_model(fast, compressed)
    with pytest.raises(ExportError, match="slow was exported dense: name one that was exported from a compressed"):
        require_one_model(dense, slow)
    examples = compressed.pose(make_texts(8))
    logits = [each.logits(examples, batch_size=3) for each in (compressed, fast)]
    assert logits[0].shape == (8, 3)
    assert abs(logits[0] - logits[1]).max() < 1e-4


def test_another_kind_than_may_be_there_is_refused(make_model_dir, make_compressed_dir):
    dense, compressed = make_model_dir("bert", layers=2), make_compressed_dir()
    with pytest.raises(CheckpointError, match="compressed is compressed already: give the dense model"):
        open_model(compressed, "dense", "exported")
    with pytest.raises(CheckpointError, match="dense holds no compressed model"):
        open_model(dense, "compressed", "exported")
    with pytest.raises(WordelimError, match=r"dense isn't compressed, so it has no speed 2: leave the speed out"):
        open_model(dense, speed=2)


def pair(dense, compressed):
    require_one_model(open_model(dense, "dense"), open_model(compressed, "compressed"))


def _rename(model, tokenizer):
    model.config.id2label, model.config.label2id = {0: "x", 1: "y", 2: "z"}, {"x": 0, "y": 1, "z": 2}


@pytest.mark.parametrize(
    ("change", "options", "what"),
    [
        (_rename, {}, r"different labels \(LABEL_0, LABEL_1, LABEL_2 and x, y, z\)"),
        (lambda model, tokenizer: tokenizer.add_tokens(["zebra"]), {}, "tokenizers .* have different words"),
        (lambda model, tokenizer: None, {"intermediate_size": 40}, r"weight .*bias \(\(48,\) and \(40,\)\)"),
    ],
)
def test_another_model_than_the_compressed_one_was_made_from(
    make_model_dir, make_compressed_dir, change, options, what
):
    with pytest.raises(WordelimError, match=f"{what}.*name the model that the compressed one was made from"):
        pair(make_model_dir("bert", layers=2), make_compressed_dir(change, **options))


def test_another_family(make_model_dir, make_compressed_dir):
    with pytest.raises(WordelimError, match="RobertaForSequenceClassification and BertForSequenceClassification"):
        pair(make_model_dir("roberta"), make_compressed_dir())
