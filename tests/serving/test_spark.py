"""Spark itself scores as transformers' pipeline does, in the way of docs/distributed.md."""

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import datasets
import numpy as np
import pytest

import wordelim  # noqa: F401  (teaches transformers to load compressed models)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("pyspark") is None, reason="pyspark isn't installed"),
]
DOCS = Path(__file__).parents[2] / "docs"
BLOCK = next(
    block
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "distributed.md").read_text(encoding="utf-8"), re.S)
    if "pyspark" in block
)


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


@pytest.mark.long  # Java, and a Python that imports all anew
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, which isn't installed")
def test_spark_scores(texts, session):
    shutil.copytree("classifier", "my-bert-fast")
    datasets.Dataset.from_dict({"text": texts}).to_parquet("texts.parquet")
    exec(BLOCK, {})
    answers = {row["text"]: row["answer"] for row in datasets.Dataset.from_parquet("scored/*.parquet")}
    assert len(answers) == len(texts)
    assert_as_the_pipeline(answers, texts)


def test_what_spark_runs_scores_as_the_pipeline(served, texts, tmp_path, monkeypatch):
    """The function of docs/distributed.md, made and called as a worker of Spark does."""
    monkeypatch.chdir(tmp_path)
    for name in ("my-bert-fast", "classifier"):
        os.symlink(served / "classifier", name)
    made, run = BLOCK.split("spark = SparkSession")
    assert "predict_batch_udf(make_predict, return_type=answer" in run
    namespace = {}
    exec(made, namespace)
    columns = namespace["make_predict"]()(np.array(texts))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert_as_the_pipeline(dict(zip(texts, rows, strict=True)), texts)


def assert_as_the_pipeline(answers, texts):
    from transformers import pipeline

    expected = pipeline("text-classification", "classifier", device="cpu")(texts)
    for text, answer in zip(texts, expected, strict=True):
        assert answers[text]["label"] == answer["label"]
        assert answers[text]["score"] == pytest.approx(answer["score"], abs=1e-5)
