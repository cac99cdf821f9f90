"""The ablation of the paper's tasks really decides by its own rule, in both layouts."""

import pytest
import torch

from wordelim import Retention, eliminate_, restore_
from wordelim.graph.splice import eliminating_encoder


@pytest.fixture
def glue(script):
    return script("glue")


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_rule_decides(make_model, make_batch, glue, layout):
    found, kept = {}, []
    starts = torch.tensor([0, 0 if layout == "padded" else 20])
    for part in ("attention", *glue.SELECTORS):
        model = make_model("bert")
        if part in glue.SELECTORS:
            glue.decide_(model, glue.SELECTORS[part])
        for _ in range(2):  # a compression splices more than once
            encoder = eliminating_encoder(eliminate_(model, Retention.fractions([0.5, 0.25, 0.0])))
            encoder.layout = layout
            encoder.extract_0.register_forward_hook(lambda module, args, out: kept.append(out.rows.flatten()))
            with torch.no_grad():
                model(**make_batch(model, (20, 20)))
            restore_(model)
        found[part] = kept[-1].tolist()
    assert found["first"] == (starts[:, None] + torch.arange(10)).flatten().tolist()
    assert found["random"] not in (found["first"], found["attention"])
