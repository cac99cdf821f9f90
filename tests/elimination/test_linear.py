"""Linear modules on packed rows: what may be computed elsewhere, and what goes through the module."""

import gc

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import wordelim
from wordelim import Retention
from wordelim.elimination.linear import _ARRANGED, linear
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


IN, OUT, MANY = 40, 24, 513
ARRANGED = {"_mkl_linear"} if torch.backends.mkl.is_available() else set()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [1, 5, 17, 300, MANY - 1])
def test_few_packed_rows_are_multiplied_with_arranged_weights_and_give_the_same(bias, count):
    torch.manual_seed(0)  # what differs by rounding differs by chance
    module, rows = nn.Linear(IN, OUT, bias=bias), torch.randn(1, count, IN)
    with torch.no_grad():
        for _ in range(2):  # arranged, and found arranged
            result, names = operations(module, rows, PACKED)
            assert names >= ARRANGED
            torch.testing.assert_close(result, module(rows), rtol=1e-5, atol=1e-6)


def test_a_weight_that_has_changed_is_arranged_anew():
    module, rows = nn.Linear(IN, OUT), torch.randn(1, 5, IN)

    def reload():
        module.load_state_dict({name: 2 * values for name, values in module.state_dict().items()})

    def merge():
        module.weight.data += 1.0  # which counts as no version

    def move():
        module.weight.data = -module.weight.data

    def replace():
        module.weight = nn.Parameter(torch.randn(OUT, IN))

    with torch.no_grad():
        for change in (lambda: None, reload, merge, move, replace):
            change()
            torch.testing.assert_close(linear(module, rows, PACKED), module(rows), rtol=1e-5, atol=1e-5)


def test_what_was_arranged_is_let_go_with_its_module_and_in_training():
    module, rows = nn.Linear(IN, OUT), torch.randn(1, 5, IN)

    def arranged():
        with torch.no_grad():
            linear(module, rows, PACKED)
        return len(_ARRANGED)

    gc.collect()
    before = len(_ARRANGED)
    assert arranged() == before + len(ARRANGED)
    for tokens in (PACKED, PADDED):
        assert linear(module, rows, tokens).requires_grad
        assert len(_ARRANGED) == before
        assert arranged() == before + len(ARRANGED)
    module = None
    gc.collect()
    assert len(_ARRANGED) == before


def test_everything_else_goes_through_the_module():
    rows = torch.randn(1, 5, IN)
    hooked, patched, calls = nn.Linear(IN, OUT), nn.Linear(IN, OUT), []
    hooked.register_forward_hook(lambda *_: calls.append("hook"))
    patched.forward = lambda rows: calls.append("patched") or rows

    class Own(nn.Linear):
        def forward(self, rows):
            calls.append("own")
            return super().forward(rows)

    with torch.no_grad():
        for module in (hooked, patched, Own(IN, OUT)):
            linear(module, rows, PACKED)
        assert calls == ["hook", "patched", "own"]
        plain = nn.Linear(IN, OUT)
        for other in (torch.randn(1, MANY, IN), torch.randn(1, 0, IN)):
            _, names = operations(plain, other, PACKED)
            assert "_mkl_linear" not in names
        for tokens, dtype in ((PADDED, torch.float32), (PACKED, torch.bfloat16), (PACKED, torch.float64)):
            _, names = operations(plain.to(dtype), rows.to(dtype), tokens)
            assert "_mkl_linear" not in names
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
