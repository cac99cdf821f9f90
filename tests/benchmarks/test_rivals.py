"""The rivals of elimination do what they are called by, and cost what they should, on both families."""

import copy
import json
import math
from types import SimpleNamespace

import datasets
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from wordelim import Retention, eliminate_
from wordelim.tasks import task_for
from wordelim.training.fit import Fit
from wordelim.training.teacher import Teacher

LAYERS = 4
STRENGTHS = {
    "elimination": (1.5, 3),
    "random": (1.5, 3),
    "first": (1.5, 3),
    "distilbert": (3, 1),
    "pkd": (3, 2),
    "head_prune": (0.25, 0.75),
    "lat": (1.5, 2),
    "ltp": (1.3, 2),
    "tome": (1.3, 2),
}


@pytest.fixture
def rivals(script):
    """Modules of the folder by name."""
    names = ("distilbert", "head_prune", "lat", "layers", "ltp", "packed", "rival", "tome", "driver")
    found = {name: script(f"rivals.{name}") for name in names}
    return SimpleNamespace(**found, all=script("rivals").RIVALS)


FAMILIES = ["bert", pytest.param("mpnet", marks=pytest.mark.long)]  # where it takes its time


@pytest.fixture(params=["bert", "mpnet"])
def dense(request, make_model):
    """A dense model of each of the two families."""
    return make_model(request.param, layers=LAYERS, labels=2).requires_grad_(False)


@pytest.fixture
def given(rivals, dense, make_tokenizer, texts):
    """What a rival is given: eight texts, a fraction of an epoch."""
    tokenizer = make_tokenizer(dense.config.model_type)
    rows = datasets.Dataset.from_dict({"text": texts, "label": [0, 1] * (len(texts) // 2)})
    task = task_for(type(dense).__name__, dense.config, tokenizer, rows)
    encoded = task.encode(rows, task.find_columns(rows)).dataset
    both = {"train": rows, "validation": rows}
    how = Fit(epochs=1, learning_rate=1e-4, batch_size=8)
    keeps = {1.5: [0.8, 0.6, 0.4, 0.0], 3: [0.5, 0.2, 0.1, 0.0]}
    return rivals.rival.Given(
        dense, task, both, dict.fromkeys(both, encoded), Teacher(dense, task), how, {}, keeps.__getitem__
    )


@pytest.fixture
def batch(dense, make_batch):
    return make_batch(dense, (20, 7, 13, 1))


def test_heads_that_are_removed_answer_as_heads_that_are_masked(rivals, dense, batch, logits):
    kept = [[1, 3], [0, 1, 2, 3], [2], [0, 3]]
    removed = rivals.all["head_prune"].build(dense, {"heads": kept})
    assert sum(p.numel() for p in removed.parameters()) < sum(p.numel() for p in dense.parameters())
    masked = copy.deepcopy(dense)
    for layer, heads in zip(rivals.layers.layers_of(masked), kept, strict=True):
        attention = rivals.layers.attention_of(layer)
        mask = torch.zeros(attention.heads).index_fill(0, torch.tensor(heads), 1.0).repeat_interleave(attention.size)
        getattr(attention.place, attention.out).weight.mul_(mask)
    torch.testing.assert_close(logits(removed, batch), logits(masked, batch), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(removed, batch), logits(dense, batch), atol=1e-3)


def test_removed_heads_leave_a_bert_that_can_be_cut(rivals, dense, batch, logits):
    if dense.config.model_type != "bert":
        pytest.skip("MPNet's scores by position want all heads")
    removed = rivals.all["head_prune"].build(dense, {"heads": [[1, 3], [0, 1, 2, 3], [2], [0, 3]]})
    cut = eliminate_(copy.deepcopy(removed), Retention.keep_all(LAYERS))
    torch.testing.assert_close(logits(cut, batch), logits(removed, batch), atol=1e-5, rtol=1e-5)


def test_heads_without_a_say_matter_least(rivals, given):
    silent = copy.deepcopy(given.dense)
    attention = rivals.layers.attention_of(rivals.layers.layers_of(silent)[1])
    getattr(attention.place, attention.out).weight[:, 2 * attention.size : 3 * attention.size] = 0.0
    model = rivals.all["head_prune"].build(silent, {"heads": [[0, 1, 2, 3]] * LAYERS})
    found = rivals.head_prune.importance(model, given.task, given.encoded["train"])
    assert [len(heads) for heads in found] == [4] * LAYERS
    assert float(found[1][2]) == 0.0
    assert all(float(heads.norm()) == pytest.approx(1.0, abs=1e-4) for heads in found)


@pytest.mark.parametrize(
    ("rival", "shape"),
    [
        ("tome", {"share": 0.0}),
        ("ltp", {"thresholds": [-math.inf] * (LAYERS - 1), "length": 12.0}),
        ("lat", {"keep": [1.0] * LAYERS}),
    ],
)
def test_without_strength_a_rival_is_the_dense_model(rivals, dense, batch, logits, rival, shape):
    torch.testing.assert_close(
        logits(rivals.all[rival].build(dense, shape), batch), logits(dense, batch), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("rival", "shape"),
    [("tome", {"share": 0.2}), ("ltp", {"thresholds": [0.6, 0.8, 0.9], "length": 12.0})],
)
def test_an_answer_depends_on_its_text_alone(rivals, dense, make_batch, logits, rival, shape):
    model = rivals.all[rival].build(dense, shape)
    together = make_batch(dense, (20, 7, 13))
    alone = {name: values[:1] for name, values in make_batch(dense, (20,)).items()}
    torch.testing.assert_close(logits(model, together)[:1], logits(model, alone), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(model, alone), logits(dense, alone), atol=1e-3)


def test_soft_thresholds_come_near_to_hard_ones(rivals, dense, batch, logits, monkeypatch):
    model = rivals.all["ltp"].build(dense, {"thresholds": [0.6, 0.8, 0.9], "length": 12.0})
    hard = logits(model, batch)
    monkeypatch.setattr(rivals.ltp, "_TEMPERATURE", 1e-6)
    model.base_model.encoder.soft = True
    torch.testing.assert_close(logits(model, batch), hard, atol=1e-3, rtol=1e-3)


def test_merging_takes_means_and_leaves_the_first_token_alone(rivals):
    x = torch.tensor([[[9.0], [1.0], [3.0], [5.0], [7.0]]])
    keys = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [0.5, 0.5]]])
    real = torch.ones(1, 5, dtype=torch.bool)
    merged, sizes, stays = rivals.tome.merge(x, keys, torch.tensor([[1.0, 1, 2, 1, 1]]), real, torch.tensor([1]))
    assert stays.tolist() == [[True, True, False, True, True]]
    assert merged[0, 3].item() == pytest.approx((2 * 3 + 5) / 3)
    assert sizes[0, 3].item() == 3
    _, _, stays = rivals.tome.merge(x, keys, torch.ones(1, 5), real, torch.tensor([5]))
    assert stays.tolist() == [[True, True, False, True, False]]


