"""The ablation of the paper's tasks really decides by its own rule, in both layouts."""

import pytest
import torch

from wordelim import Retention, eliminate_
from wordelim.graph.splice import eliminating_encoder


@pytest.fixture
def deciding(script):
    return script("glue").deciding


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_rule_decides(make_model, make_batch, deciding, layout):
    model = eliminate_(make_model("bert"), Retention.fractions([0.5, 0.25, 0.0]))
    encoder = eliminating_encoder(model)
    encoder.layout = layout
    kept = {}

    def note(module, args, out) -> None:
        kept[part] = out.rows.flatten()

    encoder.extract_0.register_forward_hook(note)
    batch = make_batch(model, (20, 20))
    for part in ("attention", "first", "random"):
        with torch.no_grad(), deciding(part):
            model(**batch)
    starts = torch.tensor([0, 0 if layout == "padded" else 20])
    assert kept["first"].tolist() == (starts[:, None] + torch.arange(10)).flatten().tolist()
    assert kept["random"].tolist() != kept["first"].tolist()
    assert kept["random"].tolist() != kept["attention"].tolist()
