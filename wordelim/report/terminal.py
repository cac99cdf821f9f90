"""Results as tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .console import heading, show
from .points import interval, lost, points

__all__ = ["print_bench", "print_export", "print_inspection", "print_plan", "print_result"]

_NO_BREAK = "\N{NO-BREAK SPACE}"


def _pairs(rows: Iterable[tuple[str, Any]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    table.add_column(style="cyan")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), value if isinstance(value, Text) else Text(str(value)))
    return table


def print_result(report: Mapping[str, Any]) -> None:
    """What a compression came to: points before and after, FLOPs, measured speed, word vectors kept."""
    parts = [(name, report[name]) for name in ("validation", "test") if name in report]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("texts", overflow="fold")
    for column in ("dense", "compressed", "lost", "95 % interval"):
        table.add_column(column, justify="right", overflow="fold")
    for name, part in parts:
        table.add_row(
            f"{name} ({part['examples']})",
            points(part["dense"]),
            points(part["compressed"]),
            lost(part["drop"]),
            interval(part["drop_interval_95"]),
        )
    show(heading(f"{report['metric']}, in points"), table, *_changes(parts))
    show(heading("Speed, compressed against dense"), _pairs(_speeds(report, parts)))
    show(
        heading("Word vectors kept after each layer"),
        _kept(report["retention"], bool(report.get("last_layer_cut_to_first_token"))),
    )
    if report.get("speeds"):
        show(heading("The same weights at each speed"), _served(report["speeds"]))
    seconds = ", ".join(f"{name} {taken:.0f} s" for name, taken in report["seconds"].items())
    show(Text(f"\nTime: {seconds}"))


def _served(speeds: Mapping[str, Any]) -> Table:
    """Points lost at each of the speeds that one set of weights serves."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    names = [name for name in ("validation", "test") if name in next(iter(speeds.values()))]
    for column in ("speed", *(f"lost, {name}" for name in names), "FLOPs ratio"):
        table.add_column(column, justify="right", overflow="fold")
    for speed, part in speeds.items():
        lost = (f"{part[name]['drop']:+.2f}" for name in names)
        table.add_row(speed, *lost, f"{part[names[-1]]['flops_ratio']:.2f}x")
    return table


def _changes(parts: Iterable[tuple[str, Any]]) -> Iterator[Text]:
    for name, part in parts:
        flips = part["flips"]
        if flips is not None:
            yield Text(
                f"{name}: {flips['changed']} of {flips['total']} answers changed, {flips['broken']} to wrong, "
                f"{flips['fixed']} to right"
            )