@pytest.mark.parametrize(
    ("layers", "taken", "found"),
    [(6, 3, [1, 3, 5]), (6, 4, [1, 2, 4, 5]), (6, 2, [2, 5]), (12, 4, [2, 5, 8, 11])],
)
def test_a_student_has_every_nth_layer(rivals, layers, taken, found):
    assert rivals.distilbert.every(layers, taken) == found


@pytest.mark.parametrize("taken", [0, 6, 2.5])
def test_a_student_that_cannot_be_made_is_refused(rivals, taken):
    with pytest.raises(SystemExit, match=f"A student of {taken:g} of 6 layers can't be made: give 1 to 5 layers"):
        rivals.distilbert.every(6, taken)


def test_a_student_begins_with_the_weights_of_its_layers(rivals, dense, batch, logits):
    student = rivals.all["pkd"].build(dense, {"layers": [1, 3]})
    own, theirs = (rivals.layers.layers_of(model) for model in (student, dense))
    for mine, layer in zip(own, (theirs[1], theirs[3]), strict=True):
        for name, values in mine.state_dict().items():
            torch.testing.assert_close(values, layer.state_dict()[name], msg=name)
    assert logits(student, batch).isfinite().all()
    assert student.config.num_hidden_layers == 2
    assert len(theirs) == dense.config.num_hidden_layers == LAYERS


