"""A check's report as JUnit XML, for a continuous-integration server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from ..system.printable import printable
from .check import facts, summary
from .columns import values

__all__ = ["render_junit"]


def render_junit(report: Mapping[str, Any]) -> str:
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
    named = {"base": report["base"], "compressed_model": report["compressed"], "examples": result["examples"]}
    for name, value in {**named, **values(result)}.items():
        ElementTree.SubElement(properties, "property", name=name, value="" if value is None else printable(str(value)))
    for number, (name, kind) in enumerate(cases):
        # The time of the whole check stands at its first case.
        seconds = 0.0 if number else report["seconds"]
        case = ElementTree.SubElement(
            suite, "testcase", name=printable(name), classname="wordelim.check", time=f"{seconds:.1f}"
        )
        if kind in report["failures"]:
            message = printable(report["failures"][kind])
            failure = ElementTree.SubElement(case, "failure", message=message, type="NotMet")
            failure.text = printable("\n".join(facts(report)))
    ElementTree.SubElement(suite, "system-out").text = printable("\n".join([summary(report), *facts(report)]))
    ElementTree.SubElement(suite, "system-err")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
