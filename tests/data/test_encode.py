"""Columns, encoding, fingerprints and carving; all on data sets and tokenizers made here."""

import copy

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    CamembertConfig,
    DistilBertConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
    XLNetConfig,
)

from wordelim.data.columns import Columns, find_columns
from wordelim.data.encode import encode, usable_positions
from wordelim.data.read import read
from wordelim.data.split import carve, fingerprint
from wordelim.errors import DataError, RowError

WORDS = ["good", "bad", "film", "the", "a", "plot", "is", "it", "was", "not", "very", "one", "two", "three"]
MULTI = "multi_label_classification"


@pytest.fixture(scope="module")
def tokenizer():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: index for index, word in enumerate(special + WORDS)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=16,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def config(names=("negative", "positive"), **more):
    return BertConfig(label2id={name: i for i, name in enumerate(names)}, id2label=dict(enumerate(names)), **more)


def table(**columns):
    return datasets.Dataset.from_dict(columns)


# --- columns ----------------------------------------------------------------------------------------------


def empty(names):
    return table(**{name: [] for name in names.split()})


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("sentence label", ("sentence", None, "label")),
        ("idx Text LABEL", ("Text", None, "LABEL")),
        ("text label score", ("text", None, "label")),
        ("sentence1 sentence2 score", ("sentence1", "sentence2", "score")),
        ("hypothesis premise labels", ("premise", "hypothesis", "labels")),
        ("question sentence label", ("question", "sentence", "label")),
        ("context question label", ("question", "context", "label")),
        ("query document label", ("query", "document", "label")),
        ("text_a text_b target", ("text_a", "text_b", "target")),
    ],
)
def test_standard_columns_are_found(names, found):
    assert find_columns(empty(names)) == Columns(*found)


def test_named_columns_win():
    data = empty("text sentence1 sentence2 label stars")
    assert find_columns(data, text="sentence2", label="stars") == Columns("sentence2", None, "stars")
    assert find_columns(data, text="stars", text_pair="text") == Columns("stars", "text", "label")
    assert find_columns(data, text_pair="sentence2") == Columns("sentence1", "sentence2", "label")
    assert find_columns(empty("text answer label"), text_pair="answer") == Columns("text", "answer", "label")


def test_a_label_is_optional_where_none_is_needed():
    assert find_columns(empty("text"), need_label=False) == Columns("text")
    assert find_columns(empty("text"), need_label=False).used == ["text"]
    assert find_columns(empty("text label"), need_label=False).label == "label"


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("body label", {}, "columns are 'body', 'label': name one with --text "),
        ("text class_id", {}, "columns are 'text', 'class_id': name one with --label"),
        ("text^label", {}, "alone .where fields are separated by something else, name it with --delimiter"),
        ("text label", {"text": "body"}, "no column 'body' for --text; the columns are 'text', 'label'"),
        ("text label", {"text_pair": "body"}, "no column 'body' for --text-pair"),
        ("text label", {"label": "gold"}, "no column 'gold' for --label"),
        ("text label", {"text": "text", "label": "text"}, "name one column twice"),
        ("text sentence label", {}, "may be text or sentence; .*choose with --text"),
        ("text premise hypothesis label", {}, "may be premise/hypothesis or text"),
    ],
)
def test_doubtful_columns_are_refused_with_the_repair(names, options, message):
    with pytest.raises(DataError, match=message):
        find_columns(empty(names), **options)


# --- encoding ---------------------------------------------------------------------------------------------


def test_encoding_equals_the_tokenizer(tokenizer):
    data = table(text=["good film", "the plot is very bad", "it"], label=["positive", "negative", "Positive"])
    encoded = encode(data, tokenizer, Columns("text", None, "label"), config())
    expected = [tokenizer(text) for text in data["text"]]
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert encoded.dataset[name][:] == [row[name] for row in expected]
    assert encoded.dataset["labels"][:] == [1, 0, 1]
    assert encoded.lengths == encoded.dataset["length"][:] == [4, 7, 3]
    assert encoded.truncated == 0
    assert encoded.dataset.column_names == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "labels",
        "length",
    ]


