"""What transformers runs when it loads a model whose config.json names wordelim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from ..retention import QUANT_METHOD, Retention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Imported while transformers itself is being imported (see __init__.py): so nothing here may ask it for more at once.


@register_quantization_config(QUANT_METHOD)
class _RetentionConfig(QuantizationConfigMixin):
    """A retention in the place where transformers looks for what to do to a model on loading."""

    def __init__(self, retention: Retention, speeds: Mapping[float, Retention]) -> None:
        super().__init__(quant_method=QUANT_METHOD)  # type: ignore[arg-type]
        self.retention = retention
        self.speeds = speeds

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        from ..graph.speeds import parse

        data = {name: value for name, value in config_dict.items() if name not in ("quant_method", "speeds")}
        config = cls(Retention.from_dict(data), parse(config_dict.get("speeds", {}), config_dict))
        return (config, kwargs) if return_unused_kwargs else config

    def to_dict(self) -> dict[str, Any]:
        speeds = {f"{speed:g}": list(retention.keep) for speed, retention in self.speeds.items()}
        entry = {"quant_method": self.quant_method, **self.retention.to_dict()}
        return {**entry, "speeds": speeds} if speeds else entry


@register_quantizer(QUANT_METHOD)
class _EliminationHook(HfQuantizer):
    """Splices elimination into a model that ``from_pretrained`` has just loaded, and leaves no other trace on it."""

    is_trainable = True

    def is_serializable(self) -> bool:
        return True

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        self.shapes = {name: weight.shape for name, weight in model.named_parameters(remove_duplicate=False)}
        return model

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        from transformers import PreTrainedModel

        from ..graph.speeds import offer_speeds_
        from ..graph.splice import splice_

        self._refuse_other_shapes(model)
        read = cast(_RetentionConfig, self.quantization_config)
        self.remove_quantization_config(model)  # type: ignore[no-untyped-call]
        for module in model.modules():
            if isinstance(module, PreTrainedModel):
                module.config._is_quantized = False
        splice_(model, read.retention, loaded=True)
        if read.speeds:
            for retention in read.speeds.values():
                retention.check_layers(len(read.retention.keep))
            offer_speeds_(model, read.speeds)
        return model

    def _refuse_other_shapes(self, model: PreTrainedModel) -> None:
        """Older versions of transformers take a weight of any shape where a model names a quantizer."""
        from ..errors import CheckpointError

        for name, weight in model.named_parameters(remove_duplicate=False):
            if weight.shape != self.shapes.get(name, weight.shape):
                raise CheckpointError(
                    f"The weight {name} is {list(weight.shape)}, but its config.json makes it "
                    f"{list(self.shapes[name])}: the directory is damaged, copy it again."
                )
