"""The Python of docs/distributed.md runs as it is written, on stand-ins with the calls of Ray Data and Spark."""

import re
import sys
from pathlib import Path
from types import ModuleType

import datasets
import pandas as pd
import pytest

import wordelim
from wordelim import Retention
from wordelim.checkpoint.directory import save

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "distributed.md").read_text(), re.S)


@pytest.fixture
def here(make_model, make_tokenizer, make_texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = wordelim.eliminate_(make_model("bert", labels=2), Retention.fractions([0.6, 0.3, 0]))
    save(model, make_tokenizer("bert"), "my-bert-fast")
    make_texts(10).select_columns(["text"]).to_parquet("texts.parquet")
    return tmp_path


def expected():
    from transformers import pipeline

    classify = pipeline("text-classification", "my-bert-fast", device="cpu")
    return classify(datasets.Dataset.from_parquet("texts.parquet")["text"][:])


class Frame:
    """A table, as Ray Data and Spark hand one around."""

    def __init__(self, frame):
        self.frame = frame

    def map_batches(self, fn, *, fn_constructor_args, concurrency, batch_size):
        made, parts = fn(*fn_constructor_args), []
        for start in range(0, len(self.frame), 4):
            batch = self.frame.iloc[start : start + 4]
            parts.append(pd.DataFrame(made({name: batch[name].to_numpy() for name in batch})))
        return Frame(pd.concat(parts, ignore_index=True))

    def withColumn(self, name, column):
        return Frame(self.frame.assign(**{name: column(self.frame)}))

    def write_parquet(self, path):
        self.frame.to_parquet(path)

    @property
    def write(self):
        writer = ModuleType("writer")
        writer.parquet = self.write_parquet
        return writer


def module(monkeypatch, name, **content):
    made = ModuleType(name)
    vars(made).update(content)
    monkeypatch.setitem(sys.modules, name, made)
    return made


def test_ray_data(here, monkeypatch):
    data = module(monkeypatch, "ray.data", read_parquet=lambda path: Frame(pd.read_parquet(path)))
    module(monkeypatch, "ray", data=data)
    exec(BLOCKS[0], {})
    scored = pd.read_parquet("scored")
    said = expected()
    assert scored["label"].tolist() == [one["label"] for one in said]
    assert scored["score"].tolist() == pytest.approx([one["score"] for one in said], abs=1e-5)


def test_spark(here, monkeypatch):
    def predict_batch_udf(make_predict_fn, *, return_type, batch_size):
        assert return_type == [("label", "string"), ("score", "float")]
        predict = make_predict_fn()

        def udf(column):
            return lambda frame: pd.DataFrame(predict(frame[column].to_numpy())).to_dict("records")

        return udf

    reader = ModuleType("reader")
    reader.parquet = lambda path: Frame(pd.read_parquet(path))
    session = ModuleType("session")
    session.builder, session.getOrCreate, session.read = session, lambda: session, reader
    for name in ("pyspark", "pyspark.ml"):
        module(monkeypatch, name)
    module(monkeypatch, "pyspark.ml.functions", predict_batch_udf=predict_batch_udf)
    module(monkeypatch, "pyspark.sql", SparkSession=session)
    module(
        monkeypatch,
        "pyspark.sql.types",
        FloatType=lambda: "float",
        StringType=lambda: "string",
        StructField=lambda name, kind: (name, kind),
        StructType=list,
    )
    exec(BLOCKS[1], {})
    scored = pd.read_parquet("scored")["answer"]
    assert [one["label"] for one in scored] == [one["label"] for one in expected()]
