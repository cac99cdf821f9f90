"""``wordelim probe``."""

import json
import re


def test_the_verdict_comes_first_and_exits_0(wordelim, here):
    done = wordelim("probe", "dense", "--validation", "dev.csv", "--examples", "16", "-o", "probe.json")
    assert done.exit_code == 0, done.stderr
    assert re.match(r"\nNo: your inputs average \d+ tokens, too few to drop from; packing alone gives", done.stdout)
    for shown in ("Your texts", "tokens computed for each real one", "FLOPs ratio", "points lost"):
        assert shown in done.stdout
    report = json.loads((here / "probe.json").read_text())
    assert (report["verdict"], report["model"], report["data"]["measured"]) == ("no", "dense", 16)


def test_json_alone_is_on_stdout(wordelim, here):
    done = wordelim("probe", "dense", "--validation", "dev.csv", "--examples", "8", "--json")
    assert json.loads(done.stdout)["metric"] == "accuracy"


def test_a_compressed_model_is_refused(wordelim, here):
    assert wordelim("probe", "./nowhere", "--validation", "dev.csv").exit_code == 1
    done = wordelim("probe", "dense", "--validation", "no.csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "The data file no.csv doesn't exist" in done.stderr
