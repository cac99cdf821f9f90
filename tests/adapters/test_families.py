"""Families as data: what is known, how one is added, and what the document says of them."""

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertTokenizerFast,
    PreTrainedModel,
    pipeline,
)

import wordelim
from wordelim import Retention, adapters
from wordelim.adapters import Family, families
from wordelim.checkpoint.directory import save
from wordelim.errors import UnsupportedModelError
from wordelim.graph.splice import eliminating_encoder
from wordelim.graph.support import REFUSED_HEADS as REFUSED

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "families.md"


@pytest.fixture
def registry(monkeypatch):
    """What a test registers is forgotten."""
    monkeypatch.setattr(adapters, "_FAMILIES", dict(adapters._FAMILIES))
    adapters._read_entry_points.cache_clear()
    yield
    adapters._read_entry_points.cache_clear()


def test_every_family_is_held_to_the_laws(family_names):
    assert {family.model_type for family in families()} == set(family_names)


def test_the_table_in_the_document_is_not_stale():
    spec = importlib.util.spec_from_file_location("families_table", ROOT / "tests" / "families_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = DOCUMENT.read_text(encoding="utf-8")
    assert module.renewed(text) == text, "run python tests/families_table.py"


def test_the_example_in_the_document_runs(registry):
    text = DOCUMENT.read_text(encoding="utf-8")
    (code,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", text, re.DOTALL)
    small = "hidden_size=32, num_attention_heads=4, intermediate_size=48, vocab_size=64, question_token_id=5, "
    names = {}
    exec(code.replace("SplinterConfig(", f"SplinterConfig({small}"), names)
    model = names["model"]
    ids = torch.arange(4, 20)[None]
    with torch.no_grad():
        dropped = model(ids).start_logits
        wordelim.eliminate_(model, Retention.keep_all(3))
        kept = model(ids).start_logits
        dense = wordelim.restore_(model)(ids).start_logits
    assert dropped.shape == dense.shape
    torch.testing.assert_close(kept, dense, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(dropped, dense)


TINY = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 3}
# Tokens that a default config places beyond a tiny vocabulary.
PLACES = ("pad", "bos", "eos", "cls", "sep", "mask")


def default_config(name, renamed):
    """The config that transformers gives a family, of a tiny model."""
    fields = AutoConfig.for_model(name).to_dict()
    special = {
        f"{place}_token_id": at for at, place in enumerate(PLACES) if (fields.get(f"{place}_token_id") or 0) > 63
    }
    sizes = {renamed.get(size, size): value for size, value in TINY.items()}
    sizes |= {size: 64 for size in ("pronunciation_vocab_size", "shape_vocab_size") if size in fields}
    return AutoConfig.for_model(name, **sizes, **special)


def heads_of(config):
    """Every class that transformers has for a config."""
    module = importlib.import_module(type(config).__module__.replace("configuration", "modeling"))
    classes = [each for each in vars(module).values() if inspect.isclass(each) and issubclass(each, PreTrainedModel)]
    own = [
        each for each in classes if each.__module__ == module.__name__ and not each.__name__.endswith("TrainedModel")
    ]
    return [each for each in own if each.config_class is type(config)]


@pytest.mark.every_family
def test_every_head_of_a_default_config_is_served_or_has_its_reason_in_the_document(family, tiny, perturb):
    text, served = DOCUMENT.read_text(encoding="utf-8"), []
    renamed = tiny(family).renamed
    for model_class in heads_of(default_config(family, renamed)):
        model = model_class(default_config(family, renamed)).eval()
        perturb(model, 0)
        ids = torch.randint(6, 60, (2, 9), generator=torch.Generator().manual_seed(0))
        mask = (torch.arange(9) < torch.tensor([[9], [5]])).long()
        batch = {"input_ids": ids, "attention_mask": mask}
        if model_class.__name__.endswith("ForMultipleChoice"):
            batch = {name: values[None] for name, values in batch.items()}
        refused = [ending for ending in REFUSED if model_class.__name__.endswith(ending)]
        if refused:
            with pytest.raises(UnsupportedModelError, match=REFUSED[refused[0]]):
                wordelim.eliminate_(model, Retention.keep_all(3))
            assert f"`*{refused[0]}`" in text
            continue
        with torch.no_grad():
            dense = model(**batch)
        wordelim.eliminate_(model, Retention.keep_all(3))
        served.append(model_class.__name__)
        real = batch["attention_mask"].bool() if wordelim.retention_of(model).restore else slice(None)
        for layout in ("packed", "padded"):
            eliminating_encoder(model).layout = layout
            with torch.no_grad():
                kept = model(**batch)
            for name, values in dense.items():
                at = real if values.shape[:2] == mask.shape else slice(None)
                torch.testing.assert_close(kept[name][at], values[at], rtol=1e-5, atol=1e-5)
        wordelim.eliminate_(model, Retention.fractions([0.7, 0.4, 0.2]))
        with torch.no_grad():
            assert all(values.isfinite().all() for values in model(**batch).values())
    assert len(served) > 2


class Entry:
    """An entry point as an installed package would offer it."""

    def __init__(self, name, loaded):
        self.name = name
        self.loaded = loaded

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def test_families_come_from_entry_points(registry, monkeypatch):
    offered = [Entry("splinter", Family("splinter")), Entry("bert", Family("bert", encoder="another"))]
    monkeypatch.setattr(adapters, "entry_points", lambda group: offered if group == "wordelim.adapters" else [])
    assert "splinter" in [family.model_type for family in families()]
    assert next(family for family in families() if family.model_type == "bert").encoder == "encoder"


@pytest.mark.parametrize(
    ("loaded", "match"),
    [(ImportError("no module"), "'broken' .*can't be loaded .no module.*remove its package"), (7, "is a int.*Family")],
)
def test_an_entry_point_that_is_no_family_is_named(registry, monkeypatch, loaded, match):
    monkeypatch.setattr(adapters, "entry_points", lambda group: [Entry("broken", loaded)])
    with pytest.raises(UnsupportedModelError, match=match):
        families()


ABSTRACTS = (
    "Mutations in the BRCA1 gene predispose women to breast and ovarian cancer.",
    "The MDM2 oncoprotein inhibits p53 and is amplified in human sarcomas.",
    "Deficiency of glucose-6-phosphate dehydrogenase causes haemolytic anaemia.",
    "TNF-alpha induced NF-kappaB activation was blocked by dexamethasone.",
)


@pytest.fixture(scope="module")
def biomedical_tokenizer():
    """A cased WordPiece vocabulary, as BioBERT's, learnt from four sentences."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(ABSTRACTS, trainers.WordPieceTrainer(vocab_size=160, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=False, model_max_length=64)


@pytest.mark.parametrize("model_class", [BertForSequenceClassification, BertForTokenClassification])
def test_biobert_is_bert(biomedical_tokenizer, perturb, tmp_path, model_class):
    tokenizer = biomedical_tokenizer
    assert "##" in "".join(tokenizer.tokenize(ABSTRACTS[0]))
    assert tokenizer("BRCA1")["input_ids"] != tokenizer("brca1")["input_ids"]
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64}
    config = BertConfig(vocab_size=len(tokenizer), num_hidden_layers=3, num_labels=3, **sizes)
    model = model_class(config)
    perturb(model, 0)
    model.eval()
    batch = tokenizer(list(ABSTRACTS), padding=True, return_tensors="pt")
    real = batch["attention_mask"].bool() if model_class is BertForTokenClassification else slice(None)
    with torch.no_grad():
        dense = model(**batch).logits
        wordelim.eliminate_(model, Retention.keep_all(3))
        torch.testing.assert_close(model(**batch).logits[real], dense[real], rtol=1e-5, atol=1e-5)
        wordelim.eliminate_(model, Retention.fractions([0.6, 0.3, 0.1]))
        expected = model(**batch).logits
    directory = save(model, tokenizer, tmp_path / "biobert")
    task = "text-classification" if model_class is BertForSequenceClassification else "token-classification"
    run = pipeline(task, model=str(directory), device="cpu")
    assert run.tokenizer.tokenize("BRCA1") == tokenizer.tokenize("BRCA1")
    if task == "text-classification":
        for found, logits in zip(run(list(ABSTRACTS)), expected, strict=True):
            assert found["score"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)
        return
    for example, found in enumerate(run(list(ABSTRACTS))):
        length = int(batch["attention_mask"][example].sum()) - 1
        labels = expected[example, 1:length].argmax(-1).tolist()
        assert [entry["entity"] for entry in found] == [model.config.id2label[label] for label in labels]
