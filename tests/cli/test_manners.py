"""What all commands share in a terminal: help, quiet, narrow windows, completion, configuration."""

import os
import re
import subprocess
import sys

import pytest

from wordelim.cli import app, main, run

COMMANDS = [command.name for command in app.registered_commands]
DATA = ("--train", "train.csv", "--validation", "dev.csv")
KEPT = ("compress", "dense", *DATA, "-o", "out", "--keep", "0.7,0.4,0", "--no-retrain")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_grouped_and_has_an_example(wordelim, command):
    shown = wordelim(command, "--help").stdout
    assert f"Example: wordelim {command}" in shown
    assert re.findall(r"─ (\w+) ─", shown)[-1] == "Run"
    for option in ("--config", "--quiet", "--verbose", "--debug"):
        assert shown.count(f" {option} ") == 1, option


def test_groups_stand_in_order(wordelim):
    shown = wordelim("compress", "--help").stdout
    groups = re.findall(r"─ (\w+) ─", shown)
    assert groups == ["Arguments", "Options", "Data", "Goal", "Search", "Retraining", "Result", "Run"]
    groups = re.findall(r"─ ([\w ]+) ─", wordelim("--help").stdout)
    assert groups == ["Options", "Make faster", "Prove", "Serve", "Look inside"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("width", [40, 64])
def test_help_in_a_narrow_terminal(monkeypatch, capsys, command, width):
    monkeypatch.setattr(app, "rich_markup_mode", app.rich_markup_mode)
    monkeypatch.setattr(app.info, "context_settings", app.info.context_settings)
    monkeypatch.setattr("sys.argv", ["wordelim", *filter(None, [command]), "--help"])
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    assert "--baseline-report" in shown or command != "check"
    assert "…" not in shown


def test_results_in_a_narrow_terminal(wordelim, here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    shown = [wordelim(*KEPT, "--max-drop", "100", "--dry-run"), wordelim(*KEPT, "--max-drop", "100")]
    shown.append(wordelim("check", "dense", "out", "--data", "dev.csv", "--max-drop", "100"))
    shown.append(wordelim("probe", "dense", "--validation", "dev.csv", "--examples", "8"))
    for done in shown:
        assert done.exit_code == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 40, done.stdout
        assert "…" not in done.stdout


def test_quiet_leaves_results_and_errors(wordelim, here):
    done = wordelim(*KEPT, "--max-drop", "100", "--quiet")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "accuracy, in points" in done.stdout
    again = wordelim(*KEPT, "-q")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith("error: Output directory 'out' exists")
    assert wordelim("inspect", "dense").exit_code == 0  # and the next command isn't quiet
    assert not run.errors.quiet


def test_one_configuration_file_for_every_command(wordelim, here):
    (here / "run.toml").write_text('validation = "dev.csv"\nexamples = 8\nas_json = true\n')
    refused = wordelim("probe", "dense", "--config", "run.toml")
    assert refused.exit_code == 2
    assert "sets 'as_json', which is no option" in refused.stderr
    (here / "run.toml").write_text('validation = "dev.csv"\nexamples = 8\njson = true\nquiet = true\n')
    done = wordelim("probe", "dense", "--config", "run.toml")
    assert done.stdout.startswith("{")
    assert done.stderr == ""


def test_shells_complete_commands_and_options():
    def complete(words, position):
        done = subprocess.run(
            [sys.executable, "-c", "from wordelim.cli import app; app(prog_name='wordelim')"],
            env={**os.environ, "_WORDELIM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": position},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout.split()

    assert complete("wordelim che", "1") == ["check"]
    assert "--baseline-report" in complete("wordelim check --b", "2")


@pytest.mark.parametrize(
    ("option", "quiet"), [((), True), (("--verbose",), False), (("-v",), False), (("--debug",), False)]
)
def test_libraries_are_heard_when_asked(wordelim, here, monkeypatch, option, quiet):
    silenced = []
    monkeypatch.setattr(run, "_silence", lambda: silenced.append(True))
    assert wordelim("inspect", "dense", *option).exit_code == 0
    assert bool(silenced) is quiet
