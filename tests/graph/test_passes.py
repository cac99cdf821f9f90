"""Passes over every family: what they keep, what they drop, what they refuse."""

import copy
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForSequenceClassification,
    BertLMHeadModel,
    ElectraForPreTraining,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaForMaskedLM,
    T5Config,
    T5ForSequenceClassification,
)

import wordelim
from wordelim import Retention
from wordelim.elimination.extract import FirstToken, HardExtract
from wordelim.elimination.rows import gather
from wordelim.errors import UnsupportedModelError
from wordelim.graph.cost import cost_of
from wordelim.graph.linear import linear_of
from wordelim.graph.passes import CutToFirstToken, SpliceElimination, attention_nodes, extraction_nodes

LAYERS = 3
SOME = Retention.fractions([0.6, 0.3, 0.0])
KEEP_ALL = Retention.keep_all(LAYERS)
PASSES = {
    "nothing": [],
    "cut": [CutToFirstToken()],
    "splice keep-all": [SpliceElimination(KEEP_ALL)],
    "cut, then splice keep-all": [CutToFirstToken(), SpliceElimination(KEEP_ALL)],
    "splice": [SpliceElimination(SOME)],
    "splice by count": [SpliceElimination(Retention.counts([30, 30, 30]))],
}


# --- every pass on every family ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_keeps_the_computation_where_it_says_so(
    make_model, family, traced, encoder_of, make_batch, encoder_call, name
):
    model = make_model(family)
    keys = list(encoder_of(model).state_dict())
    graph_module = traced(model)
    for rewriting in PASSES[name]:
        rewriting(graph_module)
    preserved = not name.startswith("splice") or name == "splice keep-all"
    # Laid out as the encoder, with not one weight more.
    assert sorted(graph_module.state_dict()) == sorted(keys)
    for lengths in ([13], [9, 9], [12, 1, 7]):
        batch = make_batch(model, lengths)
        entered, dense = encoder_call(model, batch)
        # Before a pass the graph holds plain attention, which takes a bool mask.
        mask = batch["attention_mask"].bool()
        with torch.no_grad():
            rows = graph_module(entered, mask)
        if name == "splice":
            assert rows.shape[1] == max(SOME.path(n)[-1] for n in lengths) < max(max(lengths), 2)
            continue
        # What keeps all in the last layer leaves all rows, what cuts leaves the first.
        assert rows.shape[1] == (1 if "cut" in name else max(lengths))
        if preserved or name == "splice by count":
            real = mask[:, : rows.shape[1]]
            torch.testing.assert_close(rows[real], dense[:, : rows.shape[1]][real], rtol=1e-6, atol=1e-6)


def test_a_pass_finds_one_attention_a_layer(model, traced):
    graph_module = traced(model)
    assert len(attention_nodes(graph_module.graph)) == LAYERS
    CutToFirstToken()(graph_module)
    assert len(attention_nodes(graph_module.graph)) == LAYERS - 1
    SpliceElimination(SOME)(graph_module)
    assert attention_nodes(graph_module.graph) == []
    found = [graph_module.get_submodule(node.target) for node in extraction_nodes(graph_module.graph)]
    assert [type(module) for module in found] == [HardExtract, HardExtract, FirstToken]
    assert [module.layer for module in found[:-1]] == [0, 1]


def test_a_pass_twice_is_refused(model, traced):
    graph_module = traced(model)
    SpliceElimination(SOME)(graph_module)
    for again in (SpliceElimination(SOME), CutToFirstToken()):
        with pytest.raises(UnsupportedModelError, match="already rewritten"):
            again(graph_module)


def test_a_pass_takes_over_the_mode(model, traced):
    for training in (True, False):
        graph_module = traced(model).train(training)
        CutToFirstToken()(graph_module)
        SpliceElimination(SOME)(graph_module)
        modes = {module.training for module in graph_module.modules() if isinstance(module, (HardExtract, FirstToken))}
        assert modes == {training}


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_what_is_spliced_knows_the_layers_attention_dropout_and_scaling(make_model, family, encoder_of, dropout):
    model = make_model(family, attention_probs_dropout_prob=dropout)
    wordelim.eliminate_(model, SOME)
    modules = [module for module in encoder_of(model).children() if isinstance(module, (HardExtract, FirstToken))]
    assert [module.attention.dropout for module in modules] == [dropout] * LAYERS
    assert [module.attention.scaling for module in modules] == [pytest.approx(8**-0.5)] * LAYERS


