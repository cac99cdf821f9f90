"""Make a RoBERTa and an ALBERT out of a BERT, for where no weights of theirs are at hand.

    python tests/benchmarks/relatives.py roberta my-bert my-roberta
    python tests/benchmarks/relatives.py albert minilm-l6 my-albert --embedding-size 128
    python tests/benchmarks/glue.py sst2 --model my-albert --teacher my-bert --data data/sst2

The RoBERTa computes what the BERT computes for single texts, with a classifier or without: its positions begin one
behind the padding's, and the type of a first text is part of its word vectors. The ALBERT only begins near the BERT:
its one layer is the mean of the BERT's, and its small word vectors with their projection are the singular value
decomposition of the BERT's. So it is distilled from a fine-tuned BERT before it is compressed (--teacher of glue.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

_SHARED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps", "initializer_range", "pad_token_id",
)  # fmt: skip


def roberta_of(bert: PreTrainedModel) -> PreTrainedModel:
    """A RoBERTa with a BERT's weights: the same logits, or last hidden states, for single texts.

    Args:
        bert: a BertModel or BertForSequenceClassification.
    """
    config = RobertaConfig(
        **{name: getattr(bert.config, name) for name in _SHARED},
        max_position_embeddings=bert.config.max_position_embeddings + bert.config.pad_token_id + 1,
        type_vocab_size=1,
        bos_token_id=None,
        eos_token_id=None,
        id2label=bert.config.id2label,
        label2id=bert.config.label2id,
        problem_type=bert.config.problem_type,
    )
    classifies = hasattr(bert, "classifier")
    made = (RobertaForSequenceClassification if classifies else RobertaModel)(config)
    source, target = bert.base_model, made.base_model
    with torch.no_grad():
        target.encoder.load_state_dict(source.encoder.state_dict())
        words, types = source.embeddings.word_embeddings.weight, source.embeddings.token_type_embeddings.weight
        target.embeddings.word_embeddings.weight.copy_(words + types[0])
        target.embeddings.token_type_embeddings.weight.zero_()
        target.embeddings.LayerNorm.load_state_dict(source.embeddings.LayerNorm.state_dict())
        positions = source.embeddings.position_embeddings.weight
        target.embeddings.position_embeddings.weight[bert.config.pad_token_id + 1 :] = positions
        if classifies:
            made.classifier.dense.load_state_dict(source.pooler.dense.state_dict())
            made.classifier.out_proj.load_state_dict(bert.classifier.state_dict())
        elif target.pooler is not None:
            target.pooler.load_state_dict(source.pooler.state_dict())
    return made.eval()


def albert_of(bert: PreTrainedModel, embedding_size: int = 128) -> PreTrainedModel:
    """An ALBERT that begins near a BERT: see the top of this file.

    Args:
        bert: a BertModel.
        embedding_size: of its word vectors, before they are projected to the hidden size.
    """
    config = AlbertConfig(
        **{name: getattr(bert.config, name) for name in (*_SHARED, "max_position_embeddings", "type_vocab_size")},
        embedding_size=embedding_size,
        num_hidden_groups=1,
        inner_group_num=1,
        bos_token_id=None,
        eos_token_id=None,
    )
    made = AlbertModel(config)
    embeddings, layers = bert.embeddings, bert.encoder.layer
    (shared,) = made.encoder.albert_layer_groups[0].albert_layers
    with torch.no_grad():
        words = embeddings.word_embeddings.weight
        left, scale, right = torch.linalg.svd(words - words.mean(0), full_matrices=False)
        to_hidden = right[:embedding_size]  # orthonormal rows: [embedding_size, hidden_size]
        # ALBERT normalises before it projects. What BERT's normalisation multiplies by, the projection does.
        norm, size = embeddings.LayerNorm, float((left * scale)[:, :embedding_size].pow(2).mean().sqrt())
        made.embeddings.word_embeddings.weight.copy_((words - words.mean(0)) @ to_hidden.T / size)
        made.embeddings.position_embeddings.weight.copy_(embeddings.position_embeddings.weight @ to_hidden.T / size)
        made.embeddings.token_type_embeddings.weight.copy_(embeddings.token_type_embeddings.weight @ to_hidden.T / size)
        spread = (embedding_size / bert.config.hidden_size) ** -0.5
        made.encoder.embedding_hidden_mapping_in.weight.copy_((to_hidden * norm.weight).T * spread)
        made.encoder.embedding_hidden_mapping_in.bias.copy_(norm.bias)
        for module, name in (
            (shared.attention.query, "attention.self.query"),
            (shared.attention.key, "attention.self.key"),
            (shared.attention.value, "attention.self.value"),
            (shared.attention.dense, "attention.output.dense"),
            (shared.attention.LayerNorm, "attention.output.LayerNorm"),
            (shared.ffn, "intermediate.dense"),
            (shared.ffn_output, "output.dense"),
            (shared.full_layer_layer_norm, "output.LayerNorm"),
        ):
            _set_to_mean(module, [layer.get_submodule(name) for layer in layers])
        made.pooler.load_state_dict(bert.pooler.dense.state_dict())
    return made.eval()


def _set_to_mean(module: nn.Module, others: list[nn.Module]) -> None:
    for name, parameter in module.named_parameters():
        values: list[Tensor] = [other.get_parameter(name) for other in others]
        parameter.copy_(torch.stack(values).mean(0))


def main() -> None:
    """Make one and save it with the BERT's tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=("roberta", "albert"))
    parser.add_argument("bert", help="a BERT: a directory, or a hub name")
    parser.add_argument("output", type=Path)
    parser.add_argument("--embedding-size", type=int, default=128, help="of the ALBERT's word vectors")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.bert)
    architecture = (AutoConfig.from_pretrained(arguments.bert).architectures or [""])[0]
    if arguments.family == "albert":
        made = albert_of(AutoModel.from_pretrained(arguments.bert, dtype=torch.float32), arguments.embedding_size)
    else:
        head = AutoModelForSequenceClassification if architecture.endswith("Classification") else AutoModel
        made = roberta_of(head.from_pretrained(arguments.bert, dtype=torch.float32))
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # it has one type of text
    made.save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
