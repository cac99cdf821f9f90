"""What compares two models stands in every medium, whatever column is added."""

import pytest

from wordelim.report import columns
from wordelim.report.card import model_card
from wordelim.report.columns import COMPARED, Column
from wordelim.report.html import render_html
from wordelim.report.junit import render_junit
from wordelim.report.kinds import brief_of
from wordelim.report.markdown import escaped, render_digest, render_markdown
from wordelim.report.terminal import rendered

NEW = Column("changed", "changed", lambda share: f"{100 * share:.1f} %")


def terminal(report):
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as shown:
        console.print(*rendered(brief_of(report)))
    return shown.get()


MEDIA = {
    "page of a compression": ("compression", render_html),
    "page of a check": ("check", render_html),
    "Markdown of a compression": ("compression", render_markdown),
    "Markdown of a check": ("check", render_markdown),
    "digest": ("check", render_digest),
    "terminal of a compression": ("compression", terminal),
    "terminal of a check": ("check", terminal),
    "JUnit": ("check", render_junit),
    "card": ("compression", None),
}


@pytest.mark.parametrize("column", [*COMPARED, NEW], ids=lambda column: column.key)
@pytest.mark.parametrize("medium", MEDIA)
def test_every_medium_shows_every_column(reports, make_model, monkeypatch, medium, column):
    kind, render = MEDIA[medium]
    report = reports[kind]
    part = report["result" if kind == "check" else "validation"]
    monkeypatch.setattr(columns, "COMPARED", (*COMPARED, NEW))
    part["changed"] = 0.375
    if "test" in report:
        report["test"]["changed"] = 0.25
    shown = model_card(report, make_model("bert", labels=2)) if render is None else render(report)
    if medium == "JUnit":  # of which an interval is no property
        assert column.key == "drop_interval_95" or f'name="{column.key}" value="{part[column.key]}"' in shown
    else:
        written = column.write(part[column.key])
        assert any(each in shown for each in (written, escaped(written), written.replace("-", "\N{MINUS SIGN}")))
        names = {column.name, column.short or column.name, "base" if column.key == "dense" else column.name}
        assert any(name in shown for name in names)


@pytest.mark.parametrize("medium", ["terminal of a check", "Markdown of a compression", "page of a check"])
def test_what_there_is_no_number_for_is_a_dash(reports, monkeypatch, medium):
    kind, render = MEDIA[medium]
    report = reports[kind]
    monkeypatch.setattr(columns, "COMPARED", (*COMPARED, NEW))
    report["result" if kind == "check" else "validation"]["changed"] = None
    assert "\N{EN DASH}" in render(report)


def test_a_column_that_an_older_report_lacks_is_left_out(reports, monkeypatch):
    before = [render_markdown(report) for report in reports.values()]
    monkeypatch.setattr(columns, "COMPARED", (*COMPARED, NEW))
    assert [render_markdown(report) for report in reports.values()] == before


def test_what_slices_lack_is_said_of_all_texts(reports):
    assert "95 % interval of what is lost on all texts: -0.50 to +2.00" in terminal(reports["check"])
