"""The laws of wordelim, each over every family.

Of law 3 (packed = padded = ONNX) the first half; the second is in ``exporting/test_families.py``.
"""

import copy
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, pipeline

import wordelim
from wordelim import Retention
from wordelim.adapters import family_of
from wordelim.checkpoint.directory import save
from wordelim.elimination.extract import FirstToken, HardExtract
from wordelim.elimination.packed import Packed
from wordelim.errors import RetentionError, UnsupportedModelError
from wordelim.graph.passes import SpliceElimination
from wordelim.graph.splice import eliminating_encoder

FIXTURES = Path(__file__).parent / "fixtures"
LAYERS = 3
LENGTHS = st.lists(st.integers(1, 24), min_size=1, max_size=5)
SEEDS = st.integers(0, 1000)
SOME = Retention.fractions([0.7, 0.4, 0.0])


def same_answers(compressed, dense, batch, logits):
    """In fp32 but for rounding; in fp64, where rounding hides nothing, a thousand times nearer than fp32 can be."""
    same_logits(logits(compressed, batch), logits(dense, batch))
    if eliminating_encoder(compressed).get_submodule("enter").origins:
        return  # attention by position has parts that are fp32 in any dtype
    try:
        same_logits(logits(compressed.double(), batch), logits(dense.double(), batch), 1e-9)
    finally:
        compressed.float(), dense.float()


def same_logits(got, expected, tolerance=1e-5):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="session")
def spliced(make_model, family, encoder_of, traced):
    """A dense model and its encoder's graph with elimination at keep-all spliced in, the last layer not cut."""
    model = make_model(family)
    if isinstance(encoder_of(model), torch.nn.ModuleList):
        pytest.skip("its layers stand in the base model: there is no encoder to compare with")
    graph_module = traced(model)
    SpliceElimination(Retention.keep_all(LAYERS))(graph_module)
    return model, graph_module


@pytest.fixture(scope="session")
def family_model(make_model, family):
    """A compressed model of each family whose layout a test may change."""
    return wordelim.eliminate_(make_model(family), Retention.keep_all(LAYERS))


# --- 1. keep all = the dense model ------------------------------------------------------------------------


@pytest.mark.every_family
@given(lengths=LENGTHS, padding=st.integers(0, 9), seed=SEEDS)
def test_law_1_keeping_all_is_the_dense_encoder_bit_by_bit(spliced, make_batch, encoder_call, lengths, padding, seed):
    model, graph_module = spliced
    batch = make_batch(model, lengths, width=max(lengths) + padding, seed=seed)
    entered, dense = encoder_call(model, batch)
    with torch.no_grad():
        rows = graph_module(entered, batch["attention_mask"])
    real = batch["attention_mask"].bool()
    if family_of(model).own_attention:  # whose sums are made in another order
        same_logits(rows[real], dense[real])
    else:
        assert torch.equal(rows[real], dense[real])


@pytest.mark.every_family
@given(lengths=LENGTHS, padding=st.integers(0, 9), seed=SEEDS)
def test_law_1_keeping_all_is_the_dense_model(shared, make_batch, logits, lengths, padding, seed):
    # The last layer is cut to the first token: the same sums, which another matrix shape may round in another order.
    dense, compressed = shared
    wordelim.eliminate_(compressed, Retention.keep_all(LAYERS))
    batch = make_batch(dense, lengths, width=max(lengths) + padding, seed=seed)
    same_answers(compressed, dense, batch, logits)


def test_law_1_no_mask_means_all_tokens(shared, make_batch, logits):
    dense, compressed = shared
    wordelim.eliminate_(compressed, Retention.keep_all(LAYERS))
    ids = make_batch(dense, [7, 7])["input_ids"]
    same_answers(compressed, dense, {"input_ids": ids}, logits)


# --- 2. logits don't depend on the batch, nor on padding ---------------------------------------------------


