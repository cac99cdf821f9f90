"""A compressed directory in sentence-transformers: the same numbers as the model called directly."""

import json

import datasets
import pytest
import torch
from scipy.stats import spearmanr

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import save
from wordelim.verbs.opened import open_model

sentence_transformers = pytest.importorskip("sentence_transformers")
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")


def test_a_cross_encoder_scores_pairs_as_the_model_does(make_model, make_tokenizer, tmp_path):
    model = wordelim.eliminate_(make_model("bert", labels=1), Retention.fractions([0.7, 0.4, 0.0]))
    tokenizer = make_tokenizer("bert")
    encoder = sentence_transformers.CrossEncoder(str(save(model, tokenizer, tmp_path / "out")), device="cpu")
    pairs = [("good film", "the plot is not very good"), ("a", "film was it not"), ("good", "bad bad film")]
    found = encoder.predict(pairs, activation_fn=torch.nn.Identity(), convert_to_tensor=True)
    queries, answers = map(list, zip(*pairs, strict=True))
    with torch.inference_mode():
        expected = model(**tokenizer(queries, answers, padding=True, return_tensors="pt")).logits[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    dense = wordelim.restore_(model)
    with torch.inference_mode():
        other = dense(**tokenizer(queries, answers, padding=True, return_tensors="pt")).logits[:, 0]
    assert (found - other).abs().max() > 1e-3


def test_an_embedding_is_the_mean_over_all_tokens_with_dropped_ones_back(make_model, make_tokenizer, tmp_path):
    model = wordelim.eliminate_(make_model("bert", head="none"), Retention.fractions([0.7, 0.4, 0.2]))
    tokenizer = make_tokenizer("bert")
    encoder = sentence_transformers.SentenceTransformer(str(save(model, tokenizer, tmp_path / "out")), device="cpu")
    texts = ["good film the plot", "a bad one", "it was not very good and the story was long"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    real = batch["attention_mask"][..., None].float()
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    found = encoder.encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(found, (states * real).sum(1) / real.sum(1), atol=1e-5, rtol=1e-5)


# --- what is measured is what sentence-transformers computes -------------------------------------------------------

SETTINGS, READING = "config_sentence_transformers.json", "sentence_bert_config.json"
NARROW = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


def dense_layer(**options):
    return lambda: modules.Dense(16, 4, **options)


# What stands behind the pooling, the pooling itself, and what the settings say.
EMBEDDERS = {
    "plain": ((), {}, {}),
    "first token": ((), {"pooling_mode": "cls"}, {}),
    "dense": ((dense_layer(),), {}, {}),
    "dense, GELU, no bias": ((dense_layer(activation_function=torch.nn.GELU(), bias=False),), {}, {}),
    "dense, none": ((dense_layer(activation_function=None),), {}, {}),
    "dense beside": ((dense_layer(use_residual=True), lambda: modules.Dense(4, 4, use_residual=True)), {}, {}),
    "norm": ((lambda: modules.LayerNorm(16), lambda: modules.Normalize(), lambda: modules.Dropout(0.5)), {}, {}),
    "prompt": ((), {}, {"prompts": {"query": "it was : ", "no": None}, "default_prompt_name": "query"}),
    "prompt of a user's choice": ((), {"include_prompt": False}, {"prompts": {"query": "it was : "}}),
    "dot": ((), {}, {"similarity_fn_name": "dot"}),
    "euclidean": ((dense_layer(),), {"pooling_mode": "cls"}, {"similarity_fn_name": "euclidean"}),
    "manhattan": ((), {}, {"similarity_fn_name": "manhattan"}),
    "cut": ((dense_layer(),), {}, {"truncate_dim": 2}),
    "short": ((), {}, {"max_seq_length": 6}),
    "long": ((), {}, {"max_seq_length": 64}),
    "lower case": ((), {}, {"do_lower_case": True}),
}


@pytest.fixture(scope="module")
def encoder(make_model, make_tokenizer, tmp_path_factory):
    """A BERT without a head that reads up to 48 tokens, as transformers saves it."""
    directory = tmp_path_factory.mktemp("encoder") / "encoder"
    make_model("bert", head="none", **NARROW).save_pretrained(directory)
    tokenizer = make_tokenizer("bert")
    tokenizer.model_max_length = 48
    tokenizer.save_pretrained(directory)
    tokenizer.model_max_length = 64
    return directory


@pytest.fixture
def make_embedder(encoder, edit_json, tmp_path):
    """``make_embedder(name)``: a directory of sentence-transformers."""

    def make(name):
        more, pooling, settings = EMBEDDERS[name]
        directory = tmp_path / "embedder"
        with torch.random.fork_rng():
            torch.manual_seed(3)
            parts = [modules.Transformer(str(encoder)), modules.Pooling(16, **pooling), *(each() for each in more)]
        sentence_transformers.SentenceTransformer(modules=parts, device="cpu").save(str(directory))
        reading = {key: value for key, value in settings.items() if key in ("max_seq_length", "do_lower_case")}
        edit_json(directory / READING, lambda config: config.update(reading))
        edit_json(directory / SETTINGS, lambda config: config.update({**settings, **reading}))
        return directory

    return make


QUICK = {"keep": [0.7, 0.4, 0.2], "max_drop": 1e9, "measure_speed": False}


@pytest.fixture(scope="module")
def pairs(make_texts):
    """Pairs of texts of which some are long, some in capitals."""
    first, second = (make_texts(16, seed)["text"] for seed in (0, 1))
    rows = {"sentence1": [f"{text} {text.upper()} {text}" for text in first], "sentence2": list(second)}
    return datasets.Dataset.from_dict({**rows, "score": [row % 5 for row in range(16)]})


def scores(directory, pairs):
    """By wordelim, and by sentence-transformers."""
    opened = open_model(directory)
    found = opened.logits(opened.pose(pairs), batch_size=32)[:, 0]
    model = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
    vectors = [model.encode(pairs[name], convert_to_tensor=True) for name in ("sentence1", "sentence2")]
    return torch.from_numpy(found), model.similarity_pairwise(*vectors)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_an_embedding_is_measured_as_it_is_made(make_embedder, pairs, name):
    torch.testing.assert_close(*scores(make_embedder(name), pairs), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", ["dense", "prompt", "norm", "euclidean", "short"])
def test_so_is_that_of_the_compressed_model_with_every_file_beside_it(make_embedder, pairs, tmp_path, name):
    directory = make_embedder(name)
    before = scores(directory, pairs)
    torch.testing.assert_close(*before, atol=2e-5, rtol=2e-5)
    out = tmp_path / "out"
    options = {**QUICK, "retrain": False, "output": out}
    report = wordelim.compress(directory, train=pairs, validation=pairs, **options).report
    expected = spearmanr(before[1], pairs["score"]).statistic
    assert report["validation"]["dense"] == pytest.approx(100 * expected, abs=0.01)
    after = scores(out, pairs)
    torch.testing.assert_close(*after, atol=2e-5, rtol=2e-5)
    assert (after[0] - before[0]).abs().max() > 1e-4
    for path in directory.rglob("*"):
        if path.is_file() and path.parent != directory:
            assert (out / path.relative_to(directory)).read_bytes() == path.read_bytes()
    for file in ("modules.json", SETTINGS, READING):
        assert (out / file).read_bytes() == (directory / file).read_bytes()


def test_training_shares_the_embedding_as_it_is_made(make_embedder, pairs, tmp_path):
    directory, options = make_embedder("euclidean"), {**QUICK, "epochs": 1.0}
    wordelim.compress(directory, train=pairs, validation=pairs, output=tmp_path / "out", **options)
    torch.testing.assert_close(*scores(tmp_path / "out", pairs), atol=2e-5, rtol=2e-5)


def test_older_layouts_are_read_as_newer_ones(make_embedder, pairs, edit_json):
    directory = make_embedder("first token")
    edit_json(directory / "modules.json", lambda each: [m.update(type=old(m["type"])) for m in each])
    flags = {f"pooling_mode_{name}": name == "cls_token" for name in ("cls_token", "mean_tokens", "max_tokens")}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **flags}))
    (directory / READING).write_text('{"max_seq_length": 20, "do_lower_case": false}')
    (directory / SETTINGS).unlink()
    torch.testing.assert_close(*scores(directory, pairs), atol=2e-5, rtol=2e-5)


