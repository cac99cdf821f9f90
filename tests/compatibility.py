"""Run the laws and the tests of model directories against other versions of torch and transformers, in environments of
their own.

python tests/compatibility.py [TORCH/TRANSFORMERS ...] [--at DIRECTORY]

Without versions: the oldest of both that pyproject.toml allows, a pair between, and the newest. A directory that is
kept (--at) is used again. CI runs the pair that constraints.txt pins. Where pip finds no build of a torch for CPUs
alone, it takes one with CUDA, which runs on a CPU too and needs 6 GB of disk.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("2.11/5.13", "2.13/5.18", "2.15/5.24")
# What must move along with torch and transformers.
FREE = ("transformers", "huggingface_hub", "huggingface-hub", "tokenizers", "torch", "networkx", "setuptools", "sympy")
LAWS = (
    "tests/test_laws.py",
    "tests/test_heads.py",
    "tests/graph/test_laid.py",
    "tests/graph/test_protect.py",
    "tests/checkpoint/test_directory.py",
    "tests/checkpoint/test_embeddings.py",
)


def environment(pair: str, place: Path) -> Path:
    """The Python of a virtual environment with this pair of versions and wordelim as it is now."""
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = place / "constraints.txt"
    kept = [pin for pin in pins if not pin.lower().startswith(tuple(f"{name}==" for name in FREE))]
    torch, transformers = pair.split("/")
    chosen = [f"torch=={torch}.*", f"transformers=={transformers}.*"]
    constraints.write_text("\n".join([*kept, *chosen]) + "\n", encoding="utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints]
    subprocess.run([*install, "torch"], check=True)
    subprocess.run([*install, "--editable", f"{ROOT}[dev]"], check=True)
    return python


def holds(pair: str, place: Path) -> bool:
    """Whether every law holds with this pair."""
    python = environment(pair, place)
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    laws = [str(ROOT / path) for path in LAWS]
    done = subprocess.run([python.with_name("pytest"), "-q", *laws], cwd=ROOT, env=settings)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=VERSIONS, metavar="TORCH/TRANSFORMERS")
    parser.add_argument("--at", type=Path, help="directory of the environments; a new one, removed after, unless given")
    options = parser.parse_args()
    wrong = next((pair for pair in options.versions if pair.count("/") != 1), None)
    if wrong is not None:
        parser.error(f"{wrong!r} is no pair of versions: give one such as {VERSIONS[-1]}")
    with tempfile.TemporaryDirectory(prefix="wordelim-") as scratch:
        place = options.at or Path(scratch)
        results = {pair: holds(pair, place.absolute() / pair.replace("/", "-")) for pair in options.versions}
    for pair, held in results.items():
        torch, transformers = pair.split("/")
        print(f"torch {torch}, transformers {transformers}: {'every law holds' if held else 'a law is broken'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
