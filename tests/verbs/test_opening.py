"""Two directories that can't be one model before and after compression are refused."""

import pytest

from wordelim import Retention, eliminate_
from wordelim.checkpoint.directory import save
from wordelim.errors import CheckpointError, WordelimError
from wordelim.verbs.opening import open_pair

KEEP = Retention.fractions([0.5, 0.25, 0.0])


@pytest.fixture
def make_compressed_dir(make_model, make_tokenizer, tmp_path):
    """``make_compressed_dir(change=..., **options of make_model)``: a compressed model directory."""

    def make(change=lambda model, tokenizer: None, **options):
        model, tokenizer = make_model("bert", **options), make_tokenizer("bert")
        change(model, tokenizer)
        return save(eliminate_(model, KEEP), tokenizer, tmp_path / "compressed")

    return make


def test_a_pair(make_model_dir, make_compressed_dir):
    dense, compressed, tokenizer = open_pair(make_model_dir("bert"), make_compressed_dir(seed=1))
    assert compressed.base_model.encoder.retention == KEEP
    assert not hasattr(dense.base_model.encoder, "retention")
    assert tokenizer("good film")["input_ids"]


def test_the_wrong_way_round(make_model_dir, make_compressed_dir):
    dense, compressed = make_model_dir("bert"), make_compressed_dir()
    with pytest.raises(CheckpointError, match="compressed is compressed already: give the dense model"):
        open_pair(compressed, dense)
    with pytest.raises(CheckpointError, match="dense holds no compressed model"):
        open_pair(dense, dense)


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
        open_pair(make_model_dir("bert"), make_compressed_dir(change, **options))


def test_another_family(make_model_dir, make_compressed_dir):
    with pytest.raises(WordelimError, match="RobertaForSequenceClassification and BertForSequenceClassification"):
        open_pair(make_model_dir("roberta"), make_compressed_dir())
