"""Spark itself scores as transformers' pipeline does, in the way of docs/distributed.md."""

import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import datasets
import numpy as np
import pytest

import wordelim  # noqa: F401  (teaches transformers to load compressed models)
from wordelim.errors import WordelimError

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(find_spec("pyspark") is None, reason="pyspark isn't installed"),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, which isn't installed"),
]
DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = re.findall(r"```python\n(.*?)```", (DOCS / "distributed.md").read_text(encoding="utf-8"), re.S)


@pytest.fixture
def session(served, monkeypatch):
    """A session of one thread in the folder of what is served, which the example finds as it would a cluster's."""
    monkeypatch.chdir(served)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    from pyspark.sql import SparkSession

    # For a handful of rows: nothing that a long run would make up for, such as code that is compiled twice.
    small = {
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.driver.memory": "512m",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.ui.enabled": "false",
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in small.items():
        builder = builder.config(name, value)
    started = builder.getOrCreate()
    yield started
    started.stop()


def test_spark_scores(texts, session):
    from transformers import pipeline

    shutil.copytree("classifier", "my-bert-fast")
    datasets.Dataset.from_dict({"text": texts}).to_parquet("texts.parquet")
    exec(next(block for block in BLOCKS if "pyspark" in block), {})
    answers = {row["text"]: row["answer"] for row in datasets.Dataset.from_parquet("scored/*.parquet")}
    expected = pipeline("text-classification", "classifier", device="cpu")(texts)
    assert len(answers) == len(texts)
    for text, answer in zip(texts, expected, strict=True):
        assert answers[text]["label"] == answer["label"]
        assert answers[text]["score"] == pytest.approx(answer["score"], abs=1e-5)
    pairs_and_embeddings(session, texts)


def pairs_and_embeddings(session, texts):
    """In the same session, for Spark takes seconds to start."""
    from wordelim.serving.bulk import Scorer
    from wordelim.serving.spark import scorer

    rows = session.createDataFrame([*zip(texts, reversed(texts), strict=True), (None, "good")], "a string, b string")
    found = rows.select(scorer("classifier", pairs=True)("a", "b").alias("of"), scorer("embedder")("a").alias("at"))
    found = found.collect()
    columns = {"a": [*texts, None], "b": [*reversed(texts), "good"]}
    paired = Scorer("classifier", "a", "b", device="cpu")(columns)
    assert [row["of"]["label"] for row in found] == [*paired["label"][:-1], None]
    assert [row["of"]["score"] for row in found[:-1]] == pytest.approx(paired["score"][:-1], abs=1e-5)
    assert found[-1]["of"]["score"] is None
    embedded = Scorer("embedder", device="cpu")({"text": [*texts, None]})["embedding"]
    assert np.allclose([row["at"]["embedding"] for row in found], embedded, atol=1e-5, equal_nan=True)
    for name, options, match in (
        ("dense", {}, "holds no compressed model"),
        ("nowhere", {}, "'nowhere'"),
        ("classifier", {"speed": 9}, "no speed 9"),
        ("classifier", {"batch_size": 0}, "batch_size is 0"),
        ("embedder", {"pairs": True}, "takes single texts"),
    ):
        with pytest.raises(WordelimError, match=match):
            scorer(name, **options)