@pytest.mark.every_family
@given(data=st.data(), lengths=LENGTHS, padding=st.integers(0, 20), seed=SEEDS)
def test_law_2_alone_in_a_batch_overpadded_and_permuted_are_the_same(
    shared, retentions, make_batch, logits, data, lengths, padding, seed
):
    _, model = shared
    wordelim.eliminate_(model, data.draw(retentions(LAYERS)))
    order = data.draw(st.permutations(range(len(lengths))))
    batch = make_batch(model, lengths, seed=seed)
    together = logits(model, batch)
    alone = [
        logits(model, {name: values[row : row + 1, :length] for name, values in batch.items()})
        for row, length in enumerate(lengths)
    ]
    same_logits(torch.cat(alone), together)
    same_logits(logits(model, make_batch(model, lengths, width=max(lengths) + padding, seed=seed)), together)
    same_logits(logits(model, {name: values[order] for name, values in batch.items()}), together[order])


@given(data=st.data(), lengths=LENGTHS, padding=st.integers(1, 9))
def test_law_2_what_stands_in_the_padding_is_never_seen(shared, retentions, make_batch, logits, data, lengths, padding):
    _, model = shared
    wordelim.eliminate_(model, data.draw(retentions(LAYERS)))
    batch = make_batch(model, lengths, width=max(lengths) + padding)
    batch["position_ids"] = torch.arange(2, batch["input_ids"].shape[1] + 2).expand_as(batch["input_ids"])
    expected = logits(model, batch)
    batch["input_ids"] = torch.where(batch["attention_mask"].bool(), batch["input_ids"], 9)
    same_logits(logits(model, batch), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_law_2_the_type_of_the_mask_is_no_matter(shared, make_batch, logits, dtype):
    _, model = shared
    wordelim.eliminate_(model, SOME)
    batch = make_batch(model, [9, 4])
    expected = logits(model, batch)
    assert torch.equal(logits(model, {**batch, "attention_mask": batch["attention_mask"].to(dtype)}), expected)


def test_law_2_left_padding_is_refused(shared, make_batch, logits):
    _, model = shared
    batch = make_batch(model, [9, 4])
    flipped = {name: values.flip(1) for name, values in batch.items()}
    with pytest.raises(UnsupportedModelError, match=r"Example 1 .* padded on the left.*padding_side"):
        logits(model, flipped)


def test_law_2_an_example_of_padding_alone_is_refused(shared, make_batch, logits):
    _, model = shared
    batch = make_batch(model, [9, 4, 2])
    batch["attention_mask"][1] = 0
    with pytest.raises(UnsupportedModelError, match=r"Example 1 .* padding alone.*leave out empty"):
        logits(model, batch)


def test_law_2_a_mask_of_four_dimensions_is_refused(shared, make_batch, logits):
    _, model = shared
    batch = make_batch(model, [5])
    with pytest.raises(UnsupportedModelError, match=r"4 dimensions.*\[batch, tokens\]"):
        logits(model, {**batch, "attention_mask": torch.ones(1, 1, 5, 5)})


# --- 3. packed = padded --------------------------------------------------------------------------------------


@pytest.mark.every_family
@given(data=st.data(), lengths=LENGTHS, padding=st.integers(0, 9), seed=SEEDS)
def test_law_3_packed_is_padded(family_model, retentions, make_batch, logits, data, lengths, padding, seed):
    wordelim.eliminate_(family_model, data.draw(retentions(LAYERS)))
    batch = make_batch(family_model, lengths, width=max(lengths) + padding, seed=seed)
    found = {}
    for layout in ("packed", "padded", "auto"):
        eliminating_encoder(family_model).layout = layout
        found[layout] = logits(family_model, batch)
    same_logits(found["packed"], found["padded"])
    assert torch.equal(found["auto"], found["packed"])


@pytest.mark.every_family
def test_law_3_a_layout_changes_no_gradient(family_model, make_batch):
    wordelim.eliminate_(family_model, SOME)
    batch = make_batch(family_model, [9, 4, 9])
    gradients = []
    for layout in ("padded", "packed"):
        eliminating_encoder(family_model).layout = layout
        family_model.zero_grad()
        family_model(**batch).logits.square().sum().backward()
        gradients.append([p.grad.clone() for p in family_model.parameters() if p.grad is not None])
    for padded, packed in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-4)


