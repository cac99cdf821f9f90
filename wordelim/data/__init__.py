"""From a user's file to token ids."""

from .columns import Columns, find_columns
from .encode import INPUTS, Encoded, encode
from .read import read
from .split import carve, fingerprint

__all__ = ["INPUTS", "Columns", "Encoded", "carve", "encode", "find_columns", "fingerprint", "read"]
