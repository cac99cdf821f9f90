"""The card says what the report says, in Markdown that renders and YAML that parses."""

import pytest
import yaml
from huggingface_hub import ModelCard

from wordelim import Retention
from wordelim.report.card import model_card


@pytest.fixture
def report(compression):
    return {**compression, "model": "my-bert"}


@pytest.fixture
def card(make_model):
    """``card(report)``: the card of a BERT."""
    return lambda report: model_card(report, make_model("bert", labels=2))


def test_card_is_a_model_card(card, report):
    text = card(report)
    assert ModelCard(text).data.tags == ["wordelim", "power-bert", "word-vector-elimination"]
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "text-classification"


def test_card_says_what_was_measured(card, report):
    text = card(report)
    assert "Made from `my-bert`" in text
    assert "| validation | 80 | 91.25 | 90.50 | +0.75 (-0.50 to +2.00) | 2.50x |" in text
    assert "| test | 60 | 91.25 | 90.50 | -0.25 (-0.50 to +2.00) | 2.50x |" in text
    assert "2.25x in random batches of 32" in text
    assert "70 %, 25 %, the first alone" in text
    assert 'BertForSequenceClassification.from_pretrained("this directory")' in text


def test_every_row_of_the_table_has_as_many_cells_as_its_head(card, report):
    lines = [line for line in card(report).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1


def test_card_says_how_and_names_results_where_data_has_a_name(card, report):
    settings = {"keep": None, "method": "calibrated", "epochs": 2.0, "retrain": True, "max_drop": 1.0}
    report |= {"settings": settings, "data": {"train": {"examples": 400}, "test": {"source": "test.csv"}}}
    text = card(report)
    assert "How: calibrated search; retrained with --epochs 2, distilling from the dense model; 400 training" in text
    (result,) = ModelCard(text).data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("test.csv", "accuracy", 90.5)


def test_card_names_the_hub_model_that_it_comes_from(card, report):
    report["model"] = "someone/my-bert"
    text = card(report)
    assert ModelCard(text).data.base_model == "someone/my-bert"
    assert "Made from `someone/my-bert`" in text


def test_card_doesnt_say_where_the_model_stood(card, report, tmp_path):
    (tmp_path / "my-bert").mkdir()
    report["model"] = str(tmp_path / "my-bert")
    assert "Made from `my-bert`" in card(report)


def test_card_without_test_texts_speed_or_name(card, report):
    for name in ("model", "test", "speed"):
        del report[name]
    text = card(report)
    assert "a model in memory" in text
    assert "| test |" not in text
    assert "speed-up" not in text


def test_counts_are_said_as_they_are(card, report):
    report["retention"] = Retention.counts([60, 20, 4]).to_dict()
    report["last_layer_cut_to_first_token"] = False
    assert "Word vectors kept after each layer: 60, 20, 4." in card(report)