# --- 4. nothing of the model changes but its encoder's forward ----------------------------------------------


def signature(model):
    """Names, order, types and places of a model's weights, and what the config says."""
    return [(key, value.dtype, value.data_ptr()) for key, value in model.state_dict().items()]


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


@pytest.mark.every_family
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_law_4_eliminate_changes_no_weight_and_restore_gives_the_dense_model(
    make_model, family, encoder_of, make_batch, logits, enable_checkpointing, implementation
):
    if implementation == "sdpa" and not make_model(family)._supports_sdpa:
        pytest.skip("it computes attention itself, in one way")
    model = make_model(family, attn_implementation=implementation)
    assert model.config._attn_implementation == implementation
    batch = make_batch(model, [9, 4, 12])
    expected, weights, config = logits(model, batch), signature(model), model.config.to_dict()
    model_class, encoder, attributes = type(model), encoder_of(model), set(vars(model))
    names = [name for name, _ in model.named_modules()]

    returned = wordelim.eliminate_(model, SOME)
    assert returned is model
    assert type(model) is model_class
    assert signature(model) == weights
    assert [name for name, _ in model.named_parameters()] == [key for key, _, _ in weights if "position_ids" not in key]
    assert encoder_of(model) is not encoder
    assert wordelim.retention_of(model) == SOME

    assert wordelim.restore_(model) is model
    assert encoder_of(model) is encoder
    assert signature(model) == weights
    assert model.config.to_dict() == config
    assert "quantization_config" not in vars(model.config)
    assert model.config._attn_implementation == implementation
    assert set(vars(model)) == attributes
    assert [name for name, _ in model.named_modules()] == names
    assert not model.base_model._forward_pre_hooks
    assert not model.base_model._forward_pre_hooks_with_kwargs
    assert torch.equal(logits(model, batch), expected)
    if model.supports_gradient_checkpointing:
        enable_checkpointing(model)


@pytest.mark.parametrize("training", [False, True])
def test_law_4_the_training_mode_of_every_module_is_kept(model, encoder_of, training):
    model.train(training)
    model.classifier.train(not training)
    # A frozen part of the encoder, as some people train.
    inner = next(module for module in encoder_of(model).modules() if isinstance(module, torch.nn.LayerNorm))
    inner.train(not training)
    before = modes(model)
    wordelim.eliminate_(model, SOME)
    during = modes(model)
    assert {name: during[name] for name in before} == before
    assert {mode for name, mode in during.items() if name not in before} == {training}
    again = copy.deepcopy(model)
    assert modes(again) == during
    assert modes(wordelim.restore_(again)) == before
    wordelim.restore_(model)
    assert modes(model) == before


def test_law_4_the_mode_follows_the_compressed_model(model):
    wordelim.eliminate_(model, SOME).train()
    assert all(modes(model).values())
    assert all(modes(copy.deepcopy(model)).values())
    wordelim.restore_(model)
    assert all(modes(model).values())


def test_law_4_eliminating_twice_changes_the_retention_and_nothing_else(model, encoder_of, make_batch, logits):
    batch = make_batch(model, [9, 4, 12])
    other = Retention.counts([8, 3, 1])
    once = logits(wordelim.eliminate_(copy.deepcopy(model), other), batch)
    wordelim.eliminate_(model, SOME)
    encoder = encoder_of(model)
    wordelim.eliminate_(model, other)
    assert encoder_of(model) is encoder
    assert len(model.base_model._forward_pre_hooks) == 1
    assert wordelim.retention_of(model) == other
    assert model.config.quantization_config == {"quant_method": "wordelim", **other.to_dict()}
    assert torch.equal(logits(model, batch), once)


def test_law_4_random_numbers_are_not_used_up(model):
    before = torch.get_rng_state()
    wordelim.eliminate_(model, SOME)
    assert torch.equal(torch.get_rng_state(), before)


