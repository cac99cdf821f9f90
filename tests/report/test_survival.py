"""Explanations and audits as pages: valid, and what a text holds stays text."""

import datasets
import html5lib
import pytest

import wordelim
from wordelim import Retention
from wordelim.errors import DataError
from wordelim.report.survival import render_audit, render_survival
from wordelim.verbs.audit import audit
from wordelim.verbs.explain import explain

EVIL = "</p><script>alert(1)</script> good & 'bad' film"
TEXTS = ["not good film", "the film is good", "never bad", "good plot not film", "the cat is not here"] * 3


@pytest.fixture(scope="module")
def compressed(make_model, make_tokenizer):
    model = wordelim.eliminate_(make_model("bert"), Retention.fractions([0.7, 0.4, 0.0], protect=("first:2",)))
    return model, make_tokenizer("bert")


def parsed(page):
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)


def test_a_page_shows_the_text_as_text(compressed):
    page = render_survival(explain(*compressed, EVIL, "good film"), explain(*compressed, "the good film"))
    tree = parsed(page)
    assert tree.findall(".//script") == []
    paragraphs = ["".join(p.itertext()) for p in tree.findall(".//p[@dir='auto']")]
    assert [text.replace("[CLS]", "").replace("[SEP]", "") for text in paragraphs] == [
        EVIL,
        "good film",
        "the good film",
    ]
    words = [node for node in tree.iter() if "w" in (node.get("class") or "").split()]
    assert any("Significance in layer 1: " in node.get("title") for node in words)
    assert "good" in ["".join(cell.itertext()) for cell in tree.findall(".//section")[-1].iter("bdi")]


def test_an_audit_counts_words(compressed):
    data = datasets.Dataset.from_dict({"text": TEXTS})
    found = audit(*compressed, data)
    assert found["texts"] == len(TEXTS)
    assert found["words"]["seen"] == sum(len(text.split()) for text in TEXTS)
    assert {row["word"]: row["seen"] for row in found["each_watched"]} == {"not": 9, "never": 3}
    assert found["watched"]["seen"] == 12
    assert found["protected"] == {"positions": 2 * len(TEXTS), "dropped": 0}
    explained = [explain(*compressed, text) for text in TEXTS]
    depths = [word.depth for each in explained for word in each.words if word.text == "not"]
    (row,) = [row for row in found["each_watched"] if row["word"] == "not"]
    assert row["survives"] == round(sum(depths) / len(depths) / 3, 3)
    assert row["left"] == [round(sum(depth > layer for depth in depths) / len(depths), 3) for layer in range(3)]
    ranks = [row["survives"] for row in found["earliest"]]
    assert ranks == sorted(ranks)
    assert audit(*compressed, data, watch={"film"})["each_watched"][0]["seen"] == 9
    assert audit(*compressed, data, limit=4)["texts"] == 4


@pytest.mark.parametrize("text", [None, " ", 3])
def test_a_row_without_text_is_named(compressed, text):
    data = datasets.Dataset.from_dict({"text": ["1", None] if text is None else [text, text]})
    with pytest.raises(DataError, match=r"Row [12] has no text in column 'text'"):
        audit(*compressed, data)


def test_an_audits_page_is_valid(compressed):
    data = datasets.Dataset.from_dict({"text": ["<script>alert(1)</script> film"] * 4})
    tree = parsed(render_audit(audit(*compressed, data), model="<b>m</b>", source="a&b"))
    assert tree.findall(".//script") == []
    assert "script" in ["".join(node.itertext()) for node in tree.iter("bdi")]


def test_a_browser_finds_no_fault(compressed, look_at):
    long = "the film is not good " * 12 + "هذا فيلم 这部电影不好 " + "x" * 200
    look_at(render_survival(explain(*compressed, long, "good film"), explain(*compressed, "the film")), None)
    data = datasets.Dataset.from_dict({"text": [EVIL, "x" * 200 + " film"] * 4})
    look_at(render_audit(audit(*compressed, data), model="m", source="s"), None)
