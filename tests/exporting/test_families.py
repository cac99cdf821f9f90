"""Every family can be exported, as docs/families.md says. Tracing takes long, so only `pytest -m long` runs it."""

import pytest
import torch

import wordelim
from wordelim import Retention, eliminate_
from wordelim.adapters import families
from wordelim.checkpoint.directory import save
from wordelim.exporting.runtime import ExportedModel

pytestmark = [pytest.mark.long, pytest.mark.every_family]


@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize("family", [family.model_type for family in families()])
def test_a_family_is_exported(family, form, make_model, make_tokenizer, make_batch, tmp_path):
    model = eliminate_(make_model(family), Retention.fractions([0.7, 0.35, 0.2]))
    directory = save(model, make_tokenizer(family), tmp_path / "compressed")
    wordelim.export(directory, tmp_path / "exported", format=form)
    batch = make_batch(model, [11, 3, 24])
    with torch.inference_mode():
        expected = model(**batch).logits
    found = ExportedModel(tmp_path / "exported")(**batch).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
