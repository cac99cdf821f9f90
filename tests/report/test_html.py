"""The report page: it holds what the report holds, escaped; valid; and a browser finds nothing to complain of."""

import copy
import json
import re
from html import unescape
from itertools import pairwise

import html5lib
import plotly
import pytest
from plotly.offline import get_plotlyjs

from wordelim.errors import WordelimError
from wordelim.report import html
from wordelim.report.charts import Series, histogram, line_chart
from wordelim.report.html import render_html
from wordelim.report.markdown import render_markdown
from wordelim.report.readable import readable

EVIL = 'a <script>alert(1)</script> film & "more" \''
PART = {
    "examples": 80,
    "dense": 91.25,
    "compressed": 90.5,
    "drop": 0.75,
    "drop_interval_95": [-0.5, 2.0],
    "flips": {"total": 80, "changed": 3, "fixed": 1, "broken": 2},
    "mcnemar_p": 0.5,
    "flops_ratio": 2.503,
    "lengths": {
        "mean": 20.1,
        "median": 18,
        "p95": 40,
        "max": 59,
        "histogram": {"edges": [0, 20, 40, 60], "counts": [50, 25, 5]},
    },
    "slices": [
        {
            "by": "label",
            "slice": EVIL,
            "examples": 40,
            "metric": "recall",
            "dense": 90.0,
            "compressed": 80.0,
            "drop": 10.0,
        }
    ],
    "worst_flips": [
        {
            "row": 7,
            "texts": [EVIL, "مرحبا"],
            "label": "good",
            "dense": "good",
            "compressed": "bad",
            "before": 0.9,
            "after": 0.2,
        }
    ],
}
SPEED = {
    "fixed": 6.0,
    "dynamic": 2.25,
    "unpadded": 2.0,
    "batch_size": 32,
    "max_length": 128,
    "texts": 128,
    "threads": 2,
    "dtype": "float32",
    "rounds": 5,
}
RETENTION = {"kind": "fraction", "keep": [0.7, 0.25, 0.0]}
ABOUT = {
    "settings": {"max_drop": 1.0, "keep": None, "seed": 3},
    "machine": {"device": "cpu", "threads": 2},
    "versions": {"wordelim": "0.1.0"},
}


@pytest.fixture
def compression():
    return copy.deepcopy(
        {
            "wordelim_report": 1,
            "model": "/home/somebody/my-bert",
            "met": True,
            "unmet": None,
            "retention": RETENTION,
            "last_layer_cut_to_first_token": True,
            "metric": "accuracy",
            "validation": PART,
            "test": {**PART, "examples": 60, "drop": -0.25},
            "speed": SPEED,
            "tried": [
                {"stage": "found", "keep": [0.9, 0.5, 0.0], "flops_ratio": 1.5, "drop": 0.4},
                {"stage": "found", "keep": [0.2, 0.1, 0.0], "flops_ratio": 6.0, "drop": 40.0},
                {"stage": "retrain: all speeds", "keep": [0.7, 0.25, 0.0], "flops_ratio": 2.5, "drop": 0.8},
            ],
            "frontier": [{"retention": RETENTION, "flops_ratio": 2.5, "divergence": None}],
            "training": [
                {"stage": "retrain", "step": 1, "loss": 0.5},
                {"stage": "retrain", "step": 2, "loss": 0.4},
                {"stage": "retrain", "step": 2, "eval_points": 90.0},
            ],
            "data": {"columns": {"text": "text", "text_pair": None}, "test": {"examples": 60, "truncated": 12345}},
            "seconds": {"search": 1.5, "total": 9.0},
            **ABOUT,
        }
    )


CHECK = {
    "wordelim_check": 1,
    "passed": False,
    "failures": {"drop": "the drop is 0.75 points of accuracy, more than 0.5"},
    "warnings": ["5 of 80 texts were cut"],
    "base": "a/my-bert",
    "compressed": "b/my-bert-fast",
    "metric": "accuracy",
    "judged": 0.75,
    "result": PART,
    "seconds": 3.0,
    **ABOUT,
}
SPREAD = {"median": 2.0, "low": 1.9, "high": 2.1}
TIMED = {
    "texts": 128,
    "texts_per_second": {"dense dynamic": SPREAD},
    "against": {
        "dynamic": {
            "speedup": SPREAD,
            "flops_ratio": 2.2,
            "efficiency": 0.9,
            "factors": {"padding": 1.5, "last_layer": 1.1, "dropping": 1.2},
            "padding_share": 0.58,
        },
        "keep-all": {"speedup": SPREAD, "flops_ratio": 1.3, "efficiency": 0.9},
    },
}
ONE_BY_ONE = {**TIMED, "milliseconds": {"dense": {"median": 3.0, "p95": 4.0}}}
BENCH = {
    "wordelim_bench": 1,
    "base": "a/my-bert",
    "compressed": None,
    "retention": RETENTION,
    "last_layer_cut_to_first_token": False,
    "data": {"examples": 80, "lengths": PART["lengths"]},
    "measurements": [{"dtype": "float32", "mode": "eager", "throughput": TIMED, "latency": ONE_BY_ONE}],
    **ABOUT,
}


def own(page):
    """A page without plotly's own script, which takes the parser seconds."""
    assert page.count(get_plotlyjs()) <= 1
    return page.replace(get_plotlyjs(), "")


def parsed(page):
    page = own(page)
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)


def said(page):
    return re.sub(r"\s+", " ", " ".join(_texts(parsed(page).find("body"))))


def _texts(node):
    if node.tag != "script":
        yield node.text or ""
        for child in node:
            yield from _texts(child)
            yield child.tail or ""


