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


@pytest.mark.parametrize("protocol", ["dynamic", "unpadded"])
def test_a_card_that_makes_nothing_faster_is_said_of_a_compression(reports, protocol):
    report = reports["compression"]
    report["machine"] = {**report["machine"], "card": "a card"}
    report["speed"] = {**report["speed"], protocol: 0.43}
    assert "On this card the compressed model is slower than the dense one (0.43x)" in said(report)
    del report["machine"]["card"]
    assert "On this card" not in said(report)


@pytest.mark.parametrize(
    ("rival", "called", "named"),
    [
        ("dynamic", "the dense one", "dense, random batches padded to their longest text"),
        ("keep-all", "the dense one rewritten, with nothing dropped", "the rewritten model that drops nothing"),
    ],
)
def test_the_fastest_dense_rival_is_named_and_said_where_a_card_loses_to_it(reports, rival, called, named):
    report = reports["bench"]
    report |= {"compressed": "b/my-bert-fast", "settings": {"batch_size": 32, "rounds": 3}, "fixed_length": 64}
    report["machine"] = {**report["machine"], "processor": "x86_64", "card": "a card"}
    del report["measurements"][0]["latency"]
    timed = report["measurements"][0]["throughput"]
    spread = {"median": 0.43, "low": 0.4, "high": 0.5}
    timed["against"][rival]["speedup"] = spread
    names = ("dense dynamic", "keep-all dynamic", "compressed dynamic")
    timed["texts_per_second"] = dict.fromkeys(names, spread)
    assert f"Fastest dense rival: {named}" in said(report)
    assert "(0.43x against it)" in said(report)
    assert f"On this card the compressed model is slower than {called} (0.43x)" in said(report)
    assert f"Fastest dense rival: {named}" in render_markdown(report)
    assert "(0.43× against it)" in render_html(report)
    timed["against"][rival]["speedup"] = {**spread, "median": 1.43}
    assert "On this card" not in said(report)
    assert "(1.43x against it)" in said(report)


def said(report):
    """What a terminal shows."""
    return str([section.blocks for section in brief_of(report)])
