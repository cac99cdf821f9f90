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
