"""A head that reads something else than its class's name says is refused, whoever's class or module it is."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from transformers import BertForSequenceClassification, BertForTokenClassification, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

import wordelim
from wordelim import Retention, adapters
from wordelim.adapters import HEADS, family_of, register
from wordelim.checkpoint.directory import save
from wordelim.errors import UnsupportedModelError
from wordelim.graph.splice import eliminating_encoder

KEEP_ALL = Retention.keep_all(3)
SOME = Retention.fractions([0.7, 0.4, 0.2])


def first(states, mask):
    return states[:, 0]


def second(states, mask):
    return states[:, 0] + 0.1 * states[:, 1]


def last(states, mask):
    return states[torch.arange(len(states)), mask.sum(1) - 1]


def mean_of_all(states, mask):
    return states.mean(1)


def mean_of_real(states, mask):
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def greatest(states, mask):
    return states.amax(1)


def each(states, mask):
    return states


def with_the_mean(states, mask):
    return states + mean_of_real(states, mask)[:, None]


def with_the_mean_of_padding(states, mask):
    return states + states.mean(1, keepdim=True)


class Own(BertPreTrainedModel):
    """Somebody's class; what its head reads is set on the model."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.read = first
        self.post_init()

    def said(self, input_ids, attention_mask):
        states = self.bert(input_ids, attention_mask=attention_mask)[0]
        return self.classifier(self.read(states, attention_mask))


class OwnForSequenceClassification(Own):
    def forward(self, input_ids=None, attention_mask=None):
        return SequenceClassifierOutput(logits=self.said(input_ids, attention_mask))


class OwnForMultipleChoice(Own):
    def forward(self, input_ids=None, attention_mask=None):
        flat = (values.flatten(0, 1) for values in (input_ids, attention_mask))
        return MultipleChoiceModelOutput(logits=self.said(*flat)[:, 0].view(input_ids.shape[:2]))


class OwnForTokenClassification(Own):
    def forward(self, input_ids=None, attention_mask=None):
        return TokenClassifierOutput(logits=self.said(input_ids, attention_mask))


class OwnForQuestionAnswering(Own):
    def forward(self, input_ids=None, attention_mask=None):
        start, end = self.said(input_ids, attention_mask)[..., :2].unbind(-1)
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)


FIRST, ALL = (OwnForSequenceClassification, OwnForMultipleChoice), (OwnForTokenClassification, OwnForQuestionAnswering)
SERVED = [*((of, first) for of in FIRST), *((of, read) for of in ALL for read in (each, with_the_mean))]
REFUSED = [
    *((of, read) for of in FIRST for read in (second, last, mean_of_all, mean_of_real, greatest)),
    *((of, with_the_mean_of_padding) for of in ALL),
]


@pytest.fixture
def make_own(make_model, perturb):
    def make(of, read=first):
        torch.manual_seed(0)
        model = of(make_model("bert").config).eval()
        perturb(model)
        model.read = read
        return model

    return make


def snapshot(model):
    """What must be as it was when a model is refused."""
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    gradients = [p.grad for p in model.parameters()]
    return type(model.bert.encoder), model.config.to_dict(), model.config._attn_implementation, hooks, modes, gradients


@pytest.mark.parametrize(("of", "read"), SERVED)
def test_a_class_of_somebodys_own_is_served_where_it_reads_what_its_name_says(make_own, make_batch, of, read):
    model = make_own(of, read)
    batch = make_batch(model, [9, 14])
    if of is OwnForMultipleChoice:
        batch = {name: values[None] for name, values in batch.items()}
    with torch.no_grad():
        dense = model(**batch)
        wordelim.eliminate_(model, KEEP_ALL)
        for layout in ("packed", "padded"):
            eliminating_encoder(model).layout = layout
            kept = model(**batch)
            for name, values in dense.items():
                real = batch["attention_mask"].bool() if of in ALL else slice(None)
                torch.testing.assert_close(kept[name][real], values[real], rtol=1e-5, atol=1e-5)
        wordelim.eliminate_(model, SOME)
        model(**batch)