def test_law_4_a_failed_elimination_leaves_the_model_as_it_was(model, encoder_of, make_batch, logits):
    batch = make_batch(model, [9, 4])
    expected, encoder, config = logits(model, batch), encoder_of(model), model.config.to_dict()
    with pytest.raises(RetentionError, match="5 values, but the model has 3 layers"):
        wordelim.eliminate_(model, Retention.keep_all(5))
    assert encoder_of(model) is encoder
    assert model.config.to_dict() == config
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(logits(model, batch), expected)
    wordelim.eliminate_(model, SOME)
    with pytest.raises(RetentionError, match="2 values, but the model has 3 layers"):
        wordelim.eliminate_(model, Retention.keep_all(2))
    assert wordelim.retention_of(model) == SOME


def train_a_step(model, batch):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loss = model(**batch, labels=torch.arange(len(batch["input_ids"])) % model.config.num_labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    model.eval()


def test_law_4_a_training_step_moves_the_dense_models_weights(make_model, family, make_batch, logits):
    dense, model = make_model(family), make_model(family)
    batch = make_batch(model, [9, 4, 12])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    wordelim.eliminate_(model, SOME)
    train_a_step(model, batch)
    trained = {key: value.clone() for key, value in model.state_dict().items()}
    assert any(not torch.equal(trained[key], before[key]) for key in before if "layer" in key)
    dense.load_state_dict(trained)
    wordelim.restore_(model)
    assert torch.equal(logits(model, batch), logits(dense, batch))


def by_pickle(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle])
def test_law_4_a_copy_is_a_compressed_model_of_its_own(make_model, family, encoder_of, make_batch, logits, copied):
    model = make_model(family)
    batch = make_batch(model, [9, 4, 12])
    dense = logits(model, batch)
    wordelim.eliminate_(model, SOME)
    expected = logits(model, batch)
    other = copied(model)
    assert type(other) is type(model)
    assert list(other.state_dict()) == list(model.state_dict())
    assert wordelim.retention_of(other) == SOME
    assert torch.equal(logits(other, batch), expected)
    # It shares nothing with the first.
    wordelim.eliminate_(other, Retention.counts([4, 2, 1]))
    train_a_step(other, batch)
    assert wordelim.retention_of(model) == SOME
    assert torch.equal(logits(model, batch), expected)
    # And it has all that it needs to be restored.
    again = copied(model)
    assert torch.equal(logits(wordelim.restore_(again), batch), dense)
    assert type(encoder_of(again)).__name__ != type(encoder_of(model)).__name__
    assert again.config._attn_implementation == "sdpa"
    assert wordelim.retention_of(model) == SOME
    wordelim.restore_(model)
    assert torch.equal(logits(model, batch), dense)


def test_law_4_what_is_not_compressed_cannot_be_restored(model):
    with pytest.raises(UnsupportedModelError, match="isn't compressed"):
        wordelim.restore_(model)
    with pytest.raises(UnsupportedModelError, match="isn't compressed"):
        wordelim.retention_of(model)


# --- 5. save -> load -> same logits -------------------------------------------------------------------------

PLAIN = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification
assert "wordelim" not in sys.modules
state = {}
for directory in sys.argv[1:]:
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    base = model.base_model
    encoder = type(getattr(base, "encoder", None) or base.transformer).__name__
    with torch.no_grad():
        logits = model(torch.arange(4, 12)[None]).logits
    weights = [[key, float(value.double().sum())] for key, value in model.state_dict().items()]
    state[directory] = [encoder, logits.tolist(), weights]
