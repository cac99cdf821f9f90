"""What each format is made of."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import ExportError

__all__ = ["FORMATS", "RETENTION_KEY", "VERSION", "Format", "format_in", "format_named"]

RETENTION_KEY = "wordelim_retention"
"""Entry of an exported program's own metadata that holds the retention, as JSON."""


VERSION = "1"
"""Folder of the program where a directory is a model of Triton's repository."""


@dataclass(frozen=True)
class Format:
    """A format of exported programs.

    Args:
        name: as it is given to :func:`wordelim.export`.
        program: file that holds the program.
        runtime: what runs it, in words.
        makes: packages that exporting needs.
        runs: packages that running needs.
        quantizes: packages that ``int8`` needs beside these.
    """

    name: str
    program: str
    runtime: str
    makes: tuple[str, ...]
    runs: tuple[str, ...]
    quantizes: tuple[str, ...] = ()

    def find(self, directory: Path) -> Path | None:
        """The program in a directory; None where there is none of this format."""
        return next(
            (path for path in (directory / self.program, directory / VERSION / self.program) if path.is_file()), None
        )

    def require(self, packages: tuple[str, ...]) -> None:
        """Raise ExportError when one of these packages isn't installed; the message has the install line."""
        missing = next((package for package in packages if find_spec(package) is None), None)
        if missing is not None:
            raise ExportError(
                f"{self.runtime} needs the package {missing}, which isn't installed: "
                f"pip install 'wordelim[{self.name}]'."
            )


FORMATS = {
    form.name: form
    for form in (
        Format("onnx", "model.onnx", "ONNX Runtime", ("onnx", "onnxscript", "onnxruntime"), ("onnxruntime",)),
        Format(
            "openvino",
            "openvino_model.xml",
            "OpenVINO",
            ("onnx", "onnxscript", "openvino"),
            ("openvino",),
            ("nncf",),
        ),
    )
}
"""Every format, by name."""


def format_named(name: str) -> Format:
    """The format of this name; ExportError when there is none."""
    if name not in FORMATS:
        raise ExportError(f"Format {name!r} is unknown: use {' or '.join(FORMATS)}.")
    return FORMATS[name]


def format_in(directory: Path) -> Format | None:
    """The format of the program in a directory, or None where it holds none."""
    return next((form for form in FORMATS.values() if form.find(directory) is not None), None)