def test_a_compression(compression):
    page = render_html(compression)
    tree, text = parsed(page), said(page)
    assert [section.get("id") for section in tree.iter("section")] == [
        "accuracy", "frontier", "keep", "speed", "lengths", "slices", "flips", "training", "settings",
    ]  # fmt: skip
    assert {a.get("href") for a in tree.iter("a")} == {f"#{section.get('id')}" for section in tree.iter("section")}
    for expected in (
        "my-bert, compressed",
        "Within the bounds",
        "\N{MINUS SIGN}0.25 points lost",
        "2.25× faster, measured",
        "McNemar: p = 0.5",
        "Not shown: 1 that lost more than 11 points",
        "after retraining: all speeds 2.50× +0.80 0.7, 0.25, 0",
        "layer 3 the first alone",
        "128 texts, batches of 32, 2 threads, float32",
        "0.90 to 0.20",
        "test truncated 12,345",
        "max drop 1.0",
    ):
        assert expected in text, expected
    assert "somebody" not in page


def test_texts_stay_text(compression):
    page = render_html(compression)
    scripts = [script.text for script in parsed(page).findall(".//script")]
    assert [bool(script) for script in scripts] == [False, True]  # plotly's, taken off here, and what draws with it
    assert EVIL in said(page)
    assert own(page).count("<script") == 2
    assert page.count("'sha256-") == 2
    compression["tried"][2]["stage"] = compression["metric"] = EVIL
    figures = re.findall('data-figure="([^"]*)"', render_html(compression))
    assert len(figures) == 4
    assert not any("<script" in unescape(figure) for figure in figures)


def test_nothing_is_loaded(compression):
    page = own(render_html(compression))
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"\b(src|srcset|@import|url)\s*[=(]", page)
    assert len(page) < 60_000


def test_an_unmet_goal_is_said(compression):
    compression |= {"met": False, "unmet": "2.00 points of accuracy are lost on validation, more than 1"}
    assert "Not met: 2.00 points of accuracy" in said(render_html(compression))


def test_what_a_report_lacks_is_left_out(compression):
    for name in ("test", "speed", "tried", "training", "model", "seconds"):
        del compression[name]
    for name in ("slices", "worst_flips", "mcnemar_p", "flips"):
        del compression["validation"][name]
    del compression["validation"]["lengths"]["histogram"]
    text = said(render_html(compression))
    assert "A model in memory, compressed" in text
    assert "faster, measured" not in text


def test_counts(compression):
    compression["retention"] = {"kind": "count", "keep": [60, 30, 6]}
    compression["last_layer_cut_to_first_token"] = False
    assert "layer 2 30" in said(render_html(compression))


def test_a_check():
    text = said(render_html(CHECK))
    for expected in (
        "Check of my-bert-fast",
        "Failed: the drop is 0.75",
        "my-bert-fast against my-bert. Warning: 5 of 80 texts were cut.",
        "Where it is lost",
        "whole check 3.0",
    ):
        assert expected in text


def test_a_benchmark():
    text = said(render_html(BENCH))
    for expected in ("Speed of my-bert", "2.00× faster than dynamic", "padding 1.50 · last layer 1.10", "58 %", "p95"):
        assert expected in text


def test_charts_are_plotlys():
    lines = line_chart([Series("<b>", [(1.0, -3.0), (9.5, 7.0)], ["<i>", "b"])], "x", "y", bound=30.0)
    bars = histogram([0, 10, 30], [3, 1], "x", "y")
    for figure in (lines, bars):
        drawn = json.loads(re.sub('"--[a-z]+"', '"#fff"', json.dumps(figure)))
        checked = json.loads(plotly.graph_objects.Figure(drawn).to_json())  # raises at what plotly doesn't know
        checked["layout"].pop("template")
        assert checked == drawn
    assert lines["data"][0]["name"] == "&lt;b&gt;"
    assert lines["data"][0]["hovertext"] == ["&lt;i&gt;", "b"]
    assert lines["layout"]["shapes"][0]["y0"] == 30.0
    assert bars["data"][0]["width"] == [10, 20]
    assert line_chart([Series("a", [])], "x", "y") is None
    assert histogram([0, 1], [0], "x", "y") is None


def test_without_plotly_there_is_markdown(compression, monkeypatch):
    assert readable(compression)[0] == "report.html"
    monkeypatch.setattr(html, "find_spec", lambda name: None)
    with pytest.raises(WordelimError, match=re.escape("pip install 'wordelim[report]'")):
        render_html(compression)
    assert readable(compression) == ("report.md", render_markdown(compression))


@pytest.mark.parametrize("kind", ["compression", "check", "bench"])
def test_markdown_says_what_the_page_says(compression, kind):
    report = {"compression": compression, "check": CHECK, "bench": BENCH}[kind]
    lines = render_markdown(report).splitlines()
    tree = parsed(render_html(report))
    titles = [node.text for node in tree.iter("h2") if node.text != "Retraining"]  # which is charts alone
    assert [line[3:] for line in lines if line.startswith("## ")] == titles
    assert lines[0] == f"# {tree.find('.//h1').text}"
    assert "<script" not in "".join(lines)
    tables = [[line] for before, line in pairwise(lines) if line.startswith("|") and not before.startswith("|")]
    assert len(tables) == len(list(tree.iter("table")))
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    for (before, line), (above, width) in zip(pairwise(lines), pairwise(widths), strict=True):
        if before.startswith("|") and line.startswith("|"):
            assert above == width > 2, line


@pytest.mark.parametrize("kind", ["compression", "check", "bench"])
def test_a_browser_finds_no_fault(compression, look_at, kind):
    report = {"compression": compression, "check": CHECK, "bench": BENCH}[kind]
    look_at(render_html(report), None if kind == "bench" else EVIL)


def test_the_report_is_plain_data(compression):
    assert render_html(json.loads(json.dumps(compression))) == render_html(compression)
