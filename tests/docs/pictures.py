"""Make the pictures in docs/pictures from what ``wordelim demo`` left: screenshots of its pages, and a text's way down.

python tests/docs/pictures.py wordelim-demo
"""

from __future__ import annotations

import base64
import os
import shutil
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from transformers import AutoTokenizer

import wordelim
from wordelim import Explanation
from wordelim.report.survival import render_survival

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
TEXT = "Return a new array of the given shape, whose entries are drawn from a normal distribution."
OTHER = "Load a pretrained tokenizer from a directory, or from the name of a model on the hub."


def main(directory: str) -> None:
    """Make all of them."""
    PICTURES.mkdir(exist_ok=True)
    model, tokenizer = wordelim.load(directory).float(), AutoTokenizer.from_pretrained(directory)
    first, second = (wordelim.explain(model, tokenizer, text) for text in (TEXT, OTHER))
    (PICTURES / "layers.svg").write_text(_layers(first), encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as started:
        page = Path(scratch) / "survival.html"
        page.write_text(render_survival(first, second), encoding="utf-8")
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--disable-gpu", *root])
        _shoot(browser, page, "survival.webp", height=660)
        _shoot(browser, Path(directory).resolve() / "report.html", "report.webp", height=1150)
        browser.close()


def _shoot(browser: Browser, page: Path, name: str, *, height: int) -> None:
    tab = browser.new_page(viewport={"width": 1100, "height": height}, color_scheme="light")
    tab.goto(page.as_uri())
    tab.screenshot()  # waits for the first frame, without which there is nothing to capture
    options: dict[str, Any] = {"format": "webp", "quality": 80}
    taken = tab.context.new_cdp_session(tab).send("Page.captureScreenshot", options)
    (PICTURES / name).write_bytes(base64.b64decode(taken["data"]))
    tab.close()


def _layers(explanation: Explanation) -> str:
    """The words from left to right, the layers from top to bottom; a word goes down as far as it survives."""
    row, size, left, x = 26, 13, 84, 84.0
    places = []
    for word in explanation.words:
        width = 7.8 * len(word.text) + 10
        places.append((x, width))
        x += width + 4
    height = row * (explanation.layers + 1) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x:.0f} {height}"',
        f' font-family="monospace" font-size="{size}">',
        f'<rect width="{x:.0f}" height="{height}" fill="#fff"/>',
    ]
    for level in range(explanation.layers + 1):
        y = 12 + row * level
        name = "text" if level == 0 else f"layer {level}"
        parts.append(f'<text x="{left - 12}" y="{y + 15}" text-anchor="end" fill="#5a6675">{name}</text>')
        for word, (at, width) in zip(explanation.words, places, strict=True):
            if word.depth >= level:
                parts.append(
                    f'<rect x="{at:.0f}" y="{y}" width="{width:.0f}" height="{row - 5}" rx="4" fill="#a9cdf6"/>'
                )
                middle = at + width / 2
                label = f'<text x="{middle:.0f}" y="{y + 15}" text-anchor="middle" fill="#1b2430">'
                parts.append(f"{label}{escape(word.text)}</text>")
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