class Marked(Own):
    """Heads that look at the tokens themselves, or at segments."""

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None):
        states = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]
        looks = {
            "separators": (input_ids == 3).float(),
            "second segment": (token_type_ids == 1).float(),
            "a later place": (torch.arange(input_ids.shape[1]) == min(10, input_ids.shape[1] - 1)).float()[None],
        }[self.read]
        return SequenceClassifierOutput(logits=self.classifier((states * looks[..., None]).sum(1)))


class MarkedForSequenceClassification(Marked):
    pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("read", ["separators", "second segment", "a later place"])
def test_so_is_one_that_looks_for_tokens_or_segments(make_own, read, dtype):
    model = make_own(MarkedForSequenceClassification, read).to(dtype)
    with pytest.raises(UnsupportedModelError, match="reads more than the first token"):
        wordelim.eliminate_(model, SOME)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("of", "read"), REFUSED)
def test_a_class_of_somebodys_own_that_reads_more_is_refused_and_left_as_it_was(make_own, of, read, dtype):
    model = make_own(of, read).to(dtype).train()
    model.bert.encoder.eval()
    before, random = snapshot(model), torch.get_rng_state()
    match = "more than the first token.*register" if of in FIRST else "reads what stands where there is padding"
    with pytest.raises(
        UnsupportedModelError, match=rf"{of.__name__} answers (by up to|in another) .* otherwise .*{match}"
    ):
        wordelim.eliminate_(model, SOME)
    assert snapshot(model) == before
    assert torch.equal(torch.get_rng_state(), random)


class MeanPool(nn.Module):
    """In the place of a pooler."""

    def __init__(self, pooler):
        super().__init__()
        self.dense = pooler.dense

    def forward(self, states):
        return self.dense(states.mean(1)).tanh()


def swap_pooler(model):
    model.bert.pooler = MeanPool(model.bert.pooler)


def drop_pooler(model):
    model.bert.pooler = nn.Identity()


def shadow_forward(model):
    dense = model.bert.pooler.dense
    model.bert.pooler.forward = lambda states: dense(states.amax(1)).tanh()


def hook_in(model):
    def with_the_mean(module, args, output):
        output.pooler_output = output.last_hidden_state.mean(1)

    model.bert.register_forward_hook(with_the_mean)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (swap_pooler, r"so bert.pooler \(MeanPool\) reads more than the first token"),
        (drop_pooler, "in another shape otherwise"),
        (shadow_forward, r"so bert.pooler \(BertPooler\) reads more than the first token"),
        (hook_in, "reads more than the first token"),
    ],
)
def test_a_module_put_in_the_place_of_transformers_own_is_refused(bert, change, match):
    change(bert)
    before = snapshot(bert)
    with pytest.raises(UnsupportedModelError, match=match):
        wordelim.eliminate_(bert, SOME)
    assert snapshot(bert) == before


def test_a_module_that_reads_the_same_is_served(bert, make_batch, logits):
    bert.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 3)).eval()
    batch = make_batch(bert, [9, 4])
    dense = logits(bert, batch)
    torch.testing.assert_close(logits(wordelim.eliminate_(bert, KEEP_ALL), batch), dense, rtol=1e-5, atol=1e-5)


def test_the_repair_of_the_refusal_works(make_own, make_batch, monkeypatch):
    monkeypatch.setattr(adapters, "_FAMILIES", dict(adapters._FAMILIES))
    model = make_own(OwnForSequenceClassification, mean_of_real)
    register(dataclasses.replace(family_of(model), heads={"OwnForSequenceClassification": "all", **HEADS}))
    batch = make_batch(model, [9, 14])
    with torch.no_grad():
        dense = model(**batch).logits
        kept = wordelim.eliminate_(model, KEEP_ALL)(**batch).logits
    torch.testing.assert_close(kept, dense, rtol=1e-5, atol=1e-5)
    assert wordelim.retention_of(model).restore


class OtherArguments(OwnForSequenceClassification):
    def forward(self, input_ids, attention_mask, features):
        return SequenceClassifierOutput(logits=self.said(input_ids, attention_mask) + features)


