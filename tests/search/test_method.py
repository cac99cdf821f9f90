"""A method of one's own: registered, it is there by name, for settings, refusals and runs."""

import sys
import types
from dataclasses import dataclass, replace

import pytest

from wordelim import Settings, compress_model
from wordelim.errors import WordelimError
from wordelim.search.confirm import confirm
from wordelim.search.method import METHODS, Context, Found, Search, frontier, register


@dataclass(frozen=True)
class Uniform(Search):
    """The same share at every layer."""

    search_examples: int = 512

    def find(self, context: Context) -> Found:
        layers = context.cost.layers
        shares = [share / 100 for share in range(100, 0, -5)]
        retentions = [replace(context.template, keep=(share,) * (layers - 1) + (0.0,)) for share in shares]
        ratios = [context.cost.ratio(context.texts, retention) for retention in retentions]
        reached = [next((i for i, ratio in enumerate(ratios) if ratio >= speed), None) for speed in context.speeds]
        return Found(frontier(confirm(context, [retentions[i] for i in dict.fromkeys(reached) if i is not None])))


@pytest.fixture
def uniform():
    register("uniform", Uniform)
    yield
    del METHODS.known["uniform"]


def test_a_method_of_ones_own_is_run(uniform, make_model, make_tokenizer, make_texts):
    seen = []
    result = compress_model(
        make_model("bert", labels=2),
        make_tokenizer("bert"),
        train=make_texts(16),
        validation=make_texts(8, 1),
        method="uniform",
        target_speedup=1.5,
        max_drop=100,
        retrain=False,
        measure_speed=False,
        progress=lambda stage, share: seen.append(stage),
    )
    assert result.met
    assert len(set(result.retention.keep[:-1])) == 1
    assert result.report["settings"]["method"] == "uniform"
    assert list(dict.fromkeys(seen)) == ["search: ranking words", "search: confirming", "verify: validation"]


def test_a_file_that_makes_no_method_known_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordelim.search.methods.empty", types.ModuleType("empty"))
    monkeypatch.setattr(METHODS, "_files", {"empty"})
    with pytest.raises(WordelimError, match=r"empty\.py makes no method known: end it in register\('empty', \.\.\.\)"):
        METHODS["empty"]


def test_it_is_named_where_methods_are(uniform):
    assert METHODS.listed == "calibrated, learned, or uniform"
    with pytest.raises(WordelimError, match=r"'magic' is unknown: use 'calibrated', 'learned' or 'uniform'\."):
        Settings(method="magic")
    with pytest.raises(WordelimError, match="lambda is given, which is the learned search's"):
        Settings(method="uniform", price=1e-3)
    assert METHODS.make("uniform", Settings(search_examples=7)) == Uniform(search_examples=7)
