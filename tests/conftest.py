"""Tiny models and tokenizers, built here: no test needs the network."""

# ruff: noqa: E402

import copy
import gc
import hashlib
import importlib
import json
import os
import random
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager

# Garbage is looked for less often than usual: what is imported is none, and tests leave little.
gc.set_threshold(10_000, 20, 20)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Triton reads this once, when something first imports it: without a GPU its interpreter runs the kernels.
os.environ.setdefault("TRITON_INTERPRET", str(int(not os.path.exists("/dev/nvidiactl"))))

import datasets
import pytest
import torch
import tqdm.std
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from wordelim import Retention, eliminate_
from wordelim.adapters import family_of
from wordelim.elimination.card import plain
from wordelim.elimination.card.graphs import GRAPHS
from wordelim.elimination.significance import to_text
from wordelim.evaluation.timing import interleave
from wordelim.graph import card
from wordelim.graph.graphed import Graphed
from wordelim.graph.splice import eliminating_encoder
from wordelim.graph.trace import ATTENTION, trace

from .families import FAMILIES, RELATIVES, ROBERTA, Tiny, tiny_config, tiny_of

# The usual one is between processes too, and stays with a child that is killed while it has it.
tqdm.std.tqdm.set_lock(threading.RLock())
# It is of all that a data set holds, takes longer than what is done with so few rows, and nothing here asks for it.
datasets.arrow_dataset.generate_fingerprint = lambda dataset: datasets.fingerprint.generate_random_fingerprint()
# Models this small are slower on many threads than on one.
torch.set_num_threads(1)
# The same examples in every run; a shared tiny model is no reason to complain.
settings.register_profile(
    "wordelim",
    deadline=None,
    derandomize=True,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("wordelim")


_modules = 0


def pytest_runtest_setup(item):
    """What is imported stays, and so needn't be looked through whenever something collects garbage, as Trainer does."""
    global _modules
    if len(sys.modules) > _modules + 200:
        _modules = len(sys.modules)
        gc.collect()
        gc.freeze()


RELATIVE_EXAMPLES = 3
LAYERS = 3
SENTENCE = (
    "good bad film the a plot is it was not very one two three great poor acting story long short of and but with for "
    "this that an really most least ever never seen made like love hate time year man woman child dog cat house city "
    "day night end start music light sound word"
)
WORDS = SENTENCE.split()
HEADS = {
    "sequence": AutoModelForSequenceClassification,
    "choice": AutoModelForMultipleChoice,
    "token": AutoModelForTokenClassification,
    "answer": AutoModelForQuestionAnswering,
    "none": AutoModel,
}


def pytest_collection_modifyitems(config, items):
    """Leave out what would run on a relative for no reason, and put first what takes longest."""

    def relative(item) -> bool:
        return getattr(item, "callspec", None) is not None and item.callspec.params.get("family") in RELATIVES

    # What starts processes of its own takes longest: it comes first, lest a worker be alone with it in the end.
    items.sort(key=lambda item: item.path.parent.name != "serving")
    left_out = [item for item in items if relative(item) and not item.get_closest_marker("every_family")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    examples = getattr(item.function, "_hypothesis_internal_use_settings", None)
    if (
        examples is None
        or getattr(item, "callspec", None) is None
        or item.callspec.params.get("family") not in RELATIVES
    ):
        return (yield)
    item.function._hypothesis_internal_use_settings = settings(examples, max_examples=RELATIVE_EXAMPLES)
    try:
        return (yield)
    finally:
        item.function._hypothesis_internal_use_settings = examples


@pytest.fixture(scope="session")
def perturb() -> Callable[[torch.nn.Module, int], None]:
    """Move every parameter, so that attention isn't uniform and no bias is zero."""

    def move(model: torch.nn.Module, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)

    return move


@pytest.fixture(scope="session")
def make_model(perturb) -> Callable[..., PreTrainedModel]:
    """``make_model(family, layers=3, labels=3, seed=0, head="sequence", **config)``: a new dense model in eval mode."""

    def make(
        family: str, *, layers: int = LAYERS, labels: int = 3, seed: int = 0, head: str = "sequence", **changes
    ) -> PreTrainedModel:
        labels = 2 if head == "answer" else labels  # the start and the end
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = HEADS[head].from_config(tiny_config(family, num_hidden_layers=layers, num_labels=labels, **changes))
        perturb(model, seed)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[[str], PreTrainedTokenizerFast]:
    """``make_tokenizer(family)``: one word, one token; the special tokens are the family's own."""

    def make(family: str) -> PreTrainedTokenizerFast:
        special, types = tiny_of(family).special, ["token_type_ids"] if tiny_of(family).token_types else []
        vocabulary = {word: index for index, word in enumerate((*special.tokens, *WORDS))}
        built = Tokenizer(models.WordLevel(vocabulary, unk_token=special.unknown))
        built.pre_tokenizer = pre_tokenizers.Whitespace()
        first, separator, second = special.first, special.separator, int(special != ROBERTA)
        built.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {separator}",
            pair=f"{first} $A {separator} $B:{second} {separator}:{second}",
            special_tokens=[(first, vocabulary[first]), (separator, vocabulary[separator])],
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=built,
            pad_token=special.pad,
            unk_token=special.unknown,
            cls_token=first,
            sep_token=separator,
            model_max_length=64,
            model_input_names=["input_ids", *types, "attention_mask"],
        )

    return make


@pytest.fixture(scope="session", params=FAMILIES)
def family(request) -> str:
    """Every family in turn; relatives only in tests that are marked every_family."""
    return request.param


@pytest.fixture(scope="session")
def family_names() -> tuple[str, ...]:
    """Every family that the laws are tested on."""
    return tuple(FAMILIES)


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], Tiny]:
    """``tiny(family)``: its row of the table of tiny models."""
    return tiny_of