@pytest.mark.slow
@pytest.mark.parametrize("dense", FAMILIES, indirect=True)
@pytest.mark.parametrize("name", STRENGTHS)
def test_a_rival_trains_is_as_fast_as_asked_and_can_be_built_again(rivals, given, name, monkeypatch, logits, batch):
    monkeypatch.setattr(rivals.lat, "_TRIES", 6)
    rival, before = rivals.all[name], copy.deepcopy(given.dense.state_dict())
    texts, ratios = given.encoded["validation"], []
    for strength in STRENGTHS[name]:
        model, shape = rival.train(given, strength)
        ratios.append(rivals.rival.flops_ratio(given.dense, model, texts, given.task))
        again = rival.build(given.dense, json.loads(json.dumps(shape))).eval()
        if shape.get("significance") != "linear":  # its maps are in no report
            again.load_state_dict(model.state_dict())
            torch.testing.assert_close(logits(again, batch), logits(model.eval(), batch), atol=1e-5, rtol=1e-5)
    assert 1 <= ratios[0] < ratios[1], ratios
    if rival.strength == "FLOPs ratio" and name not in ("random", "first"):
        assert ratios[0] == pytest.approx(STRENGTHS[name][0], rel=0.2)
    changed = [key for key, values in given.dense.state_dict().items() if not torch.equal(values, before[key])]
    assert not changed


def test_flops_that_are_counted_are_those_of_the_projects_own_reports(rivals, given):
    texts, dense = given.encoded["train"], given.dense
    assert rivals.rival.flops_ratio(dense, dense, texts, given.task) == pytest.approx(1.0, rel=0.03)
    cut = eliminate_(copy.deepcopy(dense), Retention.keep_all(LAYERS))
    packed = rivals.all["tome"].build(dense, {"share": 0.0})
    ratios = [rivals.rival.flops_ratio(dense, model, texts, given.task) for model in (cut, packed)]
    assert ratios[1] == pytest.approx(ratios[0], rel=0.1)


def test_lengths_are_fitted_to_a_ratio_and_evolve_to_what_loses_least(rivals, given):
    flops, lengths = rivals.rival.dense_flops(given.dense), given.encoded["train"]["length"]

    def fit(keep):
        return rivals.lat.fitted(keep, 2.0, flops, lengths)

    # Rows that leave the first layer are what is wanted most.
    found = rivals.lat.evolve(lambda keep: -keep[0], fit, LAYERS, seed=0)
    assert flops.ratio(lengths, Retention.fractions(found)) == pytest.approx(2.0, rel=0.1)
    assert found[0] > fit((0.8, 0.64, 0.512, 0.41))[0]


@pytest.fixture
def task_files(tmp_path, given, make_tokenizer):
    """A folder of texts, a tiny encoder, and where cache and results go."""
    given.dense.save_pretrained(tmp_path / "tiny")
    given.task.tokenizer.save_pretrained(tmp_path / "tiny")
    for name in ("train", "dev"):
        rows = datasets.concatenate_datasets([given.sets["train"]] * 4).rename_column("text", "sentence")
        rows.to_json(tmp_path / f"{name}.jsonl")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("dense", FAMILIES, indirect=True)
def test_the_driver_leaves_a_result_goes_on_and_times_anew(rivals, task_files, capsys):
    folders = [f"--{name}={task_files / place}" for name, place in (("cache", "cache"), ("results", "out"))]
    call = ["sst2", f"--model={task_files / 'tiny'}", f"--data={task_files}", *folders, "--epochs=1", "--rounds=1"]
    student = [*call, "--rival=distilbert", "--strength=2", f"--save={task_files / 'student'}"]
    rivals.driver.main("", student)
    (place,) = (task_files / "out").iterdir()
    assert place.name == "rival-sst2-tiny-distilbert-2-epochs1-seed0.json"
    result = json.loads(place.read_text())
    assert result["shape"] == {"layers": [1, 3]}
    assert result["test"]["flops_ratio"] == pytest.approx(2, rel=0.05)
    assert result["cut"]["flops_ratio"] > result["test"]["flops_ratio"]
    assert str(task_files) not in place.read_text()
    assert AutoModelForSequenceClassification.from_pretrained(task_files / "student").config.num_hidden_layers == 2
    rivals.driver.main("", student)
    assert "is there already: --again makes it anew" in capsys.readouterr().out
    for weights in (task_files / "cache").glob("*.safetensors"):
        weights.unlink()
    rivals.driver.main("", [*student, "--time-only"])
    again = json.loads(place.read_text())
    assert {**again, "speed": 0, "cut": 0} == {**result, "speed": 0, "cut": 0}
    with pytest.raises(SystemExit, match="run --rival elimination --strength 2 first"):
        rivals.driver.main("", [*call, "--rival=first", "--strength=2"])
