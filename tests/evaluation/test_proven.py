"""A head that looks for words of the user's is held to the user's own texts."""

import copy

import pytest
import torch
from torch import nn
from transformers import BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

import wordelim
from wordelim import Retention
from wordelim.errors import UnsupportedModelError


class MarkersForSequenceClassification(BertPreTrainedModel):
    """Reads the first token and, where ``marker`` isn't None, the tokens of that id too."""

    marker = None

    def __init__(self, config):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None):
        states = self.bert(input_ids, attention_mask=attention_mask)[0]
        read = states[:, 0]
        if self.marker is not None and bool((input_ids == self.marker).any()):
            read = read + (states * (input_ids == self.marker)[..., None]).sum(1)
        logits = self.classifier(read)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


RUNS = {
    "compress": lambda model, words, data: wordelim.compress_model(
        *(model, words), train=data, validation=data, keep=[1.0, 1.0, 1.0], retrain=False, measure_speed=False
    ),
    "probe": lambda model, words, data: wordelim.probe_model(model, words, data),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_head_that_looks_for_a_word_of_the_texts_is_refused(make_model, make_tokenizer, make_texts, perturb, run):
    model, words, data = (
        MarkersForSequenceClassification(make_model("bert", labels=2).config),
        make_tokenizer("bert"),
        make_texts(16),
    )
    perturb(model)
    # It never stands in the random tokens that every head answers to.
    model.marker = words.convert_tokens_to_ids("good")
    marked = {"input_ids": torch.tensor([[2, model.marker, 3]])}
    with torch.no_grad():
        dense = model.eval()(**marked).logits
        model.marker, marker = None, model.marker
        wordelim.eliminate_(copy.deepcopy(model), Retention.keep_all(3))
        assert (model(**marked).logits - dense).abs().max() > 0.1
    model.marker = marker
    with pytest.raises(UnsupportedModelError, match=r"Markers.* reads more than"):
        RUNS[run](model, words, data)
    model.marker = None
    RUNS[run](model, words, data)
