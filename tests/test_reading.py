"""Reading every kind of source, and refusing broken ones; all on files made here."""

import csv
import gzip
import json

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wordelim.errors import DataError
from wordelim.reading import read

ROWS = {"text": ['a "good", film', "NA"], "label": ["1", "0"]}
CSV = 'text,label\n"a ""good"", film",1\nNA,0\n'
TSV = 'text\tlabel\n"a ""good"", film"\t1\nNA\t0\n'
RAW_TSV = 'text\tlabel\na "good", film\t1\nNA\t0\n'
LINES = '{"text": "a \\"good\\", film", "label": "1"}\n\n{"text": "NA", "label": "0"}\n'
ARRAY = json.dumps([{"text": 'a "good", film', "label": "1"}, {"text": "NA", "label": "0"}], indent=1)


def table(**columns):
    return datasets.Dataset.from_dict(columns)


def write(path, text):
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", CSV),
        ("a.CSV", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("a.csv.gz", CSV),
        ("a.tsv", TSV),
        ("a.tsv.gz", RAW_TSV),
        ("a.jsonl", LINES),
        ("a.jsonl.gz", LINES),
        ("a.json", LINES),
        ("a.json", ARRAY),
        ("a.json.gz", ARRAY),
    ],
)
def test_every_text_format_gives_the_same_rows(tmp_path, name, text):
    assert read(write(tmp_path / name, text)).to_dict() == ROWS


def test_parquet_keeps_its_features(tmp_path):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    datasets.Dataset.from_dict({"text": ["x", "y"], "label": [1, 0]}, features=features).to_parquet(
        tmp_path / "a.parquet"
    )
    assert read(tmp_path / "a.parquet").features == features
    assert read(str(tmp_path / "a.parquet"))["label"][:] == [1, 0]


def test_json_keeps_numbers_lists_and_missing_values(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": 1}\n{"text": "y", "label": 2.5, "tags": ["a"]}\n')
    assert read(path).to_dict() == {"text": ["x", "y"], "label": [1.0, 2.5], "tags": [None, ["a"]]}


def test_a_changed_file_is_read_anew(tmp_path):
    path = tmp_path / "a.csv"
    for text in ("one", "two"):
        assert read(write(path, f"text\n{text}\n"))["text"][:] == [text]


def test_a_long_field_is_read_and_the_limit_of_csv_stays(tmp_path):
    limit = csv.field_size_limit()
    assert len(read(write(tmp_path / "a.csv", f"text\n{'x' * 200_000}\n"))["text"][0]) == 200_000
    assert csv.field_size_limit() == limit


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_csv_and_json_write_comes_back(tmp_path, rows):
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    with open(tmp_path / "a.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"a": a, "b": b}, ensure_ascii=False) + "\n" for a, b in rows)
    expected = {"a": [a for a, _ in rows], "b": [b for _, b in rows]}
    assert read(tmp_path / "a.csv").to_dict() == expected
    assert read(tmp_path / "a.jsonl").to_dict() == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv has no rows"),
        ("a.csv", "text,label\n", "a.csv has no rows"),
        ("a.jsonl", "\n\n", "a.jsonl has no rows"),
        ("a.json", "[]", "a.json has no rows"),
        ("a.txt", "x", "unknown suffix; use one of .csv"),
        ("a.parquet.gz", "x", "a.parquet.gz is damaged"),
        ("a.parquet", "x", "a.parquet is damaged"),
        ("a.csv", "text,label\nx,1\ny,1,2\n", r"a.csv, row 2 \(line 3\), has 3 fields, but the header has 2"),
        ("a.csv", 'text,label\n"x\ny",1\n\nz\n', r"a.csv, row 2 \(line 5\), has 1 fields"),
        (
            "a.csv",
            'text,label\nx,1\n"y,1\nz,1\n',
            r"a.csv, row 2 \(line 3\), can't be read: .*; check its quotes",
        ),
        ("a.csv", 'text,label\n"x"y,1\n', r"a.csv, row 1 \(line 2\), can't be read"),
        ("a.csv", "text,text\nx,1\n", "the column 'text' more than once"),
        ("a.tsv", "text\tlabel\nx\t1\ny\n", r"a.tsv, row 2 \(line 3\), has 1 fields"),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', "a.jsonl, line 2, is not valid JSON"),
        ("a.jsonl", '{"text": "x"}\n\n5\n', "a.jsonl, row 2, is no JSON object but a int"),
        ("a.json", '[{"text": "x"},\n {"text" "y"}]', "a.json, line 2, is not valid JSON"),
        ("a.json", '[{"text": "x"}, "y"]', "a.json, row 2, is no JSON object but a str"),
        ("a.jsonl", '{"label": 1}\n{"label": "one"}\n', "a.jsonl has values .* in column 'label' .*'one'"),
        ("a.jsonl", '{"x": 1}\n{"x": true}\n', "a.jsonl has values that don't go together in column 'x'"),
        ("a.jsonl", '{"x": [1]}\n{"x": ["a"]}\n', "a.jsonl has values that don't go together in column 'x'"),
        ("a.jsonl", f'{{"x": {2**70}}}\n', "a.jsonl has values that don't go together in column 'x'"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / name, text))


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("text\ngood\nschön\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a.csv, line 3, is not UTF-8"):
        read(path)
    path = tmp_path / "b.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode() * 50)[:-10])
    with pytest.raises(DataError, match=r"b.csv.gz is damaged"):
        read(path)
    path.write_bytes(CSV.encode())
    with pytest.raises(DataError, match=r"b.csv.gz is damaged"):
        read(path)


def test_a_missing_file_is_no_hub_name(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("the hub was asked"))
    for source in (tmp_path / "none.csv", "none.jsonl.gz", "data/train.parquet"):
        with pytest.raises(DataError, match="doesn't exist"):
            read(source)
    for source in ("./none", "/none/at/all", "a/b/c", ""):
        with pytest.raises(DataError, match="no file, no directory and no hub name"):
            read(source)


def test_a_split_of_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="one file and has no split 'test'"):
        read(write(tmp_path / "a.csv", CSV), split="test")


