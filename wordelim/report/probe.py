"""What a probe found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .columns import compared
from .parts import Marked, Section, pairs
from .sections import spread
from .speed import threads

__all__ = ["brief"]


def brief(report: Mapping[str, Any]) -> list[Section]:
    """Verdict, lengths, what packing gives, and what dropping word vectors saves and costs at several speeds."""
    padding, packing, data = report["padding"], report["packing"], report["data"]
    texts = {
        "lengths": f"{spread(report['lengths'])} ({data['examples']} texts, {data['truncated']} cut)",
        "padding": f"{padding['dynamic']:.2f} tokens computed for each real one in random batches of "
        f"{report['settings']['batch_size']}, {padding['fixed']:.2f} where all are padded to the longest",
        "packing": f"{packing['speedup']:.2f}x measured with nothing dropped; {packing['flops_ratio']:.2f}x fewer "
        "FLOPs than the dense model without padding",
    }
    how = (
        f"Measured against the dense model in batches padded to their longest text "
        f"({threads(report['machine']['threads'])}); points on {data['measured']} texts. Retraining, which wordelim "
        "compress does, wins much of the loss back."
    )
    sections = [
        Section("", [Marked([(f"{report['verdict'].capitalize()}: ", "title"), (f"{report['because']}.", "")])]),
        Section("Your texts", [pairs(texts.items())]),
    ]
    if report["headroom"]:
        rows = [([f"{each['flops_ratio']:.2f}x", f"{each['speedup']:.2f}x"], each) for each in report["headroom"]]
        table = compared(["FLOPs ratio", "measured"], rows, numbers=0)
        title = f"Dropping word vectors, without retraining ({report['metric']} {report['dense']:.2f})"
        sections.append(Section(title, [table]))
    last = sections[-1]
    return [*sections[:-1], Section(last.title, [*last.blocks, how])]