def old(kind):
    return f"sentence_transformers.models.{kind.rpartition('.')[2]}"


def test_a_cross_encoders_own_files_are_in_the_new_directory(make_model, make_tokenizer, make_texts, tmp_path):
    plain = tmp_path / "plain"
    make_model("bert", labels=1).save_pretrained(plain)
    make_tokenizer("bert").save_pretrained(plain)
    given = sentence_transformers.CrossEncoder(
        str(plain), device="cpu", max_length=20, activation_fn=torch.nn.Identity()
    )
    given.save_pretrained(str(tmp_path / "ranker"))
    first, second = (make_texts(12, seed)["text"] for seed in (0, 1))
    rows = datasets.Dataset.from_dict(
        {
            "query": [first[row // 3] for row in range(12)],
            "document": second,
            "label": [row % 3 == 0 for row in range(12)],
        }
    ).cast_column("label", datasets.Value("int64"))
    out, options = tmp_path / "out", {"keep": [1, 1, 1], "retrain": False, "max_drop": 100}
    report = wordelim.compress(tmp_path / "ranker", train=rows, validation=rows, output=out, **options).report
    assert report["data"]["validation"]["longest"] <= 20
    loaded = sentence_transformers.CrossEncoder(str(out), device="cpu")
    assert isinstance(loaded.activation_fn, torch.nn.Identity)
    pairs = list(zip(rows["query"], rows["document"], strict=True))
    torch.testing.assert_close(
        torch.from_numpy(loaded.predict(pairs)), torch.from_numpy(given.predict(pairs)), atol=1e-4, rtol=1e-4
    )
