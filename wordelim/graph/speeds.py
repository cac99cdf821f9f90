"""Several retentions that one set of weights serves, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import RetentionError
from ..retention import Retention
from .splice import eliminate_, eliminating_encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["offer_speeds_", "parse", "retention_at", "set_speed_", "speeds_of"]

Model = TypeVar("Model", bound="PreTrainedModel")

_FASTEST = 1e9  # far above any; a whole number may be too large for a float


def set_speed_(model: Model, speed: float) -> Model:
    """Make a compressed model drop as many word vectors as one of its speeds asks for, in place.

    Args:
        model: compressed for several speeds; its weights serve all of them.
        speed: one of :func:`speeds_of`.

    Returns:
        The same model.

    Raises:
        RetentionError: the model has no such speed.
        UnsupportedModelError: the model isn't compressed.

    Example:
        >>> model = wordelim.set_speed_(wordelim.load("my-bert-speeds"), 3.0)
        >>> wordelim.retention_of(model).keep
        (0.5, 0.3, 0.2, 0.1, 0.1, 0.0)
    """
    return eliminate_(model, retention_at(speed, speeds_of(model), type(model).__name__))


def retention_at(speed: float, known: Mapping[float, Retention], name: str) -> Retention:
    """The retention of one of a model's speeds; RetentionError, which names the model so, where there is none."""
    if isinstance(speed, bool) or not isinstance(speed, (int, float)) or abs(speed) > _FASTEST:
        raise RetentionError(f"Speed {short(speed)} is no number: give one such as 2.")
    if float(speed) not in known:
        offered = ", ".join(f"{name:g}" for name in known)
        raise RetentionError(
            f"{name} has no speed {speed:g}: "
            + (f"choose one of {offered}." if known else "it was compressed for one alone; compress it with --speeds.")
        )
    return known[float(speed)]


def speeds_of(model: PreTrainedModel) -> dict[float, Retention]:
    """The retentions that a compressed model's weights serve, by speed; empty where it was compressed for one alone.

    Example:
        >>> sorted(wordelim.speeds_of(wordelim.load("my-bert-speeds")))
        [2.0, 3.0]
    """
    eliminating_encoder(model)
    entry = model.config.quantization_config
    return parse(entry.get("speeds", {}), entry)


def offer_speeds_(model: PreTrainedModel, speeds: Mapping[float, Retention]) -> None:
    """Note in a compressed model's config that its weights serve these retentions, which differ in ``keep`` alone."""
    eliminating_encoder(model)
    model.config.quantization_config["speeds"] = {
        f"{speed:g}": list(retention.keep) for speed, retention in sorted(speeds.items())
    }


def parse(speeds: Any, entry: Mapping[str, Any]) -> dict[float, Retention]:
    """Read the ``speeds`` of a config's entry.

    Raises:
        RetentionError: they are no speeds with keep counts.
    """
    if not isinstance(speeds, Mapping):
        raise RetentionError(f"speeds is {short(speeds)}: give keep counts by speed.")
    common = {name: value for name, value in entry.items() if name not in ("quant_method", "speeds")}
    found = {}
    for name, keep in speeds.items():
        try:
            speed = float(name)
        except ValueError:
            raise RetentionError(f"Speed {short(name)} is no number.") from None
        found[speed] = Retention.from_dict({**common, "keep": keep})
    return found
