"""``wordelim check``: exit codes, the files that it writes, and docs/ci-gate.md as written."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
import xmlschema
import yaml
from pre_commit.clientlib import load_config

from wordelim import Retention, eliminate_, load
from wordelim.checkpoint.directory import load_dense, save

DOC = Path(__file__).parents[2] / "docs" / "ci-gate.md"
JUNIT = xmlschema.XMLSchema(Path(__file__).with_name("junit.xsd"))
NASTY = "<script>|`x`[]\x07"


@pytest.fixture
def models(here, make_tokenizer):
    """``models/base``, ``models/fast`` that answers the same, ``models/next`` that doesn't, and ``data/test.csv``."""
    (here / "models").mkdir()
    (here / "data").mkdir()
    (here / "models" / "base").symlink_to(os.path.realpath("dense"))
    for name, keep in {"fast": [1.0, 1.0, 0.0], "next": [0.0, 0.0, 0.0]}.items():
        save(eliminate_(load_dense("dense"), Retention.fractions(keep)), make_tokenizer("bert"), f"models/{name}")
    os.rename("dev.csv", "data/test.csv")
    return here


def relabel(wordelim):
    """Give the texts the labels that the base model answers, so that any changed answer is a loss."""
    report = json.loads(wordelim("check", "models/base", "models/fast", "--data", "data/test.csv", "--json").stdout)
    lines = Path("data/test.csv").read_text().splitlines()
    texts = (line.rpartition(",")[0] for line in lines[1:])
    rows = [f"{text},{answer}" for text, answer in zip(texts, report["answers"]["base"], strict=True)]
    Path("data/test.csv").write_text("\n".join([lines[0], *rows]) + "\n")


CHECK = ("check", "models/base", "models/fast", "--data", "data/test.csv")
LOST = ("check", "models/base", "models/next", "--data", "data/test.csv", "--max-drop", "0.5")


def test_a_model_that_passes(wordelim, models):
    done = wordelim(*CHECK, "--junit", "new/c.xml", "--markdown", "c.md", "-o", "c.json", "--min-speedup", "0.0001")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"^ *all +24 +[\d.]+ +[\d.]+ +\+0.00", done.stdout, re.M)
    assert "0 of 24 answers changed" in done.stdout
    assert done.stderr.splitlines()[-4:-1] == ["Written: new/c.xml", "Written: c.md", "Written: c.json"]
    assert "Passed: the drop is 0.00 points of accuracy on 24 examples, of 1 allowed" in done.stderr
    suite = JUNIT.to_dict("new/c.xml")["testsuite"][0]
    assert (suite["@tests"], suite["@failures"]) == (2, 0)
    assert "### wordelim check: passed" in Path("c.md").read_text()
    assert json.loads(Path("c.json").read_text())["passed"] is True


def test_a_model_that_fails(wordelim, models, edit_json):
    relabel(wordelim)
    # Names that would do something in XML, Markdown or HTML stay names.
    for name in ("fast", "next"):
        edit_json(models / "models" / name / "config.json", lambda c: c.update(id2label={"0": NASTY, "1": "pos"}))
    forms = ("--junit", "c.xml", "--markdown", "c.md", "--html", "c.html")
    done = wordelim("check", "models/fast", "models/next", "--data", "data/test.csv", *forms)
    assert done.exit_code == 3
    page = Path("c.html").read_text()
    assert re.search(r"Failed: the drop is [\d.]+ points of accuracy, more than 1\.", page)
    assert "Worst changes" in page
    assert "<script>|" not in page
    assert "&lt;script&gt;|" in page
    assert re.search(r"^Failed: the drop is [\d.]+ points of accuracy, more than 1\.$", done.stderr, re.M)
    JUNIT.validate("c.xml")
    (suite,) = JUNIT.to_dict("c.xml")["testsuite"]
    (case,) = suite["testcase"]
    assert suite["@failures"] == 1
    assert "more than 1" in case["failure"]["@message"]
    markdown = Path("c.md").read_text()
    assert "### wordelim check: FAILED" in markdown
    assert "<script>" not in markdown
    assert r"| &lt;script&gt;\|\`x\`\[\]" in markdown


