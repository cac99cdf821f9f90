"""Names, labels and texts are shown as text: none acts on a terminal or on a page, or says where a file stands."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from wordelim.cli import app, main
from wordelim.report.markdown import code, escaped
from wordelim.system.printable import bare_name, json_text, one_line, printable

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
# What clears a line, colours, rings and turns; what ends a line, a code span, a cell and a tag.
NASTY = "a\x1b[2K\x1b[31m\x07\x08\x9b1m\x7f\u202e\u2066\u200b\r\n\n# b`|``<i>"
NAME = NASTY.replace("/", "")


@pytest.fixture
def nasty(here, template, edit_json):
    """``dense``, a model, and ``data.jsonl``, in a folder; each has such a name, and the data and labels too."""
    folder = here / NAME
    folder.mkdir()
    dense, data = folder / f"dense {NAME}", folder / f"data {NAME}.jsonl"
    AutoModelForSequenceClassification.from_pretrained(template).save_pretrained(dense)
    AutoTokenizer.from_pretrained(template).save_pretrained(dense)
    labels = [f"no {NASTY}", f"yes {NASTY}"]
    ids = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    edit_json(dense / "config.json", lambda config: config.update(ids))
    rows = [{NASTY: f"good film {NASTY} {'plot ' * n}", "label": labels[n % 2]} for n in range(12)]
    data.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder, dense, data


def assert_safe(text):
    found = UNSAFE.search(re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))
    assert found is None, (found[0], text[max(0, found.start() - 80) : found.end() + 20])


def test_what_every_command_prints_and_writes(wordelim, nasty, monkeypatch):
    folder, dense, data = nasty
    monkeypatch.setenv("COLUMNS", "100")
    fast, made = folder / f"fast {NAME}", folder / "made"
    column, sets = ("--text", NASTY), ("--train", data, "--validation", data)
    keep = ("--keep", "0.7,0.4,0", "--no-retrain", "--max-drop", 100)
    words = folder / "words.txt"
    words.write_text("plot\n")
    protect = ("--protect", f"words:{words}")
    forms = [part for form in ("junit", "markdown", "html", "output") for part in (f"--{form}", made / form)]
    times = ("--rounds", 1, "--texts", 8, "--latency-texts", 2)
    commands = {
        "plan": ("compress", dense, *sets, *column, "-o", fast, "--dry-run"),
        "compress": ("compress", dense, *sets, *column, "-o", fast, *keep, *protect),
        "inspect": ("inspect", fast),
        "probe": ("probe", dense, "--validation", data, *column, "--examples", 8, "-o", made / "probe"),
        "check": ("check", dense, fast, "--data", data, *column, "--max-drop", 100, *forms),
        "bench": (
            "bench",
            dense,
            fast,
            "--data",
            data,
            *column,
            *times,
            "-o",
            made / "bench",
            "--html",
            made / "b.html",
        ),
        "explain": ("explain", fast, f"good {NASTY} plot", "--compare", NASTY + " bad", "--html", made / "e.html"),
        "audit": ("explain", fast, "--audit", data, "--text-column", NASTY, "--html", made / "a.html"),
        "unmet": ("compress", dense, *sets, *column, "-o", folder / "unmet", "--target-speedup", 100, *protect),
    }
    for name, command in commands.items():
        done = wordelim(*command)
        assert done.exit_code == (3 if name == "unmet" else 0), done.stderr
        for shown in (done.stdout, done.stderr):
            assert_safe(shown)
        if name in ("probe", "check", "bench", "explain", "audit"):
            printed = wordelim(*command, "--json")
            assert_safe(printed.stdout)
            assert str(Path.cwd()) not in printed.stdout
            assert json.loads(printed.stdout)
    written = [*made.iterdir(), *folder.glob("unmet.*"), fast / "README.md", fast / "wordelim_report.json"]
    assert len(written) == 4 + 5 + 2 + 2
    for path in [*written, *fast.glob("report.*")]:
        text = path.read_bytes().decode()
        assert_safe(text)
        assert str(Path.cwd()) not in text, path
        assert "words.txt" in text or "report" not in path.name
    report = json.loads((fast / "wordelim_report.json").read_text())
    assert report["model"] == dense.name
    assert report["data"]["train"]["source"] == data.name
    assert report["settings"]["protect"] == ["words:words.txt"]
    checked = json.loads((made / "output").read_text())
    assert (checked["base"], checked["compressed"]) == (dense.name, fast.name)
    # One line each, and no more cells than there are.
    card = (fast / "README.md").read_text().splitlines()
    (source,) = (line for line in card if line.startswith("Made from"))
    assert source == f"Made from {code(dense.name)} by dropping word vectors layer by layer"
    for lines in (card, (made / "markdown").read_text().splitlines()):
        tables = [line for line in lines if line.startswith("|")]
        assert len(tables) > 2
        assert all(line.endswith("|") for line in tables)
        assert not any(line.startswith(("# b", "<i>")) for line in lines)
    ElementTree.parse(made / "junit")


# autoload takes nothing that could be in its errors.
COMMANDS = [command.name for command in app.registered_commands if command.name != "autoload"]


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_are_one_line_of_text(wordelim, here, command):
    needed = {
        "compress": ("--train", NAME, "--validation", NAME, "-o", f"out{NAME}"),
        "probe": ("--validation", NAME),
        "check": (NAME, "--data", NAME),
        "bench": ("--data", NAME),
        "export": ("-o", f"out{NAME}"),
        "explain": ("good",),
        "push": ("me/model",),
        "inspect": (),
    }
    if command == "demo":
        Path(NAME).mkdir()
        done = wordelim("demo", "-o", NAME)
    else:
        done = wordelim(command, f"./{NAME}", *needed[command])
    assert (done.exit_code, done.stdout) == (1, "")
    line = done.stderr.splitlines()[-1]  # those before it name stages
    assert line.startswith("error: ")
    assert "a␛[2K␛[31m␇" in line or "a\\x1b[2K" in line
    assert_safe(done.stderr)


def test_wrong_usage_is_text_too(wordelim, here):
    Path("c.toml").write_text(f"max_drop = {json.dumps(NASTY)}\n".replace("\x7f", ""))
    Path("d.toml").write_text(f"{json.dumps(NASTY)} = 1\n".replace("\x7f", ""))
    check = ("check", "dense", "dense", "--data", "dev.csv")
    for words in (
        (NASTY,),
        ("check", f"--{NASTY}"),
        (*check, "--max-drop", NASTY),
        (*check, "--config", "c.toml"),
        (*check, "--config", "d.toml"),
        (*check, "--config", f"{NAME}.toml"),
        ("compress", "dense", "--train", "x", "--validation", "x", "-o", "o", "--keep", NASTY),
        ("inspect", "dense", NASTY),
    ):
        done = wordelim(*words)
        assert done.exit_code == 2
        assert_safe(done.stderr)
        assert "a" in done.stderr


def test_a_traceback_is_text_too(monkeypatch, capsys, here):
    monkeypatch.setattr("sys.argv", ["wordelim", "inspect", f"./{NAME}", "--debug"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert_safe(shown)


def test_what_is_safe_stays_as_it_is(tmp_path):
    for text in ("é 漢字 👩‍👧 שלום می‌خواهم\u200f", "two\nlines\tand a tab", ""):
        assert printable(text) == text
        assert json.loads(json_text({text: text})) == {text: text}
    assert json.loads(json_text([NASTY])) == [NASTY]
    assert_safe(json_text([NASTY, "\ud800"]))
    assert one_line("a\r\n b") == "a␍ b"
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text([float("nan")])
    assert (code("a"), code("a`b"), code("`` a")) == ("`a`", "`` a`b ``", "``` `` a ```")
    assert escaped("a\x1b\nb|*") == r"a␛ b\|\*"
    for name, bare in {
        tmp_path / "x": "x",
        f"{tmp_path}/y/..": tmp_path.name,
        "~/models/z": "z",
        "./w": "w",
        "someone/bert": "someone/bert",
    }.items():
        assert bare_name(name) == bare
