"""A report is known by its key; and one without a page, or of no kind, is refused."""

import pytest

from wordelim.errors import WordelimError
from wordelim.report.html import render_html
from wordelim.report.kinds import brief_of
from wordelim.report.markdown import render_markdown


@pytest.mark.parametrize("render", [render_html, render_markdown, brief_of])
def test_what_is_no_report_is_refused(render):
    with pytest.raises(WordelimError, match="none of the keys wordelim_report, wordelim_check, wordelim_bench"):
        render({"met": True})


@pytest.mark.parametrize("kind", ["wordelim_probe", "wordelim_export"])
def test_a_report_without_a_page_is_refused(kind):
    with pytest.raises(WordelimError, match="give one of a compression, a check or a benchmark"):
        render_markdown({kind: 1})


@pytest.mark.parametrize("kind", ["compression", "check"])
def test_a_terminal_shows_plain_data(reports, kind):
    sections = brief_of(reports[kind])
    assert all(isinstance(section.title, str) and section.blocks for section in sections)


@pytest.mark.parametrize("kind", ["compression", "bench"])
def test_a_card_that_makes_nothing_faster_is_said(reports, kind):
    report = reports[kind]
    report["machine"] = {**report["machine"], "processor": "x86_64", "card": "a card"}
    if kind == "compression":
        report["speed"] = {**report["speed"], "dynamic": 0.43}
    else:
        report |= {"compressed": "b/my-bert-fast", "settings": {"batch_size": 32, "rounds": 3}, "fixed_length": 64}
        timed = report["measurements"][0].pop("throughput")
        del report["measurements"][0]["latency"]
        slow = {"median": 0.43, "low": 0.4, "high": 0.5}
        names = ("dense dynamic", "compressed dynamic")
        timed |= {"texts_per_second": dict.fromkeys(names, slow)}
        timed["against"] = {"dynamic": {"speedup": slow, "flops_ratio": 2.2, "efficiency": 0.2}}
        report["measurements"][0]["throughput"] = timed
    said = str([section.blocks for section in brief_of(report)])
    assert "On this card the compressed model is slower than the dense one (0.43x)" in said
    del report["machine"]["card"]
    assert "On this card" not in str([section.blocks for section in brief_of(report)])
