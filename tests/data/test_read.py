"""Reading every kind of source, and refusing broken ones; all on files made here."""

import csv
import gzip
import json
import os
import socket

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wordelim.data.read import read
from wordelim.data.usable import Skipped
from wordelim.errors import DataError

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
        (
            "a.jsonl",
            '{"label": 1}\n{"label": "one"}\n',
            "a.jsonl, row 2, has a value of another type than most rows in column 'label': 'one'",
        ),
        ("a.jsonl", '{"x": 1}\n{"x": true}\n', "a.jsonl, row 2, has a value of another type .* column 'x': True"),
        ("a.jsonl", '{"x": [1]}\n{"x": ["a"]}\n', "a.jsonl, row 2, has a value of another type .* column 'x'"),
        ("a.jsonl", f'{{"x": {2**70}}}\n', "a.jsonl, row 1, has a value that can't be read in column 'x'"),
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


# --- separators and encodings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_separator_is_found_or_named(tmp_path, name, mark):
    text = f'text{mark}label\n"a ""good"", film"{mark}1\nNA{mark}0\n'
    assert read(write(tmp_path / name, text)).to_dict() == ROWS
    assert read(tmp_path / name, delimiter="tab" if mark == "\t" else mark).to_dict() == ROWS


def test_a_separator_in_doubt_is_asked_for(tmp_path):
    path = write(tmp_path / "a.csv", "text;label|more\nx;1|2\n")
    with pytest.raises(DataError, match=r"a.csv has ';' and '\|' in its header, but no ','.*--delimiter"):
        read(path)
    assert read(path, delimiter=";").to_dict() == {"text": ["x"], "label|more": ["1|2"]}
    assert read(write(path, "text\nx;y\n")).to_dict() == {"text": ["x;y"]}
    for mark in ("", ";;", '"', "\n", "a"):
        with pytest.raises(DataError, match="can't stand between fields"):
            read(path, delimiter=mark)


def test_a_quoted_field_of_a_tsv_file_may_have_lines(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"good\nfilm"\t1\n"say ""no"""\t0\n')
    assert read(path)["text"][:] == ["good\nfilm", 'say "no"']
    # GLUE doesn't quote: quotes of different rows that meet make no field.
    path = write(tmp_path / "b.tsv", 'text\tlabel\n"good\t1\nand bad"\t0\n"x" y\t1\n"z\t0\n')
    assert read(path)["text"][:] == ['"good', 'and bad"', '"x" y', '"z']


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "latin-1", "cp1252", "utf-16", "utf-32-le", "gbk"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_an_encoding_is_taken(tmp_path, name, encoding):
    mark = "\t" if name == "a.tsv" else ","
    text = f"text{mark}label\nné\u00a7{mark}1\n" if "json" not in name else '{"text": "né\u00a7", "label": "1"}\n'
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert read(tmp_path / name, encoding=encoding).to_dict() == {"text": ["né\u00a7"], "label": ["1"]}
    if "utf" not in encoding.casefold():
        with pytest.raises(DataError, match=r"is not UTF-8 text; .*--encoding"):
            read(tmp_path / name)


def test_an_encoding_that_is_none_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", CSV)
    for encoding in ("utf-9", "rot13", "hex", "", "a\0b"):
        with pytest.raises(DataError, match=r"The encoding .* is unknown"):
            read(path, encoding=encoding)
    with pytest.raises(DataError, match=r"a.csv is not UTF-16 text"):
        read(write(path, CSV + "xy" if len(CSV) % 2 else CSV + "x"), encoding="utf-16")


# --- what is no table ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz", "a.jsonl", "a.parquet", "a"])
@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    for source in (path, tmp_path):
        with pytest.raises(DataError, match=f"{name} is no regular file but a pipe, a socket or a device"):
            read(source)
    with pytest.raises(DataError, match="is no regular file"):
        read(f"{tmp_path}::train")


def test_a_name_that_is_too_long_is_refused():
    with pytest.raises(DataError, match=r"can't be read .*check the path"):
        read("x" * 5000 + ".csv")


@pytest.mark.parametrize("text", ["[" * 50 + "]" * 50, "[" * 200_000, "9" * 5000, '{"a":' * 50 + "1" + "}" * 50])
@pytest.mark.parametrize("form", ['{{"text": {}}}\n', '[{{"text": {}}}]'])
def test_json_without_bounds_is_refused(tmp_path, text, form):
    with pytest.raises(DataError, match=r"a.json, line 1, is not valid JSON \(it (is nested too deep|has a number of)"):
        read(write(tmp_path / "a.json", form.format(text)))


@pytest.mark.parametrize("value", ["\ud83d", ["x", "\udc00"], {"a": ["\ud800"]}])
def test_half_a_character_is_refused_by_its_row(tmp_path, value):
    rows = [{"x": value}, {"x": value}]
    rows[0] = {"x": {"a": ["y"]} if isinstance(value, dict) else ["y"] if isinstance(value, list) else "y"}
    for path in (
        write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))),
        write(tmp_path / "a.json", json.dumps(rows)),
    ):
        with pytest.raises(DataError, match=r"row 2, has half a character, '\\ud"):
            read(path)
    with pytest.raises(DataError, match=r"a.json has half a character in the name of a column, '\\ud800'"):
        read(write(tmp_path / "a.json", json.dumps([{"\ud800": 1}])))


