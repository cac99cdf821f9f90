"""The demonstration's text and its shipped classifier: what they promise."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
from datasets import DatasetDict
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from wordelim.demo import MODEL_DIR, corpus
from wordelim.demo.docstrings import docstrings_in, source_files
from wordelim.errors import WordelimError


@pytest.fixture(scope="module")
def splits() -> DatasetDict:
    return DatasetDict({split: corpus.load(split) for split in corpus.SIZES})


def test_reading_again_gives_the_same_texts_in_the_same_order(monkeypatch):
    monkeypatch.setattr(corpus, "LABELS", ("numpy",))  # of four, for reading takes seconds
    first, again = (corpus._collect.__wrapped__() for _ in range(2))
    assert len(first) > 100
    assert first == again


def test_splits_share_no_text_and_no_opening(splits):
    texts = [text for data in splits.values() for text in data["text"]]
    assert len(texts) == len(set(texts)) == len(set(map(corpus._opening, texts)))


def test_the_split_follows_from_the_text(splits):
    for split, data in splits.items():
        assert {corpus.split_of(text) for text in data["text"]} == {split}


def test_known_texts_stay_in_their_split_for_good():
    # The shipped model was trained on this division: a change of the hash would let it see test texts.
    texts = ("Return a new array.", "Sort the list.", "Open a file.")
    assert [corpus.split_of(text) for text in texts] == ["validation", "train", "train"]


def test_an_edit_after_the_opening_leaves_the_split_as_it_is(splits):
    for split, data in splits.items():
        assert all(corpus.split_of(f"{text} Added in a later version.") == split for text in data["text"])


def test_test_texts_are_no_copies_of_training_texts(splits):
    training = {shingle for text in corpus.load_unbalanced()["text"] for shingle in corpus._shingles(text)}
    for text in splits["test"]["text"]:
        shingles = corpus._shingles(text)
        assert sum(shingle in training for shingle in shingles) <= 0.5 * len(shingles)


def test_no_library_name_is_left(splits):
    inside = re.compile("numpy|torch|transformers|huggingface|hugging face|python", re.IGNORECASE)
    words = {"np", "py", "hf", "pt"}
    for data in splits.values():
        for text in data["text"]:
            assert not inside.search(text), text
            assert words.isdisjoint(re.split(r"[\W\d_]+", text.lower())), text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("see NumPy's  np.array", "see [MASK]'s [MASK].array"),
        ("set torch_dtype in\n  PyTorch", "set [MASK]_dtype in [MASK]"),
        ("a Hugging Face HfArgumentParser", "a [MASK] [MASK]ArgumentParser"),
        ("CPython's PyObject in spam.py", "[MASK]'s [MASK]Object in spam.[MASK]"),
        ("Transformers has a Transformer", "[MASK] has a Transformer"),
        ("input, happy, half, empty", "input, happy, half, empty"),
        ("Notes ---------- of x[...]", "Notes --- of x[...]"),
    ],
)
def test_clean(text, cleaned):
    assert corpus.clean(text) == cleaned
    assert corpus.clean(cleaned) == cleaned


def test_sizes_and_balance(splits):
    assert sum(map(len, splits.values())) >= 3000
    for split, data in splits.items():
        cap = corpus.SIZES[split] / len(corpus.LABELS)
        counts = Counter(data["label"])
        assert set(counts) == set(corpus.LABELS)
        assert max(counts.values()) <= cap + 1
        assert min(counts.values()) >= 0.6 * cap


def test_lengths(splits):
    lengths = [len(text.split()) for data in splits.values() for text in data["text"]]
    assert min(lengths) >= 25
    assert max(lengths) <= 300
    assert sum(length > 100 for length in lengths) >= 0.4 * len(lengths)


def test_an_unknown_split_is_refused():
    with pytest.raises(WordelimError, match="no split 'dev'"):
        corpus.load("dev")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(corpus.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WordelimError, match="pip install torch"):
        corpus._source_root("torch")


def test_a_library_without_source_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(corpus, "_source_root", lambda label: tmp_path)
    with pytest.raises(WordelimError, match=r"no docstrings of numpy .*\.py files"):
        list(corpus._docstrings_of("numpy"))


def test_docstrings_in_finds_them_without_running_the_file(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '''"""Of the module."""
raise RuntimeError
if True:
    def function():
        """Of the function."""
        print("""no docstring""")
class Class:
    """Of the class."""
    async def method(self):
        """Of the method."""
add_newdoc("place", ("name", """Attached as a pair."""))
attached = core._add_docstr(object, r"""Attached {here}.""".format(here=1))
''',
        encoding="utf-8",
    )
    found = set(docstrings_in(path))
    assert found >= {f"Of the {what}." for what in ("module", "function", "class", "method")}
    assert found >= {"Attached as a pair.", "Attached {here}."}
    assert "no docstring" not in found


def test_docstrings_in_skips_what_is_no_source(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text('"""A text."""\ndef broken(', encoding="utf-8")
    assert docstrings_in(path) == []


def test_source_files_are_ordered_and_skip_names(tmp_path):
    for name in ("b.py", "a.py", "a.txt", "tests/c.py", "package/d.py", "package/tests/e.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in source_files(tmp_path, frozenset({"tests"}))]
    assert found == ["a.py", "b.py", "package/d.py"]


def test_the_shipped_model_is_small():
    assert (MODEL_DIR / "model.safetensors").stat().st_size < 8_000_000
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) < 8_000_000


def test_the_shipped_model_knows_the_labels(splits):
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    assert tuple(model.config.id2label[index] for index in range(model.config.num_labels)) == corpus.LABELS
    assert tokenizer.mask_token == corpus.MASK

    sample = splits["test"].select(range(200))
    correct = 0
    for batch in sample.iter(batch_size=20):
        inputs = tokenizer(batch["text"], truncation=True, padding=True, return_tensors="pt")
        with torch.inference_mode():
            predictions = model(**inputs).logits.argmax(-1)
        labels = [model.config.label2id[label] for label in batch["label"]]
        correct += int((predictions == torch.tensor(labels)).sum())
    assert correct > 160