def test_dropout_is_active_in_training_alone(make_model, family, make_batch, logits):
    model = wordelim.eliminate_(make_model(family), SOME)
    batch = make_batch(model, [9, 5])
    assert torch.equal(logits(model, batch), logits(model, batch))
    model.train()
    assert not torch.equal(logits(model, batch), logits(model, batch))


# --- the gather stands before the output projection, on both branches --------------------------------------------


def producers(node, stop):
    """The nodes between ``stop`` and a node, and it."""
    found, stack = set(), [node]
    while stack:
        at = stack.pop()
        if at not in found and at not in stop:
            found.add(at)
            stack += at.all_input_nodes
    return found


def test_the_gather_stands_before_the_output_projection_on_both_branches(model, encoder_of):
    encoder = encoder_of(wordelim.eliminate_(model, SOME))
    for node in extraction_nodes(encoder.graph):
        context, rows = list(node.users)[:2]
        (projection,) = context.users
        assert linear_of(encoder, projection) is not None
        gathers = [user for user in rows.users if user.target is gather]
        assert len(gathers) == 1
        # They meet in the residual addition, and nothing else takes the gathered rows.
        (addition,) = gathers[0].users
        assert gathers[0] in addition.all_input_nodes
        other = next(source for source in addition.all_input_nodes if source is not gathers[0])
        assert projection in producers(other, {context})


