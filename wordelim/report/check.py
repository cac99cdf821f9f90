"""A check's verdict as Markdown for a pull request, and as JUnit XML for a continuous-integration server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from ..system.printable import printable
from .markdown import escaped
from .points import interval, lost, points

__all__ = ["gate_facts", "gate_junit", "gate_markdown", "gate_summary"]


def gate_summary(report: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    result, settings = report["result"], report["settings"]
    if not report["passed"]:
        return f"Failed: {'; '.join(report['failures'].values())}."
    what = f"the {100 * settings['confidence']:g} % interval ends at" if settings["strict"] else "the drop is"
    speed = f", {report['speed']['dynamic']:.2f}x as fast" if "speed" in report else ""
    return (
        f"Passed: {what} {report['judged']:.2f} points of {report['metric']} on {result['examples']} examples, of "
        f"{settings['max_drop']:g} allowed{speed}."
    )


def gate_markdown(report: Mapping[str, Any]) -> str:
    """A summary of a few lines, and the slices folded away, as GitHub's and GitLab's Markdown."""
    result = report["result"]
    lines = [
        f"### wordelim check: {'passed' if report['passed'] else 'FAILED'}",
        "",
        escaped(gate_summary(report)),
        "",
        f"| examples | {escaped(report['metric'])}, base | compressed | points lost | 95 % interval |",
        "|---:|---:|---:|---:|---:|",
        f"| {result['examples']} | {points(result['dense'])} | {points(result['compressed'])} | {lost(result['drop'])} "
        f"| {interval(result['drop_interval_95'])} |",
        "",
        *(f"- {escaped(line)}" for line in gate_facts(report)),
        "",
        "<details><summary>By length and by label</summary>",
        "",
        "| texts | examples | metric | base | compressed | points lost |",
        "|---|---:|---|---:|---:|---:|",
        *(
            f"| {escaped(part['slice'])} | {part['examples']} | {escaped(part['metric'])} | {points(part['dense'])} "
            f"| {points(part['compressed'])} | {lost(part['drop'])} |"
            for part in result["slices"]
        ),
        "",
        "</details>",
    ]
    return "\n".join(lines) + "\n"


def gate_facts(report: Mapping[str, Any]) -> Iterator[str]:
    """What else there is to say, a sentence each."""
    flips, result = report["result"]["flips"], report["result"]
    yield f"Base: {report['base']}; compressed: {report['compressed']}."
    if flips is not None:
        yield (
            f"{flips['changed']} of {flips['total']} answers changed, {flips['broken']} to wrong, {flips['fixed']} to "
            f"right (McNemar's exact test: p = {result['mcnemar_p']:.3g})."
        )
    if "flops_ratio" in result:
        yield f"{result['flops_ratio']:.2f}x fewer FLOPs in the encoder than the dense model, without padding."
    if "speed" in report:
        speed = report["speed"]
        yield (
            f"{speed['dynamic']:.2f}x as fast in random batches of {speed['batch_size']} padded to their longest text, "
            f"{speed['unpadded']:.2f}x without padding ({speed['texts']} texts, threads: {speed['threads']}, "
            f"{speed['dtype']})."
        )
    for warning in report["warnings"]:
        yield f"Warning: {warning}."


def gate_junit(report: Mapping[str, Any]) -> str:
    """One test suite with a test case for each bound, in the form that Ant's JUnit task gave JUnit XML."""
    settings, result = report["settings"], report["result"]
    what = f"upper end of the {100 * settings['confidence']:g} % interval" if settings["strict"] else "drop"
    cases = [(f"{what} of {report['metric']} within {settings['max_drop']:g}", "drop")]
    if settings["min_speedup"] is not None:
        cases.append((f"at least {settings['min_speedup']:g}x as fast", "speed"))
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name="wordelim check",
        package="wordelim",
        id="0",
        timestamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        hostname="localhost",
        tests=str(len(cases)),
        failures=str(len(report["failures"])),
        errors="0",
        time=f"{report['seconds']:.1f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    numbers = {name: result[name] for name in ("examples", "dense", "compressed", "drop")}
    for name, value in {"base": report["base"], "compressed_model": report["compressed"], **numbers}.items():
        ElementTree.SubElement(properties, "property", name=name, value=_property(value))
    for number, (name, kind) in enumerate(cases):
        # The time of the whole check stands at its first case.
        seconds = 0.0 if number else report["seconds"]
        case = ElementTree.SubElement(
            suite, "testcase", name=printable(name), classname="wordelim.check", time=f"{seconds:.1f}"
        )
        if kind in report["failures"]:
            message = printable(report["failures"][kind])
            failure = ElementTree.SubElement(case, "failure", message=message, type="NotMet")
            failure.text = printable("\n".join(gate_facts(report)))
    ElementTree.SubElement(suite, "system-out").text = printable("\n".join([gate_summary(report), *gate_facts(report)]))
    ElementTree.SubElement(suite, "system-err")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _property(value: Any) -> str:
    return "" if value is None else printable(str(value))
