"""Train the classifier that the demonstration ships: `python tests/demo/train.py --output DIR`.

Everything is made from the training split of `wordelim.demo.corpus`: a WordPiece vocabulary, a small BERT as
a masked language model, and on top of that the classifier. It takes about twenty minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

from wordelim.demo import MODEL_DIR, corpus

MAX_LENGTH: Final = 256
PRETRAINING_LENGTH: Final = 128
VOCABULARY: Final = 7000
_SPECIAL_TOKENS: Final = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", corpus.MASK]


def train(output: Path, *, pretraining_epochs: float, epochs: float, seed: int) -> dict[str, float]:
    """Train a classifier, write it to `output` in half precision, and return its accuracy on each split."""
    set_seed(seed)
    data = corpus.load_unbalanced()
    tokenizer = _tokenizer(data["text"])
    training = _encode(data, tokenizer)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        num_hidden_layers=6,
        num_attention_heads=5,
        intermediate_size=640,
        max_position_embeddings=MAX_LENGTH,
        attention_probs_dropout_prob=0.0,  # Its random numbers would take most of the training time on a CPU.
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(corpus.LABELS)),
        label2id={label: index for index, label in enumerate(corpus.LABELS)},
    )
    with tempfile.TemporaryDirectory() as scratch:
        language_model = _MaskedLanguageModel(config)
        Trainer(
            language_model,
            _arguments(scratch, epochs=pretraining_epochs, learning_rate=1e-3, seed=seed),
            train_dataset=_encode(data.remove_columns("label"), tokenizer, max_length=PRETRAINING_LENGTH),
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.2),
        ).train()

        model = BertForSequenceClassification(config)
        model.bert.load_state_dict(language_model.bert.state_dict(), strict=False)  # It has no pooler.
        _classifier_trainer(model, tokenizer, scratch, training, epochs=epochs, learning_rate=3e-4, seed=seed).train()

        model.half().save_pretrained(output)
        tokenizer.save_pretrained(output)

        shipped = AutoModelForSequenceClassification.from_pretrained(output, dtype=torch.float32)
        judge = _classifier_trainer(shipped, tokenizer, scratch, bf16=False)
        return {
            split: judge.evaluate(_encode(corpus.load(split), tokenizer))["eval_accuracy"] for split in corpus.SIZES
        }


class _MaskedLanguageModel(BertForMaskedLM):
    """Scores the vocabulary at masked positions alone, which halves the training time."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        labels: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        masked = labels != -100
        hidden_states = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
        scores = self.cls(hidden_states[masked])
        return (torch.nn.functional.cross_entropy(scores.float(), labels[masked]),)


def _tokenizer(texts: Iterable[str]) -> BertTokenizer:
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=True)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=_SPECIAL_TOKENS, limit_alphabet=150, show_progress=False
    )
    # The mask stands for a library's name, and is no word to learn.
    learner.train_from_iterator((text.replace(corpus.MASK, " ") for text in texts), trainer)
    return BertTokenizer(vocab=learner.get_vocab(), do_lower_case=True, model_max_length=MAX_LENGTH)


def _encode(data: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = MAX_LENGTH) -> Dataset:
    def encode(batch: Mapping[str, list[str]]) -> dict[str, Any]:
        columns: dict[str, Any] = dict(tokenizer(batch["text"], truncation=True, max_length=max_length))
        if "label" in batch:
            columns["labels"] = [corpus.LABELS.index(label) for label in batch["label"]]
        return columns

    return data.map(encode, batched=True, remove_columns=data.column_names)


def _classifier_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    scratch: str,
    train_dataset: Dataset | None = None,
    **arguments: Any,
) -> Trainer:
    return Trainer(
        model,
        _arguments(scratch, **arguments),
        train_dataset=train_dataset,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=_accuracy,
    )


def _arguments(
    scratch: str, *, epochs: float = 0, learning_rate: float = 0, seed: int = 0, bf16: bool = True
) -> TrainingArguments:
    return TrainingArguments(
        scratch,
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=0.01,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        train_sampling_strategy="group_by_length",
        seed=seed,
        bf16=bf16,
        use_cpu=True,
        save_strategy="no",
        logging_steps=50,
        report_to="none",
        disable_tqdm=True,
    )


def _accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float(np.mean(np.argmax(prediction.predictions, axis=-1) == prediction.label_ids))}


def main() -> None:
    """Read the command line, train, and print the accuracy on each split."""
    parser = argparse.ArgumentParser(description=train.__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_DIR, help="directory to write the classifier to")
    parser.add_argument("--pretraining-epochs", type=float, default=4, help="of masked language modelling")
    parser.add_argument("--epochs", type=float, default=3, help="of classification")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    accuracies = train(
        options.output,
        pretraining_epochs=options.pretraining_epochs,
        epochs=options.epochs,
        seed=options.seed,
    )
    for split, accuracy in accuracies.items():
        print(f"{split}: {accuracy:.1%}")


if __name__ == "__main__":
    main()