def rows_seen(encoder, model, batch):
    """Rows that each linear module of the encoder works on, summed over its calls, and its calls in order."""
    seen = defaultdict(int)
    calls = []

    def note(name):
        def hook(module, args, output):
            rows = args[0].shape[:-1].numel()
            seen[name] += rows
            calls.append((name, rows, 2 * module.in_features * module.out_features))

        return hook

    hooks = [m.register_forward_hook(note(name)) for name, m in encoder.named_modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        model(**batch)
    for hook in hooks:
        hook.remove()
    return seen, calls


@given(data=st.data(), length=st.integers(1, 30), batch_size=st.integers(1, 3))
def test_the_projections_run_on_the_kept_rows_alone(
    shared, retentions, encoder_of, make_batch, data, length, batch_size
):
    dense, model = shared
    retention = data.draw(retentions(LAYERS))
    wordelim.eliminate_(model, retention)
    batch = make_batch(model, [length] * batch_size)
    cost = cost_of(model)
    for run, path in ((dense, (length,) * LAYERS), (model, cost.path(length, retention))):
        _, calls = rows_seen(encoder_of(run), run, batch)
        entered = (length, *path)
        expected = cost.per_token[0] * entered[0] + sum(
            flops * left for flops, left in zip(cost.per_token[1:], path, strict=True)
        )
        assert sum(rows * flops for _, rows, flops in calls) == expected * batch_size


def test_the_projections_of_bert_by_name(bert, make_batch):
    wordelim.eliminate_(bert, Retention.counts([6, 3, 1]))
    seen, _ = rows_seen(bert.bert.encoder, bert, make_batch(bert, [10, 10]))
    for layer, (entered, left) in enumerate([(10, 6), (6, 3), (3, 1)]):
        prefix = f"layer.{layer}."
        assert {name.removeprefix(prefix): rows for name, rows in seen.items() if name.startswith(prefix)} == {
            "attention.self.query": 2 * (entered if layer < 2 else 1),
            "attention.self.key": 2 * entered,
            "attention.self.value": 2 * entered,
            "attention.output.dense": 2 * left,
            "intermediate.dense": 2 * left,
            "output.dense": 2 * left,
        }


# --- refusals ----------------------------------------------------------------------------------------------------


def refused(model, match):
    """eliminate_ refuses a model and leaves it as it was."""
    config, hooks = model.config.to_dict(), len(model.base_model._forward_pre_hooks)
    modules = {name: id(module) for name, module in model.named_modules()}
    implementation = model.config._attn_implementation
    with pytest.raises(UnsupportedModelError, match=match) as caught:
        wordelim.eliminate_(model, KEEP_ALL)
    assert isinstance(caught.value, TypeError)
    assert model.config.to_dict() == config
    assert model.config._attn_implementation == implementation
    assert {name: id(module) for name, module in model.named_modules()} == modules
    assert len(model.base_model._forward_pre_hooks) == hooks


def test_a_decoder_is_refused(make_model):
    refused(make_model("bert", is_decoder=True), "BertForSequenceClassification is configured as a decoder")
    refused(make_model("roberta", is_decoder=True), "RobertaForSequenceClassification is configured as a decoder")


def test_cross_attention_is_refused(make_model):
    refused(make_model("bert", is_decoder=True, add_cross_attention=True), "configured as a decoder")


@pytest.mark.parametrize(
    ("model_class", "why"),
    [
        (BertForMaskedLM, "BertForMaskedLM guesses words at any position.*fine-tuned from it"),
        (BertLMHeadModel, "BertLMHeadModel guesses words"),
        (BertForPreTraining, "BertForPreTraining is trained at every position"),
        (BertForNextSentencePrediction, "BertForNextSentencePrediction has a head of pre-training"),
        (RobertaForMaskedLM, "RobertaForMaskedLM guesses words"),
        (ElectraForPreTraining, "ElectraForPreTraining is trained at every position"),
    ],
)
def test_a_head_of_pre_training_is_refused(make_model, model_class, why):
    refused(model_class(make_model(model_class.config_class.model_type).config), why)


def test_a_head_that_nobody_knows_is_refused(make_model):
    class BertForSomething(BertForSequenceClassification):
        pass

    served = r"\*ForSequenceClassification, \*ForMultipleChoice, \*ForTokenClassification, \*ForQuestionAnswering"
    refused(BertForSomething(make_model("bert").config), f"BertForSomething has no head .*{served}, and models without")


def test_a_model_type_that_is_not_known_is_refused_with_those_that_are():
    small = {"vocab_size": 20, "num_labels": 2, "pad_token_id": 0}
    for model in (
        GPT2ForSequenceClassification(GPT2Config(n_embd=8, n_layer=1, n_head=2, **small)),
        T5ForSequenceClassification(T5Config(d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2, **small)),
    ):
        refused(model, rf"{type(model).__name__} \(model type .* is not supported: .*albert, bert, .*roberta")
    with pytest.raises(UnsupportedModelError, match=r"Linear .*is not supported"):
        wordelim.eliminate_(nn.Linear(2, 2), KEEP_ALL)


class ConvolvedOutput(nn.Module):
    """BERT's output with a convolution over tokens in it."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.mix = nn.Conv1d(32, 32, 3, padding=1)

    def forward(self, hidden_states, input_tensor):
        return self.mix(self.inner(hidden_states, input_tensor).transpose(1, 2)).transpose(1, 2)


class Mixed(nn.Module):
    """BERT's output, then a function of all its rows."""

    def __init__(self, inner, mix):
        super().__init__()
        self.inner = inner
        self.mix = mix

    def forward(self, hidden_states, input_tensor):
        return self.mix(self.inner(hidden_states, input_tensor))


@pytest.mark.parametrize(
    ("mix", "named"),
    [
        (lambda rows: torch.softmax(rows, 1), "softmax"),
        (lambda rows: rows.softmax(1), "softmax"),
        (lambda rows: rows + rows.mean(1, keepdim=True), "mean"),
        (lambda rows: rows.cumsum(1), "cumsum"),
        (lambda rows: rows @ rows.transpose(1, 2) @ rows, "matmul"),
        (lambda rows: rows[:, ::2], "getitem"),
        (lambda rows: rows + rows[:, 1:2], "getitem"),
        (lambda rows: rows / rows.shape[1], "truediv"),
        (lambda rows: rows * (rows.size(1) * 2), "mul"),
        (lambda rows: rows.roll(1, 1), "roll"),
        (lambda rows: torch.cat([rows, rows], 1), "cat"),
        (lambda rows: rows.flip(1), "flip"),
        (lambda rows: rows.reshape(-1, 64).tanh().view(rows.shape), "can't be traced"),
        (lambda rows: rows.reshape(rows.shape[0], -1, 64).tanh().view(rows.shape), "can't be traced"),
    ],
)
def test_a_function_that_mixes_rows_behind_attention_is_refused_by_name(bert, mix, named):
    layer = bert.bert.encoder.layer[-1]
    layer.output = Mixed(layer.output, mix)
    refused(bert, rf"{named}.*known to work row by row|can't be traced|doesn't run when given")


class Scaled(nn.Module):
    """BERT's output times a learned scale, divided by its own width."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.gamma = nn.Parameter(torch.linspace(0.5, 1.5, 32))
        self.shift = nn.Parameter(torch.full((1, 1, 32), 0.1))

    def forward(self, hidden_states, input_tensor):
        rows = self.inner(hidden_states, input_tensor)
        return rows * self.gamma + self.shift / rows.shape[-1]


def test_a_layer_of_the_users_own_that_works_row_by_row_is_served(bert, make_batch, logits):
    for layer in bert.bert.encoder.layer:
        layer.output = Scaled(layer.output)
    bert.double()
    batch = make_batch(bert, [9, 4])
    dense = logits(bert, batch)
    wordelim.eliminate_(bert, KEEP_ALL)
    torch.testing.assert_close(logits(bert, batch), dense, rtol=1e-12, atol=1e-12)
    wordelim.eliminate_(bert, SOME)
    alone = {name: values[1:, :4] for name, values in batch.items()}
    torch.testing.assert_close(logits(bert, alone), logits(bert, batch)[1:], rtol=1e-12, atol=1e-12)


def test_a_module_that_mixes_rows_behind_attention_is_refused_by_name(bert):
    layer = bert.bert.encoder.layer[1]
    layer.output = ConvolvedOutput(layer.output)
    refused(bert, r"layer\.1\.output\.mix \(Conv1d\) stands behind attention")


def test_attention_that_does_not_go_through_the_interface_is_refused(bert):
    class Own(nn.Module):
        def forward(self, hidden_states, *args, **kwargs):
            return hidden_states, None

    for layer in bert.bert.encoder.layer:
        layer.attention.self = Own()
    with pytest.raises((UnsupportedModelError, wordelim.retention.RetentionError)) as caught:
        wordelim.eliminate_(bert, KEEP_ALL)
    assert "attention" in str(caught.value) or "0 layers" in str(caught.value)
    assert bert.config._attn_implementation == "sdpa"


def test_an_encoder_that_looks_into_its_numbers_is_refused(bert):
    bert.bert.encoder.layer[0].output = Mixed(
        bert.bert.encoder.layer[0].output, lambda rows: rows if rows.sum() > 0 else -rows
    )
    refused(bert, "can't be traced")


def test_a_quantized_model_is_refused(bert):
    bert.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    refused(bert, "quantized already")


def test_gradient_checkpointing_is_refused_before_and_after(make_model, family, enable_checkpointing):
    model = make_model(family)
    if model.supports_gradient_checkpointing:
        enable_checkpointing(model)
        refused(model, "gradient checkpointing on.*gradient_checkpointing_disable")
        model.gradient_checkpointing_disable()
    wordelim.eliminate_(model, SOME)
    for enable in (model.gradient_checkpointing_enable, lambda: enable_checkpointing(model)):
        with pytest.raises(UnsupportedModelError, match="no effect on a compressed model"):
            enable()
    with pytest.raises(UnsupportedModelError, match="no effect on a compressed model"):
        copy.deepcopy(model).gradient_checkpointing_enable({"use_reentrant": False})


# --- what a compressed model can't answer ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["output_hidden_states", "output_attentions"])
def test_what_has_fewer_rows_in_each_layer_is_refused(make_model, shared, make_batch, logits, name):
    _, model = shared
    batch = make_batch(model, [9, 4])
    for run in (model, model.base_model):
        with pytest.raises(UnsupportedModelError, match=f"{name}=True .*restore_"):
            run(**batch, **{name: True})
    logits(model, {**batch, name: False})


def test_a_config_that_asks_for_hidden_states_later_is_refused(make_model, family, make_batch):
    model = wordelim.eliminate_(make_model(family), SOME)
    batch = make_batch(model, [9, 4])
    model.config.output_hidden_states = True
    with pytest.raises(UnsupportedModelError, match="output_hidden_states=True"):
        model(**batch)
    assert len(wordelim.restore_(model)(**batch).hidden_states) == LAYERS + 1


def test_a_config_that_asks_for_attentions_later_is_refused(make_model, family, make_batch):
    model = wordelim.eliminate_(make_model(family, attn_implementation="eager"), SOME)
    batch = make_batch(model, [9, 4])
    model.config._output_attentions = True  # what the property sets, once it has asked for eager attention
    with pytest.raises(UnsupportedModelError, match="output_attentions=True"):
        model(**batch)
    assert len(wordelim.restore_(model)(**batch).attentions) == LAYERS


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_an_attention_implementation_switched_later_is_refused(model, make_batch, logits, implementation):
    batch = make_batch(model, [9, 4])
    dense = logits(model, batch)
    expected = logits(wordelim.eliminate_(model, SOME), batch)
    model.set_attn_implementation(implementation)
    with pytest.raises(UnsupportedModelError, match=f"switched to '{implementation}'.*set_attn_implementation"):
        model(**batch)
    model.set_attn_implementation("wordelim")
    assert torch.equal(logits(model, batch), expected)
    model.set_attn_implementation(implementation)
    assert torch.equal(logits(wordelim.restore_(model), batch), dense)


def test_encoder_hidden_states_are_refused(make_model, make_batch):
    for family in ("bert", "roberta"):
        model = wordelim.eliminate_(make_model(family), SOME)
        with pytest.raises(UnsupportedModelError, match="takes no encoder_hidden_states"):
            model.base_model(**make_batch(model, [5]), encoder_hidden_states=torch.ones(1, 5, 32))


def test_a_dense_module_called_on_its_own_says_what_to_do(bert, make_batch):
    wordelim.eliminate_(bert, SOME)
    with pytest.raises(UnsupportedModelError, match=r"outside a rewritten graph.*restore_"):
        bert.bert.encoder.dense(torch.ones(1, 5, 32))


# --- what it still answers ---------------------------------------------------------------------------------------


def test_every_way_of_calling_a_model_still_works(model, make_batch):
    batch = make_batch(model, [9, 4])
    wordelim.eliminate_(model, SOME)
    with torch.no_grad():
        expected = model(**batch).logits
        assert torch.equal(model(**batch, return_dict=False)[0], expected)
        assert torch.equal(model(batch["input_ids"], batch["attention_mask"]).logits, expected)
        embedded = model.get_input_embeddings()(batch["input_ids"])
        positions = None
        if model.config.model_type == "roberta":  # which counts positions from the tokens that are no padding
            positions = (batch["attention_mask"].cumsum(1) + 1) * batch["attention_mask"] + 1 - batch["attention_mask"]
        without_ids = model(inputs_embeds=embedded, attention_mask=batch["attention_mask"], position_ids=positions)
        assert torch.equal(without_ids.logits, expected)
        base = model.base_model(**batch)
        assert base.last_hidden_state.shape == (2, 1, 32)
        assert type(base).__name__.startswith("BaseModelOutput")
        assert float(model(**batch, labels=torch.tensor([0, 2])).loss) == pytest.approx(
            float(nn.functional.cross_entropy(expected, torch.tensor([0, 2])))
        )
        assert model(**batch).hidden_states is None


def test_attention_of_a_copy_follows_its_own_config(bert, make_batch, logits):
    batch = make_batch(bert, [9, 4])
    dense = logits(bert, batch)
    wordelim.eliminate_(bert, SOME)
    other = wordelim.restore_(copy.deepcopy(bert))
    assert torch.equal(logits(other, batch), dense)
    assert bert.config._attn_implementation == "wordelim"
    bert(**batch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_in_another_dtype_is_served_in_it(make_model, family, make_batch, logits, dtype):
    model = make_model(family).to(dtype)
    batch = make_batch(model, [9, 4])
    dense = logits(model, batch)
    wordelim.eliminate_(model, KEEP_ALL)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    tolerance = {torch.bfloat16: 5e-2, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(logits(model, batch), dense, rtol=tolerance, atol=tolerance)
    wordelim.eliminate_(model, SOME)
    assert logits(model, batch).dtype == dtype


def test_models_that_shared_a_config_are_apart(make_model, make_batch, logits, tmp_path):
    first = make_model("bert")
    second = type(first)(first.config).eval()
    batch = make_batch(first, [9, 4])
    expected = logits(second, batch)
    wordelim.eliminate_(first, Retention.keep_all(3))
    assert torch.equal(logits(second, batch), expected)
    second.save_pretrained(tmp_path)
    assert torch.equal(logits(type(second).from_pretrained(tmp_path).eval(), batch), expected)
    wordelim.eliminate_(second, Retention.counts([3, 2, 1]))
    assert wordelim.retention_of(first) == Retention.keep_all(3)
    third = type(first)(first.config)
    with pytest.raises(UnsupportedModelError, match="made with the config of a compressed model"):
        wordelim.eliminate_(third, Retention.keep_all(3))
    with pytest.raises(UnsupportedModelError, match="its config is a compressed model's"):
        third(**batch)


def test_a_quantised_model_is_refused(make_model):
    model = torch.ao.quantization.quantize_dynamic(make_model("bert"), {nn.Linear})
    with pytest.raises(UnsupportedModelError, match="is quantized already: compress the model first"):
        wordelim.eliminate_(model, Retention.keep_all(3))
