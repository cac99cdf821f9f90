"""The version, in one place: pyproject.toml reads it from here."""

__version__ = "0.1.0"

NAME = "wordelim"
"""What quantization methods of transformers are told apart by, in config.json."""
