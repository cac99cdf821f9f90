"""What a benchmark measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .parts import Block, Contents, Fact, Fold, Section, Table, pairs
from .sections import environment, kept, lengths, model_name, spread
from .speed import slower, threads

__all__ = ["brief", "page"]

Report = Mapping[str, Any]

_PARTS = ("throughput", "latency")
_BASELINES = {
    "fixed": "dense, padded to the longest length (the paper's protocol)",
    "dynamic": "dense, random batches padded to their longest text (as pipelines do)",
    "unpadded": "dense, no padding computed",
    "keep-all": "the rewritten model that drops nothing",
}
_FACTORS = {"padding": "no padding", "last_layer": "last layer cut", "dropping": "word vectors dropped"}
_KEEP_ALL = "the dense model rewritten, nothing dropped: its last layer cut, and packed on a CPU in eager mode"
_PACKED = "the dense one rewritten, with nothing dropped"


def page(report: Report) -> Contents:
    """Each measurement, then what it was measured on."""
    first = report["measurements"][0]
    facts = [
        Fact(
            f"{against['speedup']['median']:.2f}×", f"faster than {name}", f"{part}, {first['dtype']}, {first['mode']}"
        )
        for part in _PARTS
        for name, against in first.get(part, {}).get("against", {}).items()
        if name in ("dynamic", "unpadded", "fixed")
    ]
    measured = [
        Section(
            f"{one['dtype']}, {one['mode']}",
            [block for part in _PARTS if part in one for block in _timed(part, one[part])],
            f"run-{number}",
        )
        for number, one in enumerate(report["measurements"], start=1)
    ]
    left = [kept(report)] if report.get("retention") else []
    sections = [*measured, *left, lengths({"timed": report["data"]}), environment(report)]
    return Contents(f"Speed of {model_name(report.get('compressed') or report.get('base'))}", None, facts, sections)


def _timed(part: str, timed: Report) -> Iterator[Block]:
    """One measurement: against each baseline, then the absolute figures."""
    rows = []
    for name, against in timed["against"].items():
        factors, share = against.get("factors") or {}, against.get("padding_share")
        rows.append(
            [
                _BASELINES.get(name, name),
                *_won(against, "×"),
                f"{100 * against['efficiency']:.0f} %",
                " · ".join(f"{what.replace('_', ' ')} {factor:.2f}" for what, factor in factors.items()) or "–",
                "–" if share is None else f"{100 * share:.0f} %",
            ]
        )
    head = ["against", "speed-up", "quartiles", "FLOPs ratio", "efficiency", "made of", "share of padding"]
    size = "one text at a time" if part == "latency" else "batches"
    caption = (
        f"{part.capitalize()}, {size}, {timed['texts']} texts. Efficiency is the speed-up over the FLOPs ratio; the "
        "factors multiply to the speed-up."
    )
    yield Table(head, rows, caption)
    yield _rival(timed, "×")
    rates = [
        [name, *(f"{rate[key]:,.1f}" for key in ("median", "low", "high"))]
        for name, rate in timed.get("texts_per_second", {}).items()
    ]
    yield Fold("Texts a second", [Table(["run", "texts a second", "lower quartile", "upper quartile"], rates)])
    taken = timed.get("milliseconds", {})
    if taken:
        times = [[name, *(f"{value:,.2f}" for value in values.values())] for name, values in taken.items()]
        yield Fold("Milliseconds a text", [Table(["run", *next(iter(taken.values()))], times)])


def brief(report: Report) -> list[Section]:
    """Throughput and latency against every baseline, what the gain is made of, and how it was measured."""
    machine = report["machine"]
    rows = [
        ("keep-all", _KEEP_ALL),
        ("efficiency", "measured speed-up over FLOPs ratio"),
        ("texts", spread(report["data"]["lengths"])),
        ("machine", f"{machine.get('card', machine['device'])}, {threads(machine['threads'])}, {machine['processor']}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in report["versions"].items())),
    ]
    measured = [_measured(part, one, report) for one in report["measurements"] for part in _PARTS if part in one]
    return [*measured, Section("How it was measured", [pairs(rows)])]


def _measured(part: str, measured: Report, report: Report) -> Section:
    """Table and decomposition of one measurement."""
    judged = "compressed" if report["compressed"] is not None else "keep-all"
    single, found = part == "latency", measured[part]
    rates, unit = (found["milliseconds"], "ms") if single else (found["texts_per_second"], "texts/s")
    batch = "one text at a time" if single else f"batches of {report['settings']['batch_size']}"
    title = (
        f"{part.capitalize()}: {batch}, {found['texts']} texts, median of {report['settings']['rounds']}, "
        f"{measured['dtype']}, {measured['mode']}"
    )
    real = "unpadded" if single else "dynamic"
    baselines = {
        "fixed": (f"padded to {report['fixed_length']}", "dense fixed", real),
        "dynamic": ("padded as in pipelines", "dense dynamic", real),
        "unpadded": ("without padding", "dense unpadded", "unpadded"),
        "keep-all": ("keep-all", f"keep-all {real}", real),
    }
    rows, made_of = [], []
    for name, won in found["against"].items():
        shown, slow, fast = baselines[name]
        both = (f"{rates[run]['median']:.1f}" for run in (slow, f"{judged} {fast}"))
        rows.append([shown, *both, *_won(won, "x"), f"{won['efficiency']:.2f}"])
        if "factors" in won:
            made_of.append(f"{name}: {_factors(won)}")
    if single:
        dense, fast = (rates[f"{name} unpadded"]["p95"] for name in ("dense", judged))
        made_of.append(f"95 % of texts within: dense {dense:.1f} ms, {judged} {fast:.1f} ms")
    made_of.append(_rival(found, "x"))
    hardest, speedup = _hardest(found)
    made_of += slower(speedup, report["machine"], *([_PACKED] if hardest == "keep-all" else []))
    columns = (unit, f"{judged}, {unit}", "speed-up", "quartiles", "FLOPs ratio", "efficiency")
    return Section(title, [Table(["against the dense model", *columns], rows), *made_of])


def _hardest(timed: Report) -> tuple[str, float]:
    """The baseline that is the fastest beside what is judged, and the speed-up against it."""
    speedups = {name: won["speedup"]["median"] for name, won in timed["against"].items()}
    return min(speedups.items(), key=lambda each: each[1])


def _rival(timed: Report, times: str) -> str:
    """The fastest dense way in a sentence."""
    name, speedup = _hardest(timed)
    return f"Fastest dense rival: {_BASELINES.get(name, name)} ({speedup:.2f}{times} against it)."


def _won(won: Report, times: str) -> list[str]:
    """Speed-up, its quartiles, and the FLOPs ratio."""
    speedup = won["speedup"]
    quartiles = f"{speedup['low']:.2f} to {speedup['high']:.2f}"
    return [f"{speedup['median']:.2f}{times}", quartiles, f"{won['flops_ratio']:.2f}{times}"]


def _factors(won: Report) -> str:
    """What a speed-up is the product of."""
    product = " × ".join(f"{value:.2f} ({_FACTORS[name]})" for name, value in won["factors"].items())
    share = won["padding_share"]
    whole = f"{won['speedup']['median']:.2f}x = {product}"
    if share is None:
        return whole
    # Where another factor is below 1, padding is more than the whole gain.
    return f"{whole}; padding is {'all' if share >= 1 else f'{100 * share:.0f} %'} of the gain"