@pytest.mark.parametrize(
    ("source", "split", "asked"),
    [
        ("user/set", "test", ("user/set", None, "test")),
        ("glue/sst2", "validation", ("nyu-mll/glue", "sst2", "validation")),
        ("user/set:small:train[:500]", None, ("user/set", "small", "train[:500]")),
        ("user/set::dev", "test", ("user/set", None, "test")),
        ("imdb", None, ("imdb", None, None)),
    ],
)
def test_hub_names(monkeypatch, source, split, asked):
    calls = []

    def load(name, config, *, split):
        calls.append((name, config, split))
        return table(text=["x"])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read(source, split=split).to_dict() == {"text": ["x"]}
    assert calls == [asked]


def test_a_hub_name_that_cannot_be_loaded(monkeypatch):
    def load(*_, **__):
        raise ConnectionError("Couldn't reach 'user/set' on the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"user/set can't be loaded as a data set: Couldn't reach.*Hub$"):
        read("user/set")


def test_a_directory_is_a_data_set(tmp_path, capfd):
    datasets.enable_progress_bars()  # the command line turns them off for the whole process
    write(tmp_path / "train.jsonl", '{"text": "x"}\n')
    assert read(tmp_path).to_dict() == {"text": ["x"]}
    write(tmp_path / "train.jsonl", '{"text": "y"}\n')
    assert read(tmp_path).to_dict() == {"text": ["y"]}
    write(tmp_path / "test.jsonl", '{"text": "z"}\n')
    with pytest.raises(DataError, match=r"has the splits train, test; choose one, as in '.*::train'"):
        read(tmp_path)
    assert read(tmp_path, split="test").to_dict() == read(f"{tmp_path}::test").to_dict() == {"text": ["z"]}
    with pytest.raises(DataError, match="can't be loaded as a data set"):
        read(tmp_path, split="dev")
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_a_saved_data_set_is_loaded(tmp_path):
    datasets.disable_progress_bars()
    table(text=["x"]).save_to_disk(tmp_path / "one")
    datasets.DatasetDict(a=table(text=["x"]), b=table(text=["y"])).save_to_disk(tmp_path / "two")
    datasets.enable_progress_bars()
    assert read(tmp_path / "one").to_dict() == {"text": ["x"]}
    assert read(tmp_path / "two", split="b").to_dict() == {"text": ["y"]}
    for name, splits in (("one", "train"), ("two", "a, b")):
        with pytest.raises(DataError, match=rf"has the splits {splits}; choose one"):
            read(tmp_path / name, split="c")