class OtherArgumentsForSequenceClassification(OtherArguments):
    pass


def test_what_cant_be_proven_is_refused_with_the_reason(make_own):
    with pytest.raises(UnsupportedModelError, match=r"doesn't run when given input_ids and attention_mask .*feat"):
        wordelim.eliminate_(make_own(OtherArgumentsForSequenceClassification), SOME)
    silent = make_own(OwnForSequenceClassification, mean_of_all)
    nn.init.zeros_(silent.classifier.weight)
    nn.init.zeros_(silent.classifier.bias)
    with pytest.raises(UnsupportedModelError, match="it answers the same to everything"):
        wordelim.eliminate_(silent, SOME)
    with pytest.raises(UnsupportedModelError, match="on the device meta, where nothing runs"):
        wordelim.eliminate_(make_own(OwnForSequenceClassification).to("meta"), SOME)


class AsksForLayers(OwnForSequenceClassification):
    def forward(self, input_ids=None, attention_mask=None):
        states = self.bert(input_ids, attention_mask=attention_mask, output_hidden_states=True).hidden_states
        return SequenceClassifierOutput(logits=self.classifier(states[-1][:, 0] + states[-2][:, 0]))


class AsksForLayersForSequenceClassification(AsksForLayers):
    pass


def test_a_head_that_reads_other_layers_is_refused(make_own):
    with pytest.raises(
        UnsupportedModelError, match="asks its encoder for what a compressed one can't give: output_hid"
    ):
        wordelim.eliminate_(make_own(AsksForLayersForSequenceClassification), SOME)


class MeanBertForSequenceClassification(BertForSequenceClassification):
    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        states = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        return SequenceClassifierOutput(logits=self.classifier(states.mean(1)))


def test_loading_into_a_class_of_somebodys_own_is_refused(make_model, make_tokenizer, tmp_path):
    directory = save(wordelim.eliminate_(make_model("bert"), SOME), make_tokenizer("bert"), tmp_path / "out")
    assert wordelim.retention_of(BertForSequenceClassification.from_pretrained(directory)) == SOME
    with pytest.raises(UnsupportedModelError, match=r"MeanBert.* reads more than the first token"):
        MeanBertForSequenceClassification.from_pretrained(directory)


def test_loading_transformers_own_class_takes_no_forward_pass(make_model, make_tokenizer, tmp_path, monkeypatch):
    directory = save(wordelim.eliminate_(make_model("bert"), SOME), make_tokenizer("bert"), tmp_path / "out")
    monkeypatch.setattr(BertModel, "forward", lambda *args, **kwargs: pytest.fail("it ran"))
    assert wordelim.retention_of(wordelim.load(directory)) == SOME


@pytest.mark.parametrize("head", ["sequence", "token"])
def test_the_proof_passes_for_what_transformers_has_in_half_precision(make_model, family, head):
    for dtype in (torch.float16, torch.bfloat16):
        model = make_model(family, head=head).to(dtype)
        assert wordelim.retention_of(wordelim.eliminate_(model, SOME)).keep == SOME.keep


def test_the_proof_runs_under_any_mode_of_the_caller(make_own):
    for around in (torch.inference_mode(), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with around:
            wordelim.eliminate_(make_own(OwnForSequenceClassification), SOME)
            with pytest.raises(UnsupportedModelError):
                wordelim.eliminate_(make_own(OwnForSequenceClassification, mean_of_all), SOME)


def test_a_tagger_with_a_recurrent_layer_over_padding_is_refused(make_model, make_batch):
    model = make_model("bert", head="token")

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(32, 8, bidirectional=True, batch_first=True), nn.Linear(16, 3)

        def forward(self, states):
            return self.out(self.lstm(states)[0])

    model.classifier = Recurrent()
    assert isinstance(model, BertForTokenClassification)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        UnsupportedModelError, match=r"so classifier \(Recurrent\) reads what stands where there is padd"
    ):
        wordelim.eliminate_(model, SOME)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