def test_columns_of_parquet_are_read_or_named(tmp_path):
    def table(kind, value):
        pyarrow.parquet.write_table(
            pyarrow.table({"text": ["good"], "more": pyarrow.array([value], kind)}), tmp_path / "a.parquet"
        )
        return read(tmp_path / "a.parquet")

    text, whole = pyarrow.string(), pyarrow.int64()
    assert table(pyarrow.map_(text, whole), [("a", 1)])["more"][:] == [[{"key": "a", "value": 1}]]
    for kind, value in (
        (pyarrow.map_(text, pyarrow.map_(text, whole)), [("a", [("b", 1)])]),
        (pyarrow.struct([("m", pyarrow.map_(text, whole))]), {"m": [("a", 1)]}),
    ):
        with pytest.raises(DataError, match=r"has the column 'more' of type .*map.*, which can't be read"):
            table(kind, value)


# --- rows that are left out ---------------------------------------------------------------------------------------

BROKEN = {
    "a.csv": 'text,label\na,1\nb\nc,0\n\x00\xff,1\n"d"e,1\nf,0\ng,1\n',
    "a.tsv": "text\tlabel\na\t1\nb\nc\t0\n\x00\xff\t1\nd\te\t1\nf\t0\ng\t1\n",
    "a.jsonl": '{"text": "a", "label": 1}\n{"text"\n{"text": "c", "label": 0}\n"\xff"\n5\n'
    '{"text": "f", "label": 0}\n{"text": "g", "label": 1}\n',
    "a.json": '[{"text": "a", "label": 1}, 3, {"text": "c", "label": 0}, {"text": "\\ud800", "label": 1},'
    '{"text": ["e"], "label": 1}, {"text": "f", "label": 0}, {"text": "g", "label": 1}]',
}


@pytest.mark.parametrize("name", BROKEN)
def test_rows_that_cannot_be_read_are_left_out_and_named(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name].encode("latin-1"))
    skipped = Skipped()
    assert read(tmp_path / name, skipped=skipped)["text"][:] == ["a", "c", "f", "g"]
    assert list(skipped.reasons) == sorted(skipped.reasons) == [2, 4, 5]
    assert skipped.to_dict()["skipped"]["count"] == 3
    with pytest.raises(DataError, match=name):
        read(tmp_path / name)


def test_a_file_of_which_little_is_left_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na\nb\nc,0\n")
    with pytest.raises(DataError, match=r"2 of 3 rows can't be used, too many to leave out; the first, row 1, has 1 f"):
        read(path, skipped=Skipped())
    # One quote too many is no row: all that follows would go with it.
    path = write(tmp_path / "a.csv", 'text,label\n"a,1\nb,1\nc,0\n')
    with pytest.raises(DataError, match="check its quotes"):
        read(path, skipped=Skipped())
