"""Linear modules on packed rows: what may be computed elsewhere, and what goes through the module."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import wordelim
from wordelim import Retention
from wordelim.elimination.linear import linear
from wordelim.elimination.packed import Packed, Run
from wordelim.elimination.padded import Padded
from wordelim.elimination.rows import Entered
from wordelim.graph.splice import eliminating_encoder

PACKED = Packed((Run(1, 5, 5),), torch.zeros(1, dtype=torch.long), Entered(1, 5))
PADDED = Padded(None, (5,), (5,), Entered(1, 5))


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def operations(module, rows, tokens):
    with Operations() as seen:
        result = linear(module, rows, tokens)
    return result, seen.names


WIDE, NARROW = 640, 512


@pytest.mark.parametrize("bias", [True, False])
def test_few_packed_rows_go_through_onednn_and_give_the_same(bias):
    torch.manual_seed(0)  # what differs by rounding differs by chance
    module, rows = nn.Linear(WIDE, NARROW, bias=bias), torch.randn(1, 5, WIDE)
    with torch.no_grad():
        result, names = operations(module, rows, PACKED)
        assert ("_linear_pointwise" in names) == torch.backends.mkldnn.is_available()
        torch.testing.assert_close(result, module(rows), rtol=1e-5, atol=1e-6)


def test_everything_else_goes_through_the_module():
    rows = torch.randn(1, 5, WIDE)
    hooked, patched, calls = nn.Linear(WIDE, NARROW), nn.Linear(WIDE, NARROW), []
    hooked.register_forward_hook(lambda *_: calls.append("hook"))
    patched.forward = lambda rows: calls.append("patched") or rows

    class Own(nn.Linear):
        def forward(self, rows):
            calls.append("own")
            return super().forward(rows)

    with torch.no_grad():
        for module in (hooked, patched, Own(WIDE, NARROW)):
            linear(module, rows, PACKED)
        assert calls == ["hook", "patched", "own"]
        for size, many in ((NARROW - 1, 5), (NARROW, 257)):
            _, names = operations(nn.Linear(WIDE, size), torch.randn(1, many, WIDE), PACKED)
            assert "_linear_pointwise" not in names
        plain = nn.Linear(WIDE, NARROW)
        for tokens, dtype in ((PADDED, torch.float32), (PACKED, torch.bfloat16), (PACKED, torch.float64)):
            _, names = operations(plain.to(dtype), rows.to(dtype), tokens)
            assert "_linear_pointwise" not in names
        with torch.autocast("cpu", torch.bfloat16):
            assert linear(plain.float(), rows, PACKED).dtype == torch.bfloat16
    assert linear(plain, rows, PACKED).requires_grad


def test_a_module_put_in_the_place_of_a_linear_one_is_called(make_model, make_batch, logits):
    model = wordelim.eliminate_(make_model("bert"), Retention.fractions([0.6, 0.3, 0.0]))
    batch = make_batch(model, [9, 4])
    expected = logits(model, batch)
    intermediate = eliminating_encoder(model).get_submodule("layer.0.intermediate")
    calls = []

    class Spy(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, rows):
            calls.append(rows.shape)
            return self.inner(rows)

    intermediate.dense = Spy(intermediate.dense)
    torch.testing.assert_close(logits(model, batch), expected, rtol=1e-5, atol=1e-5)
    assert len(calls) == 1
