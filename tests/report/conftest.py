"""A browser, where there is one, and what it has to say about a page."""

import os
import re
import shutil

import pytest


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--disable-gpu", *root])
        yield opened
        opened.close()


# Gives the links that lead nowhere.
_FOLLOW_LINKS = """
[...document.querySelectorAll("nav a")].filter(link => {
    link.click();
    return document.querySelector(location.hash) === null;
}).map(link => link.href)
"""


@pytest.fixture
def look_at(browser, tmp_path):
    """``look_at(html, text)``: open it wide and narrow, in light and dark; unfold all, follow every link.

    It says nothing, loads nothing, shows the text as text, and nothing sticks out.
    """
    place = tmp_path / "page.html"

    def look(html, text):
        place.write_text(html, encoding="utf-8")
        for width, scheme in ((1280, "light"), (390, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            faults = []
            page.on("console", lambda message: faults.append(message.text))  # noqa: B023
            page.on("pageerror", lambda error: faults.append(str(error)))  # noqa: B023
            page.on("request", lambda request: faults.append(request.url))  # noqa: B023
            page.goto(place.as_uri())
            assert page.locator("[data-figure]:has(.trace)").count() == page.locator("[data-figure]").count()
            assert page.evaluate(_FOLLOW_LINKS) == []
            page.evaluate("document.querySelectorAll('summary').forEach(summary => summary.click())")
            assert text is None or page.get_by_text(text).first.is_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", background))) > 384) == (scheme == "light")
            assert {fault.partition("#")[0] for fault in faults} == {place.as_uri()}
            page.close()

    return look
