"""Every family that the laws are tested on, with what is its own in a tiny config: one row each.

What else a test asks of a family, its :class:`wordelim.adapters.Family` or transformers says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from wordelim.adapters import find_family

__all__ = ["FAMILIES", "RELATIVES", "Special", "Tiny", "tiny_config", "tiny_of"]

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "type_vocab_size": 2,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Special:
    """Special tokens of a tokenizer, in the order of their ids, and what they are for."""

    tokens: tuple[str, ...]
    pad: str
    unknown: str
    first: str
    separator: str


BERT = Special(("[PAD]", "[UNK]", "[CLS]", "[SEP]"), "[PAD]", "[UNK]", "[CLS]", "[SEP]")
ALBERT = Special(("<pad>", "<unk>", "[CLS]", "[SEP]"), "<pad>", "<unk>", "[CLS]", "[SEP]")
ROBERTA = Special(("<s>", "<pad>", "</s>", "<unk>"), "<pad>", "<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class Tiny:
    """What of a family's tiny models isn't as BERT's.

    Args:
        config: fields of its config.
        renamed: what fields are called in its config.
        every_test: it takes part in all tests; else in those that are marked every_family, with fewer examples, for its
            code is much like that of one that does.
        token_types: its tokenizer says which of two texts a token is from.
        special: of its tokenizer; None for BERT's, or RoBERTa's where positions are numbered as RoBERTa's are.
        rounding: how far two ways to compute the same in fp32 may be apart.
        kernels: the kernels for a card compute its layers.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    every_test: bool = False
    token_types: bool = True
    special: Special | None = None
    rounding: float = 1e-5
    kernels: bool = True


_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
_DEBERTA_V3 = {
    "relative_attention": True,
    "position_buckets": 8,  # fewer than texts have distances
    "max_relative_positions": -1,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
# Embeddings of sound and shape are there though they aren't enabled, and 500 times as large as all else by default.
_ROC_BERT = {
    "enable_pronunciation": False,
    "enable_shape": False,
    "pronunciation_vocab_size": 8,
    "pronunciation_embed_dim": 8,
    "shape_vocab_size": 8,
    "shape_embed_dim": 8,
}
_DISTILBERT = {"intermediate_size": "hidden_dim", "attention_probs_dropout_prob": "attention_dropout"}

FAMILIES = {
    "albert": Tiny({"embedding_size": 16, "classifier_dropout_prob": 0.1}, every_test=True, special=ALBERT),
    "bert": Tiny(every_test=True),
    "camembert": Tiny(),
    "data2vec-text": Tiny(),
    "deberta-v2": Tiny(_DEBERTA_V3, kernels=False),
    "distilbert": Tiny(renamed=_DISTILBERT, every_test=True, token_types=False),
    "electra": Tiny({"embedding_size": 16}),
    "ernie": Tiny(),
    "eurobert": Tiny({**_IDS, "num_key_value_heads": 4, "classifier_pooling": "bos"}, kernels=False),
    "modernbert": Tiny({**_IDS, "local_attention": 6}, kernels=False),  # a window that texts are longer than
    "mpnet": Tiny(kernels=False),
    "nomic_bert": Tiny(rounding=5e-5, kernels=False),  # rounding moves the dense model by 2.4e-5 from what fp64 says
    "roberta": Tiny(every_test=True),
    "roberta-prelayernorm": Tiny(kernels=False),
    "roc_bert": Tiny(_ROC_BERT),
    "xlm-roberta": Tiny(),
    "xlm-roberta-xl": Tiny(kernels=False),
}
RELATIVES = tuple(name for name, tiny in FAMILIES.items() if not tiny.every_test)


def tiny_of(name: str) -> Tiny:
    """A family's row, made whole; BERT's for a family that has none."""
    tiny, family = FAMILIES.get(name, Tiny()), find_family(name)
    if family is None or not family.positions_after_padding:
        return replace(tiny, special=tiny.special or BERT)
    config = {"max_position_embeddings": 66, "type_vocab_size": 1, **tiny.config}
    return replace(tiny, special=tiny.special or ROBERTA, config=config, token_types=False)


def tiny_config(name: str, **fields: Any) -> PreTrainedConfig:
    """The config of a tiny model of a family, with these fields, which are named as BERT's are."""
    tiny = tiny_of(name)
    merged = {**SIZES, **tiny.config, **fields}
    return AutoConfig.for_model(name, **{tiny.renamed.get(field, field): value for field, value in merged.items()})
