"""Compile the launches of a layer for a card that isn't here, and say what each program takes of it.

    python tests/elimination/card/offline.py 90 bf16 64

For compute capability 9.0, bf16 and heads of 64: one line of JSON a kernel. With Triton's own tools, not in its
interpreter.
"""

import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from wordelim.elimination.card import choice, kernels, norm

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def described(capability, dtype, size):
    """Kernel, types of its arguments that aren't whole numbers, constants, options."""
    pointer, ints, floats = f"*{dtype}", "*i32", "*fp32"
    attention = {
        **dict.fromkeys(("query", "key", "value", "context"), pointer),
        **dict.fromkeys(("stream", "packages"), pointer),
        **dict.fromkeys(("received", "shares"), floats),
        **dict.fromkeys(("asked", "ends", "index"), ints),
        "scaling": "fp32",
    }
    for name in ("", "score", "gather", "gather, package"):
        step, options = kernels.attention_shape(size, dtype == "fp32")
        constants = {"size": size, "width": max(16, size), "block": 64, "step": step}
        constants |= {kind: kind in name for kind in ("score", "gather", "package")}
        yield f"attend {name}".strip(), kernels._attend, attention, constants, options
    chosen = {
        **dict.fromkeys(("received", "spare", "shares"), floats),
        **dict.fromkeys(("ends", "kept", "after_ends", "after_kept", "index"), ints),
        **dict.fromkeys(("flags", "after_flags"), "*i8"),
    }
    for most, softmax in itertools.product((256, 512, 1024), (False, True)):
        tile, options = choice.choice_shape(most)
        constants = {"heads": 16, "block": 64, "most": most, "tile": tile, "package": True, "guarded": True}
        constants["softmax"] = softmax
        yield f"choose, {most}, softmax {softmax}", choice._choose, chosen, constants, options
    weighed = {"value": pointer, **dict.fromkeys(("numbers", "weights"), floats), "end": ints}
    yield "weigh", choice._weigh, weighed, {"some": 16, "width": 256}, {}
    taken = {
        **dict.fromkeys(("values", "stream", "taken", "packages"), pointer),
        "shares": floats,
        **dict.fromkeys(("index", "ends", "after_ends", "after_kept"), ints),
    }
    for package in (True, False):
        yield f"take, package {package}", kernels._take, taken, {"some": 16, "width": 256, "package": package}, {}
    normed = {
        **dict.fromkeys(("hidden", "stream", "packages", "weight", "bias", "out"), pointer),
        **dict.fromkeys(("index", "end"), ints),
        "epsilon": "fp32",
    }
    yield "add_norm", norm._add_norm, normed, {"width": 1024, "gather": True, "package": True}, {}


def main(capability, dtype, size):
    for name, kernel, types, constants, options in described(capability, dtype, size):
        signature = {arg: "constexpr" if arg in constants else types.get(arg, "i32") for arg in kernel.arg_names}
        # As at run time: pointers and sizes are mostly multiples of 16.
        sizes = ("query_stride", "key_stride", "stream_stride", "stride", "size")
        aligned = {
            (place,): [["tt.divisibility", 16]]
            for place, (arg, kind) in enumerate(signature.items())
            if "*" in kind or (kind == "i32" and arg in sizes)
        }
        source = ASTSource(kernel, signature, {arg: constants[arg] for arg in constants}, aligned)
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(made.asm["cubin"])
            file.flush()
            usage = subprocess.run([TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True)
            code = subprocess.run([TOOLS / "cuobjdump", "-sass", file.name], capture_output=True, text=True).stdout
        found = {
            key: int(re.search(rf"{key}:(\d+)", usage.stdout + usage.stderr)[1]) for key in ("REG", "STACK", "LOCAL")
        }
        tensor_cores = len(re.findall(r"\b(?:HGMMA|HMMA)\b", code))
        spilled = len(re.findall(r"\b(?:STL|LDL)\b", code))
        line = {
            "kernel": name,
            **found,
            "spilled": spilled,
            "shared": made.metadata.shared,
            "tensor_cores": tensor_cores,
        }
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