print(json.dumps(state))
"""


@pytest.fixture(scope="session")
def saved(make_model, make_tokenizer, family, tmp_path_factory):
    """A compressed model of each family, and the directory that it was saved to: change neither."""
    model = wordelim.eliminate_(make_model(family), SOME)
    return model, save(model, make_tokenizer(family), tmp_path_factory.mktemp(family) / "out")


@pytest.mark.every_family
def test_law_5_saved_and_loaded_gives_the_same_logits(saved, make_batch, logits):
    model, directory = saved
    batch = make_batch(model, [9, 4, 12])
    expected = logits(model, batch)
    for loaded in (
        wordelim.load(directory),
        AutoModelForSequenceClassification.from_pretrained(directory),
        type(model).from_pretrained(directory),
    ):
        assert type(loaded) is type(model)
        assert wordelim.retention_of(loaded) == SOME
        assert not loaded.training
        assert list(loaded.state_dict()) == list(model.state_dict())
        assert torch.equal(logits(loaded, batch), expected)


def test_law_5_a_loaded_model_is_an_ordinary_one(saved, make_model, family, make_batch, logits, tmp_path):
    model, directory = saved
    batch = make_batch(model, [9, 4, 12])
    loaded = wordelim.load(directory)
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(wordelim.load(tmp_path / "again"), batch), logits(model, batch))
    assert next(loaded.half().parameters()).dtype == torch.float16
    assert next(loaded.float().parameters()).dtype == torch.float32
    wordelim.restore_(wordelim.load(directory)).save_pretrained(tmp_path / "dense")
    dense = AutoModelForSequenceClassification.from_pretrained(tmp_path / "dense")
    assert torch.equal(logits(dense, batch), logits(make_model(family), batch))
    assert not hasattr(dense.config, "quantization_config")
    config = json.loads((tmp_path / "dense" / "config.json").read_text())
    assert "wordelim" not in json.dumps(config)


def test_law_5_the_directory_is_what_transformers_writes_plus_one_entry(saved, make_model, family, tmp_path):
    _, directory = saved
    make_model(family).save_pretrained(tmp_path / "dense")
    written = json.loads((directory / "config.json").read_text())
    assert written.pop("quantization_config") == {
        "quant_method": "wordelim",
        "version": 1,
        "kind": "fraction",
        "keep": [0.7, 0.4, 0.0],
        "min_tokens": 1,
        "protect": ["first"],
        "restore": False,
    }
    assert written == json.loads((tmp_path / "dense" / "config.json").read_text())
    assert (directory / "model.safetensors").read_bytes() == (tmp_path / "dense" / "model.safetensors").read_bytes()


def test_law_5_pipeline_gives_the_same_scores(saved, texts, logits):
    model, directory = saved
    tokenizer = AutoTokenizer.from_pretrained(directory)
    expected = logits(model, tokenizer(texts, padding=True, return_tensors="pt")).softmax(-1)
    classify = pipeline("text-classification", model=str(directory), device="cpu", top_k=None)
    assert wordelim.retention_of(classify.model) == SOME
    for batch_size in (1, 4):
        for result, scores in zip(classify(texts, batch_size=batch_size), expected, strict=True):
            by_label = {entry["label"]: entry["score"] for entry in result}
            same_logits(torch.tensor([by_label[model.config.id2label[i]] for i in range(3)]), scores)


def test_law_5_trainer_evaluates_predicts_and_trains(saved, texts, logits, tmp_path):
    model, directory = saved
    tokenizer = AutoTokenizer.from_pretrained(directory)
    encoded = tokenizer(texts)
    data = datasets.Dataset.from_dict({**encoded, "labels": [i % 3 for i in range(len(texts))]})
    arguments = TrainingArguments(
        tmp_path / "runs", per_device_eval_batch_size=3, max_steps=1, report_to=[], disable_tqdm=True, use_cpu=True,
        save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    trainer = Trainer(
        wordelim.load(directory), arguments, eval_dataset=data, train_dataset=data, processing_class=tokenizer
    )
    expected = logits(model, tokenizer(texts, padding=True, return_tensors="pt"))
    loss = torch.nn.functional.cross_entropy(expected, torch.tensor(data["labels"]))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(loss), abs=1e-5)
    same_logits(torch.from_numpy(trainer.predict(data).predictions), expected)
    trainer.train()
    assert wordelim.retention_of(trainer.model) == SOME
    trainer.save_model(tmp_path / "trained")
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    trainer.model.eval()
    assert torch.equal(logits(wordelim.load(tmp_path / "trained"), batch), logits(trainer.model, batch))


def test_law_5_without_the_import_it_loads_as_the_dense_model(make_model, make_tokenizer, encoder_of, tmp_path, logits):
    expected, directories = {}, []
    for name in ("bert", "roberta", "albert", "distilbert"):
        dense = make_model(name)
        ids = {"input_ids": torch.arange(4, 12)[None]}
        weights = [[key, float(value.double().sum())] for key, value in dense.state_dict().items()]
        directory = save(wordelim.eliminate_(copy.deepcopy(dense), SOME), make_tokenizer(name), tmp_path / name)
        directories.append(str(directory))
        expected[str(directory)] = (type(encoder_of(dense)).__name__, logits(dense, ids), weights)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *directories], capture_output=True, text=True, env=environment, check=True
    )
    assert "wordelim" in done.stderr, "transformers warns that it doesn't know this quantization method"
    loaded = json.loads(done.stdout)
    for directory, (encoder, dense_logits, weights) in expected.items():
        assert loaded[directory][0] == encoder
        same_logits(torch.tensor(loaded[directory][1]), dense_logits, 1e-6)
        assert loaded[directory][2] == weights


def test_law_5_a_directory_written_by_version_0_1_0_still_loads(logits):
    golden = json.loads((FIXTURES / "v1-bert" / "expected.json").read_text())
    model = wordelim.load(FIXTURES / "v1-bert")
    tokenizer = AutoTokenizer.from_pretrained(FIXTURES / "v1-bert")
    assert wordelim.retention_of(model) == Retention.from_dict(golden["retention"])
    batch = tokenizer(golden["texts"], padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == golden["input_ids"]
    same_logits(logits(model, batch), torch.tensor(golden["logits"]), 1e-4)
    same_logits(logits(wordelim.restore_(model), batch), torch.tensor(golden["dense_logits"]), 1e-4)


# --- 6. counts -----------------------------------------------------------------------------------------------


@given(data=st.data(), length=st.integers(1, 600))
def test_law_6_counts_never_grow_never_exceed_and_never_fall_short(retentions, data, length):
    retention = data.draw(retentions(6))
    path = retention.path(length)
    assert len(path) == 6
    assert all(after <= before for before, after in zip((length, *path), path, strict=False))
    assert all(count >= min(length, max(retention.min_tokens, retention.protected_first)) for count in path)


@pytest.mark.every_family
@given(data=st.data(), lengths=LENGTHS, padding=st.integers(0, 9), seed=SEEDS)
def test_law_6_what_leaves_each_layer_is_what_retention_says(
    shared, retentions, encoder_of, make_batch, logits, data, lengths, padding, seed
):
    _, model = shared
    retention = data.draw(retentions(LAYERS))
    wordelim.eliminate_(model, retention)
    seen = []
    modules = [module for module in encoder_of(model).children() if isinstance(module, (HardExtract, FirstToken))]
    assert len(modules) == LAYERS
    hooks = [module.register_forward_hook(lambda m, args, output: seen.append((m, output))) for module in modules]
    try:
        logits(model, make_batch(model, lengths, width=max(lengths) + padding, seed=seed))
    finally:
        for hook in hooks:
            hook.remove()
    paths = [retention.path(length) for length in lengths]
    for layer, (module, extracted) in enumerate(seen):
        last = layer == LAYERS - 1
        assert isinstance(module, FirstToken if last else HardExtract)
        expected = (1,) * len(lengths) if last else tuple(path[layer] for path in paths)
        packages = [retention.package and not last and left < n for left, n in zip(expected, lengths, strict=True)]
        whole = tuple(left + package for left, package in zip(expected, packages, strict=True))
        if isinstance(extracted.tokens, Packed):
            lie = sorted(range(len(lengths)), key=lambda example: (-lengths[example], example))
            counts = [run.alive for run in extracted.tokens.runs for _ in range(run.examples)]
            assert counts == [expected[example] for example in lie]
            assert extracted.tokens.places.tolist() == [lie.index(example) for example in range(len(lengths))]
            assert extracted.context.shape[:2] == (1, sum(whole))
            continue
        assert extracted.tokens.counts == expected
        mask = extracted.tokens.mask
        rows = extracted.context.shape[1]
        real = torch.full((len(lengths),), rows) if mask is None else mask.sum(1)
        assert tuple(real.tolist()) == whole
        if layer and extracted.rows is not None:
            assert rows == max(expected) + any(packages)
