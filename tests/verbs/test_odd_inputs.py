"""What a dry run and inspect accept runs, and what they refuse is refused alike: odd directories and odd data files."""

import gzip
import json

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from wordelim.errors import WordelimError
from wordelim.verbs.compress import compress, plan
from wordelim.verbs.inspect import inspect_model

RUN = {"keep": [0.8, 0.4], "epochs": 0.5, "batch_size": 8, "max_drop": 100, "measure_speed": False}
NAMES = {"id2label": {0: "neg", 1: "pos"}, "label2id": {"neg": 0, "pos": 1}}
TAGS = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "label2id": {"O": 0, "B-X": 1, "I-X": 2}}


def rows_of(texts):
    return [{"text": text, "label": label} for text, label in zip(texts["text"], texts["label"], strict=True)]


def paired(rows):
    return [{"sentence1": row["text"], "sentence2": row["text"], "label": row["label"]} for row in rows]


def tagged(rows):
    return [{"tokens": (words := row["text"].split()), "tags": ["B-X", *["O"] * (len(words) - 1)]} for row in rows]


def asked(rows):
    return [
        {
            "question": "film plot",
            "context": row["text"],
            "answers": {"text": [row["text"].split()[0]], "answer_start": [0]},
        }
        for row in rows
    ]


def chosen(rows):
    return [{"context": row["text"], "choices": ["good film", "bad film"], "label": row["label"]} for row in rows]


