"""Write docs/commands.md from the command line itself: what ``--help`` prints, as a page.

python tests/docs/commands.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from wordelim.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"

_HEAD = """# Commands

Written by `python tests/docs/commands.py` from what `wordelim COMMAND --help` prints.

Results go to stdout, progress and notes to stderr. Exit codes: 0 done, 1 error, 2 wrong usage, 3 the drop or the
speed-up that was asked for was not met.
"""


def render() -> str:
    """The page."""
    root: Any = typer.main.get_command(app)
    parts = [_HEAD]
    for name in sorted(root.commands):
        done = CliRunner().invoke(app, [name, "--help"], prog_name="wordelim", env={"COLUMNS": "110", "NO_COLOR": "1"})
        text = "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
        parts.append(f"## {name}\n\n```text\n{text.strip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