@given(
    st.lists(st.tuples(*[st.lists(st.sampled_from(WORDS), min_size=1, max_size=20)] * 2), min_size=1, max_size=6),
    st.integers(5, 14),
    st.booleans(),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_cut_is_counted(tokenizer, rows, limit, paired):
    data = table(a=[" ".join(a) for a, _ in rows], b=[" ".join(b) for _, b in rows])
    columns = Columns("a", "b" if paired else None)
    encoded = encode(data, tokenizer, columns, config(), max_length=limit)
    whole = [len(a) + 2 + (len(b) + 1 if paired else 0) for a, b in rows]
    assert encoded.lengths == [min(length, limit) for length in whole]
    assert encoded.truncated == sum(length > limit for length in whole)
    assert "labels" not in encoded.dataset.column_names


def test_a_special_token_of_the_users_own_is_a_text(tokenizer):
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"additional_special_tokens": ["<url>"]})
    assert encode(table(text=["<url>", "[UNK]"]), own, Columns("text"), config()).lengths == [3, 3]
    for text in ("[SEP]", "[CLS][PAD]"):
        with pytest.raises(RowError, match="Row 2 has a text of special tokens alone"):
            encode(table(text=["<url>", text]), own, Columns("text"), config())


def test_pairs_keep_their_segments_and_may_lack_the_second_text(tokenizer):
    data = table(a=["good film", "it"], b=["the plot", ""])
    encoded = encode(data, tokenizer, Columns("a", "b"), config())
    assert encoded.dataset["token_type_ids"][:] == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1]]
    assert encode(data, tokenizer, Columns("a", "b"), config(), max_length=5).truncated == 1


@pytest.mark.parametrize("model", [DistilBertConfig(), RobertaConfig(type_vocab_size=1), MPNetConfig()])
def test_segments_are_left_out_where_the_model_has_none(tokenizer, model):
    encoded = encode(table(a=["good"], b=["bad"]), tokenizer, Columns("a", "b"), model)
    assert encoded.dataset.column_names == ["input_ids", "attention_mask", "length"]


def test_the_length_limit_is_the_smaller_of_tokenizer_and_model(tokenizer):
    data = table(text=["good " * 40])
    assert encode(data, tokenizer, Columns("text"), config()).lengths == [16]
    assert encode(data, tokenizer, Columns("text"), config(max_position_embeddings=12)).lengths == [12]
    assert encode(data, tokenizer, Columns("text"), config(), max_length=30).lengths == [30]


@pytest.mark.parametrize(
    ("model", "positions"),
    [
        (BertConfig(max_position_embeddings=512), 512),
        (RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (XLMRobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (CamembertConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (MPNetConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (RobertaConfig(max_position_embeddings=40, pad_token_id=0), 39),
        (DistilBertConfig(max_position_embeddings=128), 128),
        (XLNetConfig(), None),
    ],
)
def test_usable_positions(model, positions):
    assert usable_positions(model) == positions


def test_a_roberta_runs_at_its_usable_positions_and_not_beyond():
    import torch
    from transformers import RobertaModel

    tiny = RobertaConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=14, pad_token_id=1,
    )  # fmt: skip
    model = RobertaModel(tiny).eval()
    most = usable_positions(tiny)
    with torch.no_grad():
        assert model(torch.full((1, most), 5)).last_hidden_state.shape[1] == most
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, most + 1), 5))


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"text": ["x", None]}, {}, "Row 2 has no text in column 'text'"),
        ({"text": ["x", " \n"]}, {}, "Row 2 has a blank text"),
        ({"text": ["x", ""]}, {}, "Row 2 has a blank text"),
        ({"text": [1.5, float("nan")]}, {}, r"Row 1 has no text but a float in column 'text': 1.5; .*--text"),
        ({"text": [float("nan")]}, {}, "Row 1 has no text"),
        ({"text": ["x"], "pair": [None]}, {}, "Row 1 has no text in column 'pair'"),
        ({"text": ["x"], "pair": [["y"]]}, {}, "Row 1 has no text but a list in column 'pair'.*--text-pair"),
        ({"text": []}, {}, "no rows"),
        ({"text": ["x"]}, {"max_length": 600}, "length of 600 tokens .* the 512 .*--max-length 512"),
        ({"text": ["x"]}, {"max_length": 2}, "length of 2 tokens leaves no room .*--max-length 3"),
        ({"text": ["x"], "pair": ["y"]}, {"max_length": 4}, "--max-length 5"),
    ],
)
def test_texts_that_cannot_be_encoded_are_refused(tokenizer, columns, options, message):
    found = Columns("text", "pair" if "pair" in columns else None)
    with pytest.raises(DataError, match=message):
        encode(table(**columns), tokenizer, found, config(), **options)


