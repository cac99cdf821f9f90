"""A check's verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import speed
from .columns import compared, interval, lost, typeset, whole_alone
from .parts import Contents, Fact, Fold, Lines, Section
from .sections import changes, comparison, environment, flipped, lengths, model_name, slices

__all__ = ["brief", "digest", "facts", "page", "summary"]


def summary(report: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    result, settings = report["result"], report["settings"]
    if not report["passed"]:
        return f"Failed: {'; '.join(report['failures'].values())}."
    what = f"the {100 * settings['confidence']:g} % interval ends at" if settings["strict"] else "the drop is"
    fast = f", {report['speed']['dynamic']:.2f}x as fast" if "speed" in report else ""
    return (
        f"Passed: {what} {report['judged']:.2f} points of {report['metric']} on {result['examples']} examples, of "
        f"{settings['max_drop']:g} allowed{fast}."
    )


def facts(report: Mapping[str, Any]) -> Iterator[str]:
    """What else there is to say, a sentence each."""
    result = report["result"]
    yield f"Base: {report['base']}; compressed: {report['compressed']}."
    if result["flips"] is not None:
        yield f"{changes(result['flips'])} (McNemar's exact test: p = {result['mcnemar_p']:.3g})."
    if "flops_ratio" in result:
        yield f"{result['flops_ratio']:.2f}x fewer FLOPs in the encoder than the dense model, without padding."
    if "speed" in report:
        yield f"Measured speed-up over the base model: {speed.sentence(report['speed'])}."
    for warning in report["warnings"]:
        yield f"Warning: {warning}."


def brief(report: Mapping[str, Any]) -> list[Section]:
    """Points of both models, all texts first, then by length and by label; what changed."""
    result = report["result"]
    rows = [([part["slice"], str(part["examples"])], part) for part in ({"slice": "all", **result}, *result["slices"])]
    table = compared(["texts", "count"], rows, dense="base", short=True, tight=True)
    by_label = ", recall for each label" if any(part["by"] == "label" for part in result["slices"]) else ""
    lines = [*whole_alone(result, result["slices"]), *facts(report)]
    return [Section(f"{report['metric']}{by_label}, in points", [table, Lines(lines)])]


def digest(report: Mapping[str, Any]) -> Section:
    """A summary of a few lines for a pull request, and the slices folded away."""
    result = report["result"]
    whole = compared(["examples"], [([str(result["examples"])], result)], dense=f"{report['metric']}, base", numbers=0)
    rows = [([part["slice"], str(part["examples"]), part["metric"]], part) for part in result["slices"]]
    parts = compared(["texts", "examples", "metric"], rows, dense="base", texts=(2,))
    folded = [Fold("By length and by label", [parts])] if rows else []
    title = f"wordelim check: {'passed' if report['passed'] else 'FAILED'}"
    return Section(title, [summary(report), whole, Lines([*facts(report)]), *folded])


def page(report: Mapping[str, Any]) -> Contents:
    """All of it."""
    result, metric, measured = report["result"], report["metric"], report.get("speed")
    parts = {"checked": result}
    drop, between = typeset(lost(result["drop"])), typeset(interval(result["drop_interval_95"]))
    figures = [
        Fact(drop, "points lost", f"{metric}; 95 %: {between}"),
        Fact(f"{result['examples']:,}", "examples", "the same through both models"),
    ]
    if result.get("flops_ratio"):
        figures.append(Fact(f"{result['flops_ratio']:.2f}×", "fewer FLOPs", "in the encoder, without padding"))
    if measured:
        figures.append(speed.fact(measured))
    failures = "; ".join(report["failures"].values())
    verdict = (True, "Passed.") if report["passed"] else (False, f"Failed: {failures}.")
    models = f"{model_name(report['compressed'])} against {model_name(report['base'])}."
    sections = [
        comparison(metric, parts, [models, *(f"Warning: {warning}." for warning in report["warnings"])]),
        slices(parts),
        flipped(parts),
        speed.section(measured),
        lengths(parts),
        environment({**report, "seconds": {"whole check": report["seconds"]}}),
    ]
    return Contents(f"Check of {model_name(report['compressed'])}", verdict, figures, sections)
