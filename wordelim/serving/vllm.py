"""vLLM's plug-in: ``vllm serve my-bert-fast --runner pooling`` runs a compressed directory.

vLLM loads it through the entry point ``vllm.general_plugins``. It changes nothing for other models.
"""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["register"]

_MODELS = "wordelim.serving.vllm_models"
_HEADS = {"ForSequenceClassification": "WordelimForSequenceClassification", "Model": "WordelimModel"}


@cache
def register() -> None:
    """Teach vLLM to run compressed directories, in this process; what is called again does nothing."""
    import torch
    from vllm import ModelRegistry
    from vllm.model_executor.layers.quantization import register_quantization_config
    from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP, VerifyAndUpdateConfig
    from vllm.transformers_utils.config import get_config_parser, register_config_parser

    import wordelim  # noqa: F401  (teaches transformers, which vLLM reads configs with)

    from ..retention import QUANT_METHOD

    # vLLM refuses a method that it doesn't know, so without this plug-in no directory runs dense unnoticed.
    @register_quantization_config(QUANT_METHOD)
    class RetentionConfig(QuantizationConfig):
        """Says nothing of weights: wordelim itself reads the retention."""

        @classmethod
        def get_name(cls) -> str:
            return QUANT_METHOD

        @classmethod
        def get_supported_act_dtypes(cls) -> list[torch.dtype]:
            return [torch.float32, torch.bfloat16, torch.float16]

        @classmethod
        def get_min_capability(cls) -> int:
            return 0

        @staticmethod
        def get_config_filenames() -> list[str]:
            return []

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> RetentionConfig:
            return cls()

        def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> None:
            return None

    class Eager(VerifyAndUpdateConfig):
        """Counts follow each batch, so that there is no graph to capture."""

        @staticmethod
        def verify_and_update_config(vllm_config: Any) -> None:
            vllm_config.model_config.enforce_eager = True

    usual: Any = type(get_config_parser("hf"))

    @register_config_parser("hf")
    class Parser(usual):
        """Names our class in the config of a compressed directory, whose own would be a dense model's."""

        def parse(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], Any]:
            data, config = super().parse(*args, **kwargs)
            entry = data.get("quantization_config")
            if isinstance(entry, dict) and entry.get("quant_method") == QUANT_METHOD:
                config.architectures = [_class_for(config, entry)]
            return data, config

    for name in _HEADS.values():
        ModelRegistry.register_model(name, f"{_MODELS}:{name}")
        MODELS_CONFIG_MAP[name] = Eager


def _class_for(config: Any, entry: dict[str, Any]) -> str:
    """The class in :mod:`.vllm_models` that runs a compressed model.

    Raises:
        RetentionError: the retention is damaged, or of a version that isn't known.
        UnsupportedModelError: the head isn't served in vLLM.
    """
    from transformers.quantizers.auto import AutoQuantizationConfig

    from ..errors import UnsupportedModelError

    AutoQuantizationConfig.from_dict(entry)
    own = (config.architectures or [""])[0]
    for ending, name in _HEADS.items():
        if own.endswith(ending):
            return name
    raise UnsupportedModelError(
        f"{own or 'A model of no class'} isn't served in vLLM, where compressed classifiers, rerankers and embedding "
        "models are: call transformers.pipeline on the directory after import wordelim."
    )
