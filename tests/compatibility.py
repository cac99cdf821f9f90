"""Run the laws and the tests of model directories against other versions of transformers, each in its environment.

python tests/compatibility.py [VERSION ...] [--at DIRECTORY]

Without versions: the oldest that pyproject.toml allows, one between, and the newest. A directory that is kept (--at) is
used again. CI runs the one that constraints.txt pins.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("5.13", "5.17", "5.23")
# What must move along with transformers.
FREE = ("transformers", "huggingface_hub", "huggingface-hub", "tokenizers")
LAWS = (
    "tests/test_laws.py",
    "tests/test_heads.py",
    "tests/graph/test_protect.py",
    "tests/checkpoint/test_directory.py",
)


def environment(version: str, place: Path) -> Path:
    """The Python of a virtual environment with this version of transformers and wordelim as it is now."""
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = place / "constraints.txt"
    kept = [pin for pin in pins if not pin.lower().startswith(tuple(f"{name}==" for name in FREE))]
    constraints.write_text("\n".join([*kept, f"transformers=={version}.*"]) + "\n", encoding="utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints]
    subprocess.run([*install, "torch"], check=True)
    subprocess.run([*install, "--editable", f"{ROOT}[dev]"], check=True)
    return python


def holds(version: str, place: Path) -> bool:
    """Whether every law holds with this version."""
    python = environment(version, place)
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    laws = [str(ROOT / path) for path in LAWS]
    done = subprocess.run([python.with_name("pytest"), "-q", *laws], cwd=ROOT, env=settings)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--at", type=Path, help="directory of the environments; a new one, removed after, unless given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wordelim-") as scratch:
        place = options.at or Path(scratch)
        results = {version: holds(version, place.absolute() / version) for version in options.versions}
    for version, held in results.items():
        print(f"transformers {version}: {'every law holds' if held else 'a law is broken'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
