"""How many word vectors each layer keeps."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from reprlib import repr as short
from typing import Any, Literal

from .errors import RetentionError

__all__ = ["QUANT_METHOD", "VERSION", "Retention"]

QUANT_METHOD = "wordelim"
"""``quant_method`` of a compressed model's config, which holds its retention."""
VERSION = 2
"""The newest version of the file format that this reads: the second has ``package`` and ``significance``."""
_RULE = re.compile(r"first(:0{0,9}[1-9]\d{0,8})?|(separators|query):\d+|tokens:\d+(-\d+)*(,\d+(-\d+)*)*", re.ASCII)
_FIELDS = ("version", "kind", "keep", "min_tokens", "protect", "restore", "package", "significance")


@dataclass(frozen=True)
class Retention:
    """How many word vectors leave each layer of an encoder (PoWER-BERT, section 3.2: the retention configuration).

    ``keep[j]`` is what leaves layer ``j``: with ``kind="fraction"`` the fraction of the example's own real tokens,
    rounded up; with ``kind="count"`` a number of word vectors, as in the paper. Neither ever depends on padding or on
    the other examples of a batch. ``protect`` names the word vectors that are never dropped: ``"first"`` (always), or
    ``"first:N"`` for the first N of each text; ``"separators:ID"`` for the separators, ``"query:ID"`` for the first
    text of a pair, ``"tokens:ID,ID-ID"`` for tokens and sequences of tokens (``wordelim.protect_rules`` makes these
    with the tokenizer). No example keeps fewer than are protected. ``restore`` says that dropped word vectors come back
    at the encoder's exit with the value that they had when dropped, or as the mean of those that are left (``"mean"``);
    ``wordelim.eliminate_`` sets it as the head needs. With ``package`` the word vectors that a layer drops go on as one
    more row behind those that are left: their mean, weighted by significance, the package of the layer before among
    them (EViT: Liang et al., ICLR 2022). ``significance`` says what decides which word vectors stay: ``"attention"``,
    what they receive (section 3.1); or for each layer a linear map of value vectors, as
    :func:`.elimination.significance.to_text` writes it, ``""`` where nothing is to be decided. ``version`` is the first
    of the file format that has all that is used.

    Raises:
        RetentionError: a value is out of range, grows with depth, or has the wrong type.

    Example:
        >>> retention = wordelim.Retention.fractions((1.0, 0.5, 0.25))
        >>> [retention.count(layer, length=10, entered=10) for layer in range(3)]
        [10, 5, 3]
    """

    keep: tuple[float, ...]
    kind: Literal["fraction", "count"] = "fraction"
    min_tokens: int = 1
    protect: tuple[str, ...] = ("first",)
    restore: bool | Literal["mean"] = False
    package: bool = False
    significance: Literal["attention"] | tuple[str, ...] = field(default="attention", repr=False)
    version: int | None = None

    def __post_init__(self) -> None:
        known = self.version is None or self.version in range(1, VERSION + 1)
        if not known or isinstance(self.version, bool):
            raise RetentionError(
                f"Retention version {short(self.version)} is unknown to this wordelim, which reads version 1 to "
                f"{VERSION}: upgrade wordelim."
            )
        if not isinstance(self.package, bool):
            raise RetentionError(f"package is {short(self.package)}: give true or false.")
        if self.kind not in ("fraction", "count"):
            raise RetentionError(f"Retention kind {short(self.kind)} is unknown: use 'fraction' or 'count'.")
        if isinstance(self.keep, str) or not isinstance(self.keep, Sequence) or not self.keep:
            raise RetentionError(f"keep is {short(self.keep)}: give one number for each layer.")
        object.__setattr__(self, "keep", tuple(self._checked(j, value) for j, value in enumerate(self.keep)))
        for j, (before, after) in enumerate(zip(self.keep, self.keep[1:], strict=False), start=1):
            if after > before:
                raise RetentionError(
                    f"keep[{j}] = {after} is more than keep[{j - 1}] = {before}: a dropped word vector can't come "
                    "back, so give values that never grow with depth."
                )
        if not isinstance(self.min_tokens, int) or isinstance(self.min_tokens, bool) or self.min_tokens < 1:
            raise RetentionError(f"min_tokens is {short(self.min_tokens)}: give a whole number of at least 1.")
        if not isinstance(self.restore, bool) and self.restore != "mean":
            raise RetentionError(f"restore is {short(self.restore)}: give true, false or 'mean'.")
        if not isinstance(self.protect, (tuple, list)) or not all(isinstance(rule, str) for rule in self.protect):
            raise RetentionError(f"protect is {short(self.protect)}: give a list of names such as ['first'].")
        object.__setattr__(self, "protect", tuple(self.protect))
        if "first" not in {rule.partition(":")[0] for rule in self.protect}:
            raise RetentionError(f"protect is {short(list(self.protect))}: position 0 is always kept, so add 'first'.")
        for rule in self.protect:
            if not _RULE.fullmatch(rule):
                raise RetentionError(
                    f"protect rule {short(rule)} is unknown: use 'first' or 'first:N' with N at least 1, or what "
                    "wordelim.protect_rules makes of 'separators', 'query' and 'words:FILE' with the tokenizer."
                )
        self._check_significance()
        object.__setattr__(self, "version", 2 if self.package or self.linear else 1)

    def _check_significance(self) -> None:
        if self.significance == "attention":
            return
        maps = self.significance
        if isinstance(maps, str) or not isinstance(maps, Sequence) or len(maps) != len(self.keep):
            raise RetentionError(
                f"significance is {short(maps)}: give 'attention', or a linear map for each of {len(self.keep)} layers."
            )
        sizes = {_size(layer, text) for layer, text in enumerate(maps) if text != ""}
        if not sizes:
            raise RetentionError("significance has no linear map: give one for each layer that drops, or 'attention'.")
        # The last layer's counts say nothing where it is cut to the first token.
        for layer, (text, keep) in enumerate(zip(maps[:-1], self.keep, strict=False)):
            before = self.keep[layer - 1] if layer else 1.0 if self.kind == "fraction" else math.inf
            if text == "" and 0 < keep < before:
                raise RetentionError(f"significance[{layer}] is empty, but the layer drops word vectors: give its map.")
        if len(sizes) != 1:
            raise RetentionError(f"significance has maps of {sorted(sizes)} numbers: give each layer as many.")
        object.__setattr__(self, "significance", tuple(maps))

    def _checked(self, layer: int, value: Any) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or (isinstance(value, float) and not math.isfinite(value)):
            raise RetentionError(f"keep[{layer}] = {short(value)} is not a number.")
        if self.kind == "fraction" and not 0 <= value <= 1:
            raise RetentionError(f"keep[{layer}] = {value} is outside 0..1: give the fraction of word vectors to keep.")
        if self.kind == "count" and (value < 0 or value != int(value)):
            raise RetentionError(f"keep[{layer}] = {value} is not a whole number of word vectors.")
        return float(value) if self.kind == "fraction" else int(value)

    @classmethod
    def fractions(cls, keep: Iterable[float], **options: Any) -> Retention:
        """Keep these fractions of each example's real tokens, one value a layer."""
        return cls(tuple(keep), "fraction", **options)

    @classmethod
    def counts(cls, keep: Iterable[int], **options: Any) -> Retention:
        """Keep these numbers of word vectors, one value a layer (the paper's form)."""
        return cls(tuple(keep), "count", **options)

    @classmethod
    def keep_all(cls, layers: int) -> Retention:
        """Drop nothing in any of ``layers`` layers."""
        return cls((1.0,) * layers)

    @property
    def linear(self) -> bool:
        """Whether linear maps decide which word vectors stay, rather than attention received."""
        return self.significance != "attention"

    @property
    def protected_first(self) -> int:
        """How many of the first real tokens are never dropped; at least 1."""
        return max(int(rule.partition(":")[2] or 1) for rule in self.protect if rule.startswith("first"))

    @property
    def protects_by_token(self) -> bool:
        """Whether a rule asks for the tokens of the text."""
        return any(not rule.startswith("first") for rule in self.protect)

    def check_width(self, width: int) -> None:
        """Raise RetentionError unless its linear maps, if it has some, have so many numbers."""
        sizes = {_size(layer, text) for layer, text in enumerate(self.significance) if text} if self.linear else {width}
        if sizes != {width}:
            raise RetentionError(
                f"significance has maps of {sizes.pop()} numbers, but the model's value vectors have {width}: the "
                "retention is another model's."
            )

    def check_layers(self, layers: int) -> None:
        """Raise RetentionError unless there is one value for each of ``layers`` layers."""
        if len(self.keep) != layers:
            raise RetentionError(
                f"keep has {len(self.keep)} values, but the model has {layers} layers: give one for each layer."
            )

    def count(self, layer: int, length: int, entered: int, protected: int = 0) -> int:
        """How many word vectors leave ``layer``.

        Args:
            layer: index of the layer, from 0.
            length: real tokens of the example when it entered the encoder.
            entered: word vectors of it that entered this layer.
            protected: word vectors of it that are never dropped, where rules name tokens.
        """
        value = self.keep[layer]
        # The tiny term keeps 0.07 * 100 = 7.000000000000001 from counting as 8.
        wanted = math.ceil(value * length - 1e-9) if self.kind == "fraction" else int(value)
        return min(entered, max(wanted, self.min_tokens, self.protected_first, protected))

    def path(self, length: int, protected: int = 0) -> tuple[int, ...]:
        """Word vectors of an example of ``length`` real tokens that leave each layer; ``protected`` of it never do."""
        counts: list[int] = []
        entered = length
        for layer in range(len(self.keep)):
            entered = self.count(layer, length, entered, protected)
            counts.append(entered)
        return tuple(counts)

    def tokens(self, lengths: Iterable[int]) -> tuple[int, ...]:
        """Word vectors that leave each layer, summed over examples of these ``lengths``."""
        paths = [self.path(length) for length in lengths]
        return tuple(map(sum, zip(*paths, strict=True))) if paths else (0,) * len(self.keep)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, in the order of the file format."""
        return {
            "version": self.version,
            "kind": self.kind,
            "keep": list(self.keep),
            "min_tokens": self.min_tokens,
            "protect": list(self.protect),
            "restore": self.restore,
            **({"package": True} if self.package else {}),
            **({"significance": list(self.significance)} if self.linear else {}),
        }

    def told(self) -> dict[str, Any]:
        """The same for a report, which says of linear maps that there are some."""
        return {**self.to_dict(), **({"significance": "linear"} if self.linear else {})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Retention:
        """Read what :meth:`to_dict` wrote.

        Raises:
            RetentionError: a field is missing, unknown or out of range.
        """
        unknown = sorted(set(data) - set(_FIELDS))
        if "version" in data and data["version"] not in range(1, VERSION + 1):
            unknown = []  # a newer version may have more fields: its number is the clearer complaint
        if unknown:
            raise RetentionError(
                f"Retention field {short(unknown[0])} is unknown: the fields are {', '.join(_FIELDS)}."
            )
        if "keep" not in data or "version" not in data:
            missing = "keep" if "keep" not in data else "version"
            raise RetentionError(f"Retention field {short(missing)} is missing.")
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items() if name in _FIELDS
        }
        found = cls(**fields)
        if data["version"] is None or data["version"] < found.version:
            raise RetentionError(
                f"Retention version {short(data['version'])} doesn't have all of its fields, which are of version "
                f"{found.version}: copy the directory again."
            )
        return found

    def to_json(self) -> str:
        """As one line of JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Retention:
        """Read what :meth:`to_json` wrote; RetentionError when it isn't such JSON."""
        try:
            data = json.loads(text)
        except (RecursionError, ValueError) as error:
            reason = f"is not valid JSON: {error}"
            if not isinstance(error, json.JSONDecodeError):
                deep = isinstance(error, RecursionError)
                reason = "nests too deep" if deep else "holds a number of too many digits"
            raise RetentionError(f"The retention {reason}: give what to_json wrote.") from error
        if not isinstance(data, dict):
            raise RetentionError(f"Retention JSON is a {type(data).__name__}, not an object.")
        return cls.from_dict(data)


def _size(layer: int, text: Any) -> int:
    """How many numbers a layer's linear map has; RetentionError where it isn't one."""
    try:
        if not isinstance(text, str):
            raise TypeError
        numbers = base64.b64decode(text, validate=True)
        if all(map(math.isfinite, struct.unpack(f"<{len(numbers) // 2}e", numbers))):
            return len(numbers) // 2
    except (TypeError, ValueError, binascii.Error, struct.error):
        pass
    raise RetentionError(
        f"significance[{layer}] = {short(text)} is no linear map: give finite fp16 numbers, little-endian, as base64."
    )