@pytest.mark.parametrize(
    ("labels", "model", "expected"),
    [
        ([1, 0], config(), [1, 0]),
        ([0.5, 1.0], BertConfig(num_labels=1), [0.5, 1.0]),
        ([[0], [0, 1]], config(("a", "b", "c"), problem_type=MULTI), [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]),
    ],
)
def test_labels_reach_the_encoded_data_set(tokenizer, labels, model, expected):
    encoded = encode(table(text=["good", "bad"], label=labels), tokenizer, Columns("text", None, "label"), model)
    assert encoded.dataset["labels"][:] == expected


def test_a_data_set_in_another_format_is_encoded_the_same(tokenizer):
    data = table(text=["good", "bad"], label=[1, 0]).with_format("numpy")
    assert encode(data, tokenizer, Columns("text", None, "label"), config()).dataset["labels"][:] == [1, 0]


# --- whole data sets --------------------------------------------------------------------------------------


def test_a_fingerprint_is_of_the_content(tmp_path):
    data = table(text=["x", "schön"], label=["0", "1"])
    assert fingerprint(data) == "011bb6e8ab0bda0594e70a5dcae767b81cb68548a4ecf680f5bc85d677483739"
    for name, text in (("a.csv", "label,text\n0,x\n1,schön\n"), ("a.tsv", "text\tlabel\nx\t0\nschön\t1\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert fingerprint(read(tmp_path / name)) == fingerprint(data)
    assert fingerprint(data.select([1, 0]).select([1, 0])) == fingerprint(data)
    assert fingerprint(data.add_column("id", [1, 2]), Columns("text", None, "label")) == fingerprint(data)
    others = [
        data.select([1, 0]),
        data.select([0]),
        data.rename_column("label", "labels"),
        data.remove_columns("label"),
    ]
    assert len({fingerprint(other) for other in [data, *others]}) == 5


@given(st.lists(st.sampled_from("aabc"), min_size=2, max_size=60), st.data())
@settings(deadline=None, max_examples=60)
def test_carving_is_a_stratified_partition(labels, drawn):
    wanted = drawn.draw(st.integers(1, len(labels) - 1))
    seed = drawn.draw(st.integers(0, 5))
    data = table(id=list(range(len(labels))), label=labels)
    rest, carved = carve(data, wanted, seed)
    assert len(carved) == wanted
    assert sorted(rest["id"][:] + carved["id"][:]) == data["id"][:]
    assert rest["id"][:] == sorted(rest["id"][:])
    for label in set(labels):
        share = labels.count(label) * wanted / len(labels)
        assert abs(carved["label"][:].count(label) - share) < 1
    again = carve(data, wanted, seed)
    assert (again[0].to_dict(), again[1].to_dict()) == (rest.to_dict(), carved.to_dict())


def test_carving_differs_with_the_seed_and_takes_fractions():
    data = table(text=[str(i) for i in range(100)], label=[i % 2 for i in range(100)])
    rest, carved = carve(data, 0.2, 0)
    assert (len(rest), len(carved)) == (80, 20)
    assert set(carved["text"]) != set(carve(data, 20, 1)[1]["text"])
    assert sum(carved["label"][:]) == 10
    assert 0 < sum(carve(data, 50, 0)[1].select(range(20))["label"][:]) < 20  # the order is mixed


def test_carving_by_scores_lists_and_nothing_is_random():
    picked = np.zeros(30)
    for seed in range(200):
        picked[carve(table(id=list(range(30)), label=[i / 7 for i in range(30)]), 10, seed)[1]["id"][:]] += 1
    assert picked.min() > 30  # 66.7 expected, standard deviation 6.7
    assert picked.max() < 105
    assert len(carve(table(label=[[0], [0, 1], [1], [0]]), 2, 0)[1]) == 2
    assert len(carve(table(text=["a", "b", "c"]), 2, 0)[1]) == 2
    assert len(carve(table(kind=["a", "b", "c"]), 1, 0, label="kind")[1]) == 1


@pytest.mark.parametrize("amount", [0, -1, 4, 5, 0.0, 1.0, 1.5])
def test_an_empty_part_is_refused(amount):
    with pytest.raises(DataError, match="of 4 examples can't be set aside; use a number from 1 to 3"):
        carve(table(text=list("abcd")), amount, 0)


def test_carving_by_an_unknown_column_is_refused():
    with pytest.raises(DataError, match="no column 'kind' to stratify by; the columns are text"):
        carve(table(text=list("abcd")), 2, 0, label="kind")