def _speeds(report: Mapping[str, Any], parts: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Rows of what: how many times less or faster."""
    for name, part in parts:
        yield f"{part['flops_ratio']:.2f}x", f"fewer FLOPs in the encoder, {name} texts without padding"
    speed = report.get("speed")
    if speed is None:
        return
    yield f"{speed['dynamic']:.2f}x", "measured, batches padded to their longest text (as in pipelines)"
    yield f"{speed['unpadded']:.2f}x", "measured, batches of texts of equal length (no padding)"
    yield f"{speed['fixed']:.2f}x", f"measured, against a dense model padded to {speed['max_length']} tokens"
    threads = "1 thread" if speed["threads"] == 1 else f"{speed['threads']} threads"
    yield "", f"({speed['texts']} texts, batches of {speed['batch_size']}, {threads}, {speed['dtype']})"


def _kept(retention: Mapping[str, Any], first_token: bool) -> Text:
    """Layer and what it keeps, from 1."""
    fractions = retention["kind"] == "fraction"
    values = [f"{100 * value:.3g} %" if fractions else f"{value:g}" for value in retention["keep"]]
    if first_token:
        values[-1] = "the first"
    text = Text()
    for layer, value in enumerate(values):
        text.append(f"{layer + 1}:", style="cyan")
        text.append(f" {value}".replace(" ", _NO_BREAK) + "  ")
    return text


def print_plan(plan: Mapping[str, Any]) -> None:
    """What a compression would do."""
    show(heading("This would be done (nothing is run or written)"), _pairs(plan.items()))


def print_inspection(found: Mapping[str, Any]) -> None:
    """Whether and where a model can be served."""
    rows: dict[str, Any] = {name.replace("_", " "): _plain(value) for name, value in found.items()}
    first_token = found["last_layer_cut_to_first_token"]
    retention = found["retention"]
    rows["retention"] = "everything (not compressed)" if retention is None else _kept(retention, first_token)
    rows["splices"] = "\n".join(f"{layer}: {place}" for layer, place in enumerate(found["splices"], start=1))
    rows["flops ratio"] = ", ".join(
        f"{ratio:.2f}x at {length} tokens" for length, ratio in found["flops_ratio"].items()
    )
    names = {"retention": "kept after each layer", "splices": "drops after the attention of layer"}
    show(heading("wordelim inspect"), _pairs((names.get(name, name), value) for name, value in rows.items()))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_bench(report: Mapping[str, Any]) -> None:
    """Throughput and latency against every baseline, what the gain is made of, and how it was measured."""
    judged = "compressed" if report["compressed"] is not None else "keep-all"
    for measured in report["measurements"]:
        for part in ("throughput", "latency"):
            if part in measured:
                show(*_bench_part(part, measured, judged, report))
    lengths, machine = report["data"]["lengths"], report["machine"]
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    rows = [
        (
            "keep-all",
            "the dense model rewritten, nothing dropped: its last layer cut, and packed on a CPU in eager mode",
        ),
        ("efficiency", "measured speed-up over FLOPs ratio"),
        (
            "texts",
            f"{lengths['mean']} tokens on average, median {lengths['median']}, 95 % up to {lengths['p95']}, longest "
            f"{lengths['max']}",
        ),
        ("machine", f"{machine.get('card', machine['device'])}, {threads}, {machine['processor']}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in report["versions"].items())),
    ]
    show(heading("How it was measured"), _pairs(rows))


def _bench_part(
    part: str, measured: Mapping[str, Any], judged: str, report: Mapping[str, Any]
) -> Iterator[RenderableType]:
    """Heading, table and decomposition of one measurement."""
    single = part == "latency"
    found = measured[part]
    rates, unit = (found["milliseconds"], "ms") if single else (found["texts_per_second"], "texts/s")
    batch = "one text at a time" if single else f"batches of {report['settings']['batch_size']}"
    yield heading(
        f"{part.capitalize()}: {batch}, {found['texts']} texts, median of {report['settings']['rounds']}, "
        f"{measured['dtype']}, {measured['mode']}"
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("against the dense model", overflow="fold")
    for column in (unit, f"{judged}, {unit}", "speed-up", "quartiles", "FLOPs ratio", "efficiency"):
        table.add_column(column, justify="right", overflow="fold")
    real = "unpadded" if single else "dynamic"
    baselines = {
        "fixed": (f"padded to {report['fixed_length']}", "dense fixed", real),
        "dynamic": ("padded as in pipelines", "dense dynamic", real),
        "unpadded": ("without padding", "dense unpadded", "unpadded"),
        "keep-all": ("keep-all", f"keep-all {real}", real),
    }
    for name, won in found["against"].items():
        shown, slow, fast = baselines[name]
        speedup = won["speedup"]
        table.add_row(
            shown,
            *(f"{rates[run]['median']:.1f}" for run in (slow, f"{judged} {fast}")),
            f"{speedup['median']:.2f}x",
            f"{speedup['low']:.2f} to {speedup['high']:.2f}",
            f"{won['flops_ratio']:.2f}x",
            f"{won['efficiency']:.2f}",
        )
    yield table
    for name, won in found["against"].items():
        if "factors" in won:
            yield Text(f"{name}: {_factors(won)}")
    if single:
        dense, fast = (rates[f"{name} unpadded"]["p95"] for name in ("dense", judged))
        yield Text(f"95 % of texts within: dense {dense:.1f} ms, {judged} {fast:.1f} ms")


def _factors(won: Mapping[str, Any]) -> str:
    """What a speed-up is the product of."""
    names = {"padding": "no padding", "last_layer": "last layer cut", "dropping": "word vectors dropped"}
    product = " × ".join(f"{value:.2f} ({names[name]})" for name, value in won["factors"].items())
    share = won["padding_share"]
    whole = f"{won['speedup']['median']:.2f}x = {product}"
    if share is None:
        return whole
    # Where another factor is below 1, padding is more than the whole gain.
    return f"{whole}; padding is {'all' if share >= 1 else f'{100 * share:.0f} %'} of the gain"


def print_export(report: Mapping[str, Any]) -> None:
    """What was exported, how far it is from its model, and how fast it is where that was measured."""
    parity = report["parity"]
    precision = "int8" if report["int8"] else "fp32"
    rows = [
        ("program", f"{report['format']}, {precision}, opset {report['opset']}, {report['megabytes']:.1f} MB"),
        ("compared", f"{parity['examples']} texts through the model and the program"),
        ("logits", f"differ by {parity['largest_difference']:.1e} at most"),
    ]
    if parity["kept"]:
        rows.append(("kept", f"{parity['kept_otherwise']} of {parity['kept']} word vectors otherwise"))
    for part, name in (("latency", "one text at a time"), ("batches_of_8", "batches of 8")):
        for dense, ratio in report.get("speed", {}).get(part, {}).items():
            rows.append((f"{ratio:.2f}x", f"faster than the dense model in {dense[-4:]}, {name}"))
    show(heading("Exported"), _pairs(rows))
