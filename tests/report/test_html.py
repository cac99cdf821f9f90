"""The report page: it holds what the report holds, escaped; valid; and a browser finds nothing to complain of."""

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
from wordelim.report.html import readable, render_html
from wordelim.report.markdown import render_markdown


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


def test_texts_stay_text(compression, evil):
    page = render_html(compression)
    scripts = [script.text for script in parsed(page).findall(".//script")]
    assert [bool(script) for script in scripts] == [False, True]  # plotly's, taken off here, and what draws with it
    assert evil in said(page)
    assert own(page).count("<script") == 2
    assert page.count("'sha256-") == 2
    compression["tried"][2]["stage"] = compression["metric"] = evil
    figures = re.findall('data-figure="([^"]*)"', render_html(compression))
    assert len(figures) == 3
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


def test_a_check(reports):
    text = said(render_html(reports["check"]))
    for expected in (
        "Check of my-bert-fast",
        "Failed: the drop is 0.75",
        "my-bert-fast against my-bert. Warning: 5 of 80 texts were cut.",
        "Where it is lost",
        "whole check 3.0",
    ):
        assert expected in text


def test_a_benchmark(reports):
    text = said(render_html(reports["bench"]))
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
def test_markdown_says_what_the_page_says(reports, kind):
    report = reports[kind]
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
def test_a_browser_finds_no_fault(reports, look_at, evil, kind):
    look_at(render_html(reports[kind]), None if kind == "bench" else evil)


def test_the_report_is_plain_data(compression):
    assert render_html(json.loads(json.dumps(compression))) == render_html(compression)