@pytest.fixture
def model(make_model, family) -> PreTrainedModel:
    """A dense classifier of each family, the test's own to change."""
    return make_model(family)


@pytest.fixture
def bert(make_model) -> PreTrainedModel:
    """A dense BERT classifier, for what doesn't depend on the family."""
    return make_model("bert")


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer, family) -> PreTrainedTokenizerFast:
    """The tokenizer of each family."""
    return make_tokenizer(family)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Texts of 1 to 30 known words, long and short mixed."""
    generator = torch.Generator().manual_seed(7)
    lengths = [12, 1, 30, 5, 8, 21, 3, 17]
    return [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (n,), generator=generator).tolist()) for n in lengths]


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., dict[str, torch.Tensor]]:
    """``make_batch(model, lengths, width=None, seed=0)``: random token ids padded on the right, with their mask.

    The tokens of example i depend on ``seed``, on i and on nothing else.
    """

    def make(model, lengths: Sequence[int], *, width: int | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
        width = width or max(lengths)
        ids = torch.full((len(lengths), width), model.config.pad_token_id)
        mask = torch.zeros(len(lengths), width, dtype=torch.long)
        for row, length in enumerate(lengths):
            generator = torch.Generator().manual_seed(1000 * seed + row)
            ids[row, :length] = torch.randint(4, model.config.vocab_size, (width + 64,), generator=generator)[:length]
            mask[row, :length] = 1
        return {"input_ids": ids, "attention_mask": mask}

    return make


@pytest.fixture(scope="session")
def logits() -> Callable[..., torch.Tensor]:
    """``logits(model, batch)`` without gradients."""

    def run(model, batch) -> torch.Tensor:
        with torch.no_grad():
            return model(**batch).logits

    return run


@pytest.fixture(scope="session")
def encoder_of():
    """``encoder_of(model)``: the encoder module, dense or rewritten."""

    def find(model) -> torch.nn.Module:
        return getattr(model.base_model, family_of(model).encoder)

    return find


@pytest.fixture(scope="session")
def encoder_call(encoder_of):
    """``encoder_call(model, batch)``: the embeddings that enter a model's encoder, and the rows that leave it."""

    def call(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
        seen = []
        handle = encoder_of(model).register_forward_hook(
            lambda module, args, kwargs, output: seen.append((args, kwargs, output)), with_kwargs=True
        )
        try:
            with torch.no_grad():
                model(**batch)
        finally:
            handle.remove()
        ((args, kwargs, output),) = seen
        entered = args[0] if args else kwargs["hidden_states"]
        return entered, output.last_hidden_state

    return call


@pytest.fixture(scope="session")
def enable_checkpointing() -> Callable[[PreTrainedModel], None]:
    """``enable_checkpointing(model)``: turn on gradient checkpointing, whichever name transformers has for it."""

    def enable(model) -> None:
        name = "activation_checkpointing_enable"
        getattr(model, name if hasattr(model, name) else "gradient_checkpointing_enable")()

    return enable


@pytest.fixture(scope="session")
def traced(encoder_of):
    """``traced(model)``: a dense model's encoder as a GraphModule that no pass has touched."""

    @contextmanager
    def under_wordelim(config):
        before = config._attn_implementation
        config._attn_implementation = ATTENTION
        try:
            yield
        finally:
            config._attn_implementation = before

    def make(model) -> torch.fx.GraphModule:
        encoder = encoder_of(model)
        with under_wordelim(model.config):
            adapter = family_of(model)
            graph, _ = trace(encoder, getattr(model.config, adapter.width), adapter.run, adapter.own_attention)
        return torch.fx.GraphModule(encoder, graph).train(encoder.training)

    return make


@pytest.fixture(scope="session")
def saved_model(make_model, make_tokenizer, tmp_path_factory):
    """``saved_model(family, **options of make_model)``: where that model lies with its tokenizer. Copy it."""
    saved = {}

    def save(family: str, **options):
        key = repr((family, sorted(options.items())))
        if key not in saved:
            saved[key] = tmp_path_factory.mktemp("saved")
            make_model(family, **options).save_pretrained(saved[key])
            make_tokenizer(family).save_pretrained(saved[key])
        return saved[key]

    return save


@pytest.fixture
def make_model_dir(saved_model, tmp_path):
    """``make_model_dir(family, name="dense", **options of make_model)``: a dense model directory with its tokenizer."""

    def make(family: str = "bert", name: str = "dense", **options):
        return shutil.copytree(saved_model(family, **options), tmp_path / name, dirs_exist_ok=True)

    return make


@pytest.fixture(scope="session")
def traced_once(tmp_path_factory):
    """``with traced_once():`` a model is traced for export once, whichever test of whichever worker is the first.

    Two models are the same where their class, config and weights are.
    """
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place

    def key_of(model, sample, opset) -> str:
        config = model.config.to_dict()
        said = [type(model).__name__, {name: config[name] for name in config if not name.startswith("_")}, [*sample]]
        key = hashlib.sha256(json.dumps([*said, opset], default=str, sort_keys=True).encode())
        for name, tensor in model.state_dict().items():
            key.update(f"{name} {tensor.dtype}".encode())
            key.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
        return key.hexdigest()[:20]

    @contextmanager
    def once():
        import onnx_ir

        from wordelim.exporting import program

        trace = program._traced

        def kept(model, sample, opset):
            shared = place / f"{key_of(model, sample, opset)}.onnx"
            if not shared.exists():
                own = tmp_path_factory.mktemp("traced") / shared.name
                onnx_ir.save(trace(model, sample, opset), own)
                own.replace(shared)
            return onnx_ir.load(shared)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(program, "_traced", kept)
            yield

    return once


@pytest.fixture
def one_round(monkeypatch):
    """Whatever is timed is timed once: how fast these models are is no matter here."""
    for name in ("verbs.probe", "verbs.export", "evaluation.speedups", "evaluation.timing"):
        module = importlib.import_module(f"wordelim.{name}")
        monkeypatch.setattr(module, "interleave", lambda runs, rounds, **options: interleave(runs, 1, **options))


@pytest.fixture(scope="session")
def edit_json():
    """``edit_json(path, change)``: rewrite a JSON file after ``change(data)``."""

    def edit(path, change) -> None:
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return edit


@pytest.fixture(scope="session")
def random_maps() -> Callable[..., tuple[str, ...]]:
    """``random_maps(layers, seed=1)``: a linear map of the tiny models' value vectors for each layer."""

    def make(layers: int, seed: int = 1) -> tuple[str, ...]:
        drawn = torch.randn(layers, 32, generator=torch.Generator().manual_seed(seed))
        return tuple(map(to_text, drawn))

    return make


def replayed(work, pool):
    """In place of a graph: the same work again, on the same buffers."""
    return work


@pytest.fixture(scope="session")
def by_engine():
    """``with by_engine():`` models answer as on a card, compressed ones by the engine; it gives those that answered."""

    @contextmanager
    def use(ops=plain, capture=replayed):
        used, engine_of = [], card.OnACard.engine

        def noted(self, *given):
            used.append(engine_of(self, *given))
            return used[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(card.OnACard, "is_card", staticmethod(lambda device: True))
            patch.setattr(card.OnACard, "ops", staticmethod(lambda: ops))
            patch.setattr(card.OnACard, "capture", staticmethod(capture))
            patch.setattr(card.OnACard, "engine", noted)
            patch.setattr(card, "triton_serves", lambda dtype, size: True)
            patch.setattr(Graphed.__init__, "__defaults__", (capture, GRAPHS))
            yield used

    return use


@pytest.fixture(scope="session")
def retentions(random_maps):
    """``retentions(layers)``: a hypothesis strategy of retentions by fraction and by count, with every option."""

    def of(layers: int) -> st.SearchStrategy[Retention]:
        def build(kind: str, keep: list[float], min_tokens: int, protected: int, package: bool, maps: int) -> Retention:
            protect = ("first",) if protected == 1 else (f"first:{protected}",)
            falling = tuple(sorted(keep, reverse=True))
            significance = random_maps(layers, maps) if maps else "attention"
            return Retention(
                falling, kind, min_tokens=min_tokens, protect=protect, package=package, significance=significance
            )

        def sized(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
            return st.lists(values, min_size=layers, max_size=layers)

        options = (st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 2))
        by_fraction = st.builds(build, st.just("fraction"), sized(st.floats(0, 1)), *options)
        by_count = st.builds(build, st.just("count"), sized(st.integers(0, 30)), *options)
        return by_fraction | by_count

    return of


@pytest.fixture(scope="session", params=["padded", "packed"])
def shared(make_model, family, request) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A dense model of each family and the same one compressed, in each layout.

    Change nothing but its retention, with eliminate_.
    """
    dense = make_model(family)
    compressed = eliminate_(copy.deepcopy(dense), Retention.keep_all(LAYERS))
    eliminating_encoder(compressed).layout = request.param
    return dense, compressed


@pytest.fixture(scope="session")
def make_texts() -> Callable[..., datasets.Dataset]:
    """``make_texts(rows, seed=0)``: texts of 4 to 16 words; each holds "good" (label 1) or "bad" (label 0) once."""

    def make(rows: int, seed: int = 0) -> datasets.Dataset:
        choice, neutral = random.Random(seed), ("film", "plot", "acting", "story", "man", "woman", "cat", "house")
        texts = []
        for row in range(rows):
            words = choice.choices(neutral, k=choice.randint(4, 16))
            words[choice.randrange(len(words))] = ("bad", "good")[row % 2]
            texts.append(" ".join(words))
        return datasets.Dataset.from_dict({"text": texts, "label": [row % 2 for row in range(rows)]})

    return make
