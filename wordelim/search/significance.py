"""Learn, from a dense model, which word vectors matter to its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import datasets
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from ..elimination.extract import HardExtract
from ..elimination.rows import gather
from ..elimination.significance import to_text
from ..elimination.soft_extract import SoftExtract, SoftRetention
from ..errors import AnswersError
from ..graph.cost import Flops
from ..graph.soft import soften_
from ..graph.splice import eliminate_, eliminating_encoder, restore_
from ..graph.support import is_marked
from ..retention import Retention
from ..system.machine import has_fast_bf16
from ..system.memory import give_back_memory
from ..system.progress import tokens
from ..tasks import Task, ask
from ..training.distillation import TRAINED

__all__ = ["RANKING", "linear_maps", "may_rank", "ranking_stages"]

RANKING = "search: ranking words"
"""The stage of :func:`linear_maps`."""

_TEXTS = 32  # of a step
_TOKENS = 4096  # that gradients are made of at once
_ROWS = 128  # of a text that pairs are made of
_PASSES = 20  # over the word vectors of the sample
_PAIRS = 64  # of a text and step
_RATE, _DECAY = 0.02, 0.1
_CONSTANT = 1e-5  # of the largest spread: what a number varies by that says nothing


def may_rank(task: Task, cost: Flops) -> bool:
    """Whether linear maps may decide which word vectors stay: the head reads the first token, or answers for each."""
    return (cost.first_token and cost.layers > 1) or task.kind == "tokens"


def ranking_stages(lengths: Sequence[int], texts: int) -> dict[str, float]:
    """The stage of :func:`linear_maps`, and what it takes on so many texts, in tokens through the dense encoder."""
    return {RANKING: tokens(lengths, texts) * TRAINED}


def linear_maps(
    model: PreTrainedModel,
    task: Task,
    sample: datasets.Dataset,
    template: Retention,
    *,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[str, ...]:
    """Linear maps of value vectors that rank word vectors as the answer would miss them, one a layer.

    Where the head reads the first token, what the answer would miss is the gradient of the dense model's answer with
    respect to the weight that a word vector has, from a layer on, in the attention of the layers above. Where each
    token is to answer, those whose answers are rare are missed most. Each layer's map is trained to rank the word
    vectors of a text like this, pair by pair (Burges et al. 2005, "Learning to rank using gradient descent").

    Args:
        model: dense. It is dense again when this returns.
        task: what its head is asked.
        sample: encoded texts; no labels needed.
        template: what is protected, whatever is kept.
        seed: of the pairs.

    Returns:
        As a retention has them; "" for a last layer that keeps the first token alone.

    Raises:
        AnswersError: the model answers with NaN or infinity.
    """
    template = replace(template, kind="fraction", keep=(1.0,) * len(template.keep))
    modes = [(module, module.training) for module in model.modules()]
    required = [parameter.requires_grad for parameter in model.parameters()]
    try:
        if task.kind == "tokens":
            eliminate_(model, template)
            noted: _Noted = _Rare(model)
        else:
            noted = _Gradients(model, soften_(model, template=template))
        model.eval().requires_grad_(False)
        seen: list[list[Seen]] = []
        generator, maps = torch.Generator().manual_seed(seed), []
        starts = range(0, len(sample), _TEXTS)
        for done, start in enumerate(starts):
            batch = task.collate([sample[row] for row in range(start, min(start + _TEXTS, len(sample)))])
            seen.append([layer.few(generator) for layer in noted.run(task, batch)])
            give_back_memory()
            progress((done + 1) / len(starts) / 2)
        for layer in zip(*noted.ready(seen), strict=True):
            maps.append(to_text(_ranking(layer, generator)))
            progress((1 + len(maps) / len(seen[0])) / 2)
    finally:
        if is_marked(model.config):
            restore_(model)
        for module, mode in modes:
            module.training = mode
        for parameter, wanted in zip(model.parameters(), required, strict=True):
            parameter.requires_grad_(wanted)
    return (*maps, *[""] * (len(template.keep) - len(maps)))


class Seen(NamedTuple):
    """A batch at a layer.

    Args:
        vectors: the value vectors, [texts, tokens, width], as the model computes them.
        missed: how much each is missed, [texts, tokens] fp32; -1 for padding. Of each answer, [texts, tokens, answers],
            where that isn't known yet.
    """

    vectors: Tensor
    missed: Tensor

    def few(self, generator: torch.Generator) -> Seen:
        """The same of some rows of each text, drawn at random, where there are many."""
        if self.vectors.shape[1] <= _ROWS:
            return self
        real = (self.missed if self.missed.dim() == 2 else self.missed[..., 0]) >= 0
        drawn = torch.rand(real.shape, generator=generator).to(real.device).masked_fill(~real, -1.0)
        rows = drawn.topk(_ROWS, 1).indices
        return Seen(gather(self.vectors, rows), gather(self.missed, rows))


class _Noted:
    """Runs a model that drops nothing, and notes what its layers' extractions are given.

    Args:
        model: compressed or softened; padded from here on.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.values: list[Tensor] = []
        encoder = eliminating_encoder(model)
        encoder.layout = "padded"
        for extract in encoder.children():
            if isinstance(extract, (HardExtract, SoftExtract)):
                extract.register_forward_pre_hook(lambda module, args: self.values.append(args[2].detach()))

    def ask(self, task: Task, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The logits, fp32, and which tokens are real, [texts, tokens]."""
        self.values.clear()
        known = {name: value.to(self.model.device) for name, value in batch.items() if name not in task.targets}
        logits = task.logits(ask(self.model, known, task.config), known).float()
        real = known["attention_mask"].flatten(0, -2).bool()
        if not bool((logits[real] if logits.dim() == 3 else logits).isfinite().all()):
            raise AnswersError("The dense model", "answers with NaN or infinity to a text that words are ranked on")
        return logits, real

    def run(self, task: Task, batch: dict[str, Tensor]) -> list[Seen]:
        """What is seen of a batch, by layer."""
        raise NotImplementedError

    def ready(self, seen: list[list[Seen]]) -> list[list[Seen]]:
        """The same once all batches are known."""
        return seen

    def _vectors(self) -> list[Tensor]:
        return [value.transpose(1, 2).flatten(2) for value in self.values]


class _Gradients(_Noted):
    """For heads that read the first token.

    Args:
        retention: of the softened model.
    """

    def __init__(self, model: PreTrainedModel, retention: SoftRetention) -> None:
        super().__init__(model)
        self.factors: list[Tensor] = []
        retention.factor = self._factor  # type: ignore[method-assign]

    def _factor(self, layer: int, rank: Tensor, lengths: Tensor, protected: Tensor | None = None) -> Tensor:
        self.factors.append(torch.ones(rank.shape, device=rank.device, requires_grad=True))
        return self.factors[-1]

    def run(self, task: Task, batch: dict[str, Tensor]) -> list[Seen]:
        ids = batch["input_ids"]
        texts = max(1, _TOKENS // ids[0].numel())
        parts = [
            self._run(task, {name: values[start : start + texts] for name, values in batch.items()})
            for start in range(0, len(ids), texts)
        ]
        return [Seen(*map(torch.cat, zip(*layer, strict=True))) for layer in zip(*parts, strict=True)]

    def _run(self, task: Task, batch: dict[str, Tensor]) -> list[Seen]:
        self.factors.clear()
        device = self.model.device
        with torch.enable_grad(), torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bf16(device)):
            said, real = self.ask(task, batch)
            ahead = said.amax(-1) - said.mean(-1) if task.kind == "single_label_classification" else said.abs().sum(-1)
            grads = torch.autograd.grad(ahead.sum(), self.factors)
        missed = [grad.abs().masked_fill(~real, -1.0) for grad in grads]
        return [Seen(*pair) for pair in zip(self._vectors(), missed, strict=True)]


class _Rare(_Noted):
    """For heads that answer for every token: an answer is missed as it surprises, in bits over what is usual."""

    @torch.no_grad()
    def run(self, task: Task, batch: dict[str, Tensor]) -> list[Seen]:
        said, real = self.ask(task, batch)
        answers = said.softmax(-1).masked_fill(~real[..., None], -1.0)
        return [Seen(vectors, answers) for vectors in self._vectors()]

    def ready(self, seen: list[list[Seen]]) -> list[list[Seen]]:
        answers = torch.cat([first.missed[first.missed[..., 0] >= 0] for first, *_ in seen])
        surprise = -answers.mean(0).clamp_min(1e-6).log()

        def missed(answers: Tensor) -> Tensor:
            return torch.where(answers[..., 0] >= 0, answers @ surprise, -1.0)

        return [[Seen(one.vectors, missed(one.missed)) for one in batch] for batch in seen]


def _ranking(seen: Sequence[Seen], generator: torch.Generator) -> Tensor:
    """The map that ranks word vectors as they are missed, trained on pairs of each text."""
    seen = [Seen(vectors.float(), missed) for vectors, missed in seen]
    rows = torch.cat([vectors[missed >= 0] for vectors, missed in seen])
    spread = rows.std(0, correction=0)
    varies = spread > _CONSTANT * spread.amax()
    centre, scale = rows.mean(0), torch.where(varies, spread, torch.inf)
    weight = torch.zeros(rows.shape[1], requires_grad=True, device=rows.device)
    optimizer = torch.optim.AdamW([weight], lr=_RATE, weight_decay=_DECAY)
    for step in range(_PASSES * len(seen)):
        vectors, missed = seen[step % len(seen)]
        one, other = (torch.randint(missed.shape[1], (len(missed), _PAIRS), generator=generator) for _ in range(2))
        one, other = one.to(missed.device), other.to(missed.device)
        with torch.enable_grad():
            scores = ((vectors - centre) / scale) @ weight
            first, second = missed.gather(1, one), missed.gather(1, other)
            real = (first >= 0) & (second >= 0)
            apart = (scores.gather(1, one) - scores.gather(1, other)) * (first - second).sign()
            loss = (functional.softplus(-apart) * real).sum() / real.sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight / scale