def test_the_verdict_is_the_same_each_time(wordelim, models):
    relabel(wordelim)
    first, second = (wordelim(*LOST, "--strict", "--json") for _ in range(2))
    assert first.exit_code == second.exit_code == 3
    reports = [json.loads(done.stdout) for done in (first, second)]
    for report in reports:
        report.pop("seconds")
    assert reports[0] == reports[1]


REFUSED = {
    "no second model": (CHECK[:2] + CHECK[3:], 2, "Name the model to judge behind the base model"),
    "a directory": ((*CHECK, "--junit", "data"), 1, "data is a directory: name a file in it."),
    "below a file": ((*CHECK, "-o", "data/test.csv/x"), 1, "test.csv is a file): name another place."),
    "no data": ((*CHECK[:3], "--data", "no.csv"), 1, "The data file no.csv doesn't exist; check the path."),
    "no report": ((*CHECK, "--baseline-report", "no.json"), 1, "no.json doesn't exist"),
    "confidence": ((*CHECK, "--confidence", "95"), 1, "give a share between 0 and 1"),
    "metric": ((*CHECK, "--metric", "bleu"), 1, "no metric 'bleu'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cant_be_done_is_refused(wordelim, models, name):
    arguments, code, message = REFUSED[name]
    done = wordelim(*arguments)
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no directory here that even root can't write to")
def test_a_folder_that_cant_be_written_is_refused_first(wordelim, models):
    for option in ("--junit", "--markdown", "--html", "-o"):
        done = wordelim("check", "nowhere", *CHECK[2:], option, "/proc/check")
        assert done.exit_code == 1
        assert "/proc/check can't be written" in done.stderr


# --- the documentation, as written ------------------------------------------------------------------------------


def blocks(language):
    found = re.findall(rf"^```{language}\n(.*?)^```", DOC.read_text(), re.M | re.S)
    assert found
    return found


def run_as_written(wordelim, command, **variables):
    for name, value in variables.items():
        command = command.replace(f"${name}", value)
    program, *arguments = shlex.split(command)
    assert program == "wordelim"
    return wordelim(*arguments)


def test_commands_of_the_documentation(wordelim, models):
    (models / "models" / "next").rename(models / "models" / "lossy")
    (models / "models" / "next").symlink_to("fast")
    for block in blocks("sh"):
        for command in block.splitlines():
            assert run_as_written(wordelim, command).exit_code == 0, command


def test_workflow_of_the_documentation(wordelim, models):
    (workflow,) = (loaded for loaded in map(yaml.safe_load, blocks("yaml")) if "jobs" in loaded)
    assert workflow[True] == "pull_request"  # YAML 1.1 reads the key `on` as true
    steps = workflow["jobs"]["check"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    (command,) = (step["run"] for step in steps if step.get("run", "").startswith("wordelim"))
    done = run_as_written(wordelim, command, GITHUB_STEP_SUMMARY=str(models / "summary.md"))
    assert done.exit_code == 0, done.stderr
    assert (models / "summary.md").read_text().startswith("### wordelim check: passed")
    (kept,) = (step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", ""))
    JUNIT.validate(models / kept)


def test_pre_commit_hook_of_the_documentation(wordelim, models):
    (text,) = (block for block in blocks("yaml") if block.startswith("repos:"))
    Path("pre-commit.yaml").write_text(text)
    hook = load_config("pre-commit.yaml")["repos"][0]["hooks"][0]
    assert re.match(hook["files"], "models/fast/model.safetensors")
    assert run_as_written(wordelim, hook["entry"]).exit_code == 0


def test_pytest_helper_of_the_documentation(models):
    assert load("models/fast")
    for code in blocks("python"):
        names = {}
        exec(compile(code, str(DOC), "exec"), names)
        (test,) = (value for name, value in names.items() if name.startswith("test_"))
        test()