def ranked(rows):
    return [
        {"query": "good film" if at < len(rows) // 2 else "bad film", "document": row["text"], "label": row["label"]}
        for at, row in enumerate(rows)
    ]


def scored(rows):
    return [{"sentence1": row["text"], "sentence2": "good film", "score": at / 4} for at, row in enumerate(rows)]


def several(rows):
    return [{"text": row["text"], "labels": [row["label"], 1, at % 2]} for at, row in enumerate(rows)]


# --- directories: what make_model_dir is given, what is changed afterwards, what becomes of the rows -----------------
# Fields of a config that change what a model returns are in tests/graph/test_config_fields.py.


def config(**fields):
    def change(place, edit_json):
        edit_json(place / "config.json", lambda data: data.update(fields))

    return change


def without(*names):
    def change(place, edit_json):
        edit_json(place / "config.json", lambda data: [data.pop(name, None) for name in names])

    return change


def tokenizer(**fields):
    def change(place, edit_json):
        edit_json(place / "tokenizer_config.json", lambda data: data.update(fields))

    return change


def weights(dtype):
    def change(place, edit_json):
        path = place / "model.safetensors"
        save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
        edit_json(place / "config.json", lambda data: data.update(dtype=str(dtype).removeprefix("torch.")))

    return change


def in_shards(place, edit_json):
    model = AutoModelForSequenceClassification.from_pretrained(place)
    (place / "model.safetensors").unlink()
    model.save_pretrained(place, max_shard_size="20KB")
    assert (place / "model.safetensors.index.json").exists()


def more_files(place, edit_json):
    (place / "README.md").write_text("---\nlicense: mit\n---\n")
    (place / "training_args.bin").write_bytes(b"not read")
    (place / "runs").mkdir()


def unused_weights(place, edit_json):
    path = place / "model.safetensors"
    save_file({**load_file(path), "cls.predictions.bias": torch.zeros(3)}, path, metadata={"format": "pt"})


def same(rows):
    return rows


DIRECTORIES = {
    "fp16": ({}, weights(torch.float16), same),
    "bf16": ({}, weights(torch.bfloat16), same),
    "fp64": ({}, weights(torch.float64), same),
    "shards": ({}, in_shards, same),
    "other files": ({}, more_files, same),
    "weights of another head": ({}, unused_weights, same),
    "return_dict": ({}, config(return_dict=False), same),
    "unknown fields": ({}, config(task_specific_params={"x": 1}, my_field=[1, 2]), same),
    "finetuning_task": ({}, config(finetuning_task="sst2", problem_type="single_label_classification"), same),
    "no names of labels": ({}, without("id2label", "label2id"), same),
    "names of labels": (NAMES, config(), lambda rows: [{**row, "label": ("neg", "pos")[row["label"]]} for row in rows]),
    "one output": ({"labels": 1}, config(), lambda rows: [{**row, "label": float(row["label"])} for row in rows]),
    "one output, classes": ({"labels": 1}, config(problem_type="single_label_classification"), same),
    "several labels": ({"labels": 3, "problem_type": "multi_label_classification"}, config(), several),
    "several scores": ({"labels": 3, "problem_type": "regression"}, config(), several),
    "no dropout": ({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}, config(), same),
    "head dropout": ({"classifier_dropout": 0.5}, config(), same),
    "one layer": ({"layers": 1}, config(), same),
    "few positions": ({"max_position_embeddings": 8}, config(), same),
    "left padding": ({}, tokenizer(padding_side="left"), same),
    "truncation on the left": ({}, tokenizer(truncation_side="left"), same),
    "no greatest length": ({}, tokenizer(model_max_length=10**30), same),
    "no padding token": ({}, tokenizer(pad_token=None), same),
    "auto_map": ({}, config(auto_map={"AutoModelForSequenceClassification": "other.Other"}), same),
    "roberta": ({"family": "roberta"}, config(), same),
    "albert": ({"family": "albert"}, config(), same),
    "distilbert": ({"family": "distilbert"}, config(), same),
    "electra": ({"family": "electra"}, config(), same),
    "modernbert": ({"family": "modernbert"}, config(), same),
    "eurobert": ({"family": "eurobert", "classifier_pooling": "late"}, config(), same),
    "mpnet": ({"family": "mpnet"}, config(), same),
    "deberta-v2": ({"family": "deberta-v2"}, config(), same),
    "tagging": ({"head": "token", "labels": 3, **TAGS}, config(), tagged),
    "answering": ({"head": "answer"}, config(), asked),
    "choices": ({"head": "choice"}, config(), chosen),
    "embeddings": ({"head": "none"}, config(), scored),
    "ranking": ({"labels": 1}, config(), ranked),
    "scores of pairs": ({"labels": 1}, config(), scored),
}


def verdict(do):
    """None, or the sentence that refuses; every other error fails the test."""
    try:
        do()
    except WordelimError as error:
        return str(error)
    return None


def agree(model, files, tmp_path, **options):
    """A dry run, inspect and a real run say the same of a directory and data."""
    foretold = verdict(lambda: plan(model, **files, output=tmp_path / "out", **options))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == []
    done = verdict(lambda: compress(model, **files, output=tmp_path / "out", **options))
    assert done == foretold
    assert "\n" not in (done or "").strip()
    left = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out"))
    assert left == ([] if done else ["out"])
    seen = verdict(lambda: inspect_model(model))
    assert seen is None or seen == done
    if done is None:
        assert verdict(lambda: inspect_model(tmp_path / "out")) is None
    return done


REFUSED = {
    *("left padding", "no padding token", "one output, classes"),
}


# Of those that run, these are retrained too; tests/tasks/test_tasks.py retrains every head.
TRAINED = {
    *("fp16", "return_dict", "several labels", "several scores", "eurobert"),
}


# Much like others of these, or held to the same by other tests; the long run has them.
SELDOM = {
    *("bf16", "fp64", "other files", "weights of another head", "finetuning_task", "no dropout", "unknown fields"),
    *("roberta", "scores of pairs", "one layer", "truncation on the left"),
    *("albert", "distilbert", "electra", "modernbert", "mpnet", "deberta-v2", "head dropout", "names of labels"),
    *("csv with an index", "csv, all quoted", "tsv, all quoted", "json array", "labels as floats", "repeated rows"),
    *("labels in capitals", "other names", "csv, blank lines", "brackets", "csv", "tsv", "json lines", "parquet"),
    *("csv, line ends in cells", "csv, line ends of Windows", "labels as bools"),
}


def usual(names):
    return [pytest.param(name, marks=pytest.mark.long) if name in SELDOM else name for name in names]


@pytest.mark.parametrize("name", usual(DIRECTORIES))
def test_odd_directories(make_model_dir, make_texts, edit_json, tmp_path, name):
    options, change, shape = DIRECTORIES[name]
    model = make_model_dir(**{"family": "bert", "labels": 2, "layers": 2, **options})
    change(model, edit_json)
    files = {}
    for part, seed in (("train", 0), ("validation", 1)):
        files[part] = tmp_path / f"{part}.jsonl"
        files[part].write_text("".join(json.dumps(row) + "\n" for row in shape(rows_of(make_texts(10, seed)))))
    keep = RUN["keep"][: options.get("layers", 2)]
    refused = agree(model, files, tmp_path, **{**RUN, "keep": keep, "retrain": name in TRAINED})
    assert (refused is not None) == (name in REFUSED), refused


# --- data files: what is written ----------------------------------------------------------------------------------


def csv(**options):
    return "csv", lambda frame, path: frame.to_csv(path, **{"index": False, **options})


def tsv(**options):
    return "tsv", lambda frame, path: frame.to_csv(path, **{"index": False, "sep": "\t", **options})


def after(change, form):
    suffix, write = form
    return suffix, lambda frame, path: write(change(frame), path)


def as_lines(frame, path):
    frame.to_json(path, orient="records", lines=True)


def as_array(frame, path):
    frame.to_json(path, orient="records")


def zipped(frame, path):
    path.write_bytes(gzip.compress(frame.to_json(orient="records", lines=True).encode()))


def classes(frame, path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    datasets.Dataset.from_pandas(frame, preserve_index=False).cast(features).to_parquet(path)


def blank_lines(frame, path):
    path.write_text(frame.to_csv(index=False).replace("\n", "\n\n"))


def with_newline(frame):
    return frame.assign(text=frame.text.str.replace(" ", "\n", n=1))


DATA = {
    "csv": csv(),
    "csv with an index": csv(index=True),
    "csv, byte order mark": csv(encoding="utf-8-sig"),
    "csv, line ends of Windows": csv(lineterminator="\r\n"),
    "csv, all quoted": csv(quoting=1),
    "csv, blank lines": ("csv", blank_lines),
    "csv, line ends in cells": after(with_newline, csv()),
    "tsv": tsv(),
    "tsv, all quoted": tsv(quoting=1),
    "tsv, line ends in cells": after(with_newline, tsv()),
    "json lines": ("jsonl", as_lines),
    "json array": ("json", as_array),
    "json lines, compressed": ("jsonl.gz", zipped),
    "parquet": ("parquet", lambda frame, path: frame.to_parquet(path)),
    "parquet with classes": ("parquet", classes),
    "labels as floats": after(lambda frame: frame.assign(label=frame.label.astype(float)), csv()),
    "labels as bools": after(lambda frame: frame.assign(label=frame.label.astype(bool)), csv()),
    "labels as names": after(lambda frame: frame.assign(label=np.where(frame.label == 1, "pos", "neg")), csv()),
    "labels in capitals": after(lambda frame: frame.assign(label=np.where(frame.label == 1, "POS", "NEG")), csv()),
    "other columns": after(lambda frame: frame.assign(id=range(len(frame)), source="x"), csv()),
    "other names": after(lambda frame: frame.rename(columns={"text": "Sentence", "label": "LABEL"}), csv()),
    "unicode": after(lambda frame: frame.assign(text=frame.text + " 日本 🙂 é"), csv()),
    "brackets": after(lambda frame: frame.assign(text="[ " + frame.text + " ]"), csv()),
    "a long text": after(lambda frame: frame.assign(text=frame.text * 40), csv()),
    "repeated rows": after(lambda frame: pd.concat([frame, frame]), csv()),
}


@pytest.mark.parametrize("name", usual(DATA))
def test_odd_data(make_model_dir, make_texts, tmp_path, name):
    suffix, write = DATA[name]
    files = {part: tmp_path / f"{part}.{suffix}" for part in ("train", "validation")}
    for seed, path in enumerate(files.values()):
        write(pd.DataFrame(rows_of(make_texts(10, seed))), path)
    refused = agree(make_model_dir("bert", labels=2, layers=2, **NAMES), files, tmp_path, **{**RUN, "retrain": False})
    assert refused is None
