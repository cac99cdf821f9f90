"""Reports of every kind; and a browser, where there is one, and what it has to say about a page."""

import copy
import os
import re
import shutil

import pytest

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


COMPRESSION = {
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
    "choice": {
        "confidence": 0.8,
        "drop": 0.8,
        "bound": 0.95,
        "texts": 80,
        "enough_texts": 80,
        "fastest_as_measured": {"stage": "retrain", "keep": [0.6, 0.2, 0.0], "flops_ratio": 2.7, "drop": 0.9},
    },
    "tried": [
        {"stage": "found", "keep": [0.9, 0.5, 0.0], "flops_ratio": 1.5, "drop": 0.4},
        {"stage": "found", "keep": [0.2, 0.1, 0.0], "flops_ratio": 6.0, "drop": 40.0},
        {"stage": "retrain: all speeds", "keep": [0.7, 0.25, 0.0], "flops_ratio": 2.5, "drop": 0.8},
    ],
    "frontier": [{"retention": RETENTION, "flops_ratio": 2.5, "divergence": None}],
    "training": [
        {"stage": "retrain", "step": 1, "loss": 0.5},
        {"stage": "retrain", "step": 2, "loss": 0.4},
    ],
    "data": {"columns": {"text": "text", "text_pair": None}, "test": {"examples": 60, "truncated": 12345}},
    "seconds": {"search": 1.5, "total": 9.0},
    **ABOUT,
}
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
    "settings": {"max_drop": 0.5, "min_speedup": None, "strict": False, "confidence": 0.95},
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
REPORTS = {"compression": COMPRESSION, "check": CHECK, "bench": BENCH}


@pytest.fixture
def evil():
    """A text of the reports that would act on a page."""
    return EVIL


@pytest.fixture
def reports():
    """A report of each kind that has a page, for a test to change as it likes."""
    return copy.deepcopy(REPORTS)


@pytest.fixture
def compression(reports):
    """The report of a compression."""
    return reports["compression"]


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
