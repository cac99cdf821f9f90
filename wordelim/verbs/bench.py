"""Measure a compressed model's latency and throughput against the dense model's."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from typing import Any, cast

import torch

from ..data.read import Data, read
from ..data.usable import Skipped
from ..errors import WordelimError
from ..evaluation.examples import Examples
from ..evaluation.speedups import speedups
from ..evaluation.timing import Mode, forward_of
from ..exporting.runtime import is_exported
from ..graph.card import OnACard
from ..graph.cost import Cost
from ..graph.splice import eliminate_
from ..retention import Retention
from ..system.machine import environment, has_fast_bf16, move, open_device
from ..system.printable import bare_name, first_line
from ..system.progress import Progress, expect
from .comparable import require_one_model
from .opened import Opened, open_model
from .settings import BenchSettings

__all__ = ["bench"]


def bench(
    base: str | os.PathLike[str],
    compressed: str | os.PathLike[str] | None = None,
    *,
    data: Data,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    skip_bad_rows: bool = False,
    device: str | torch.device | None = None,
    speed: float | None = None,
    progress: Progress = lambda stage, share: None,
    **settings: Any,
) -> dict[str, Any]:
    """Time a dense model and the one compressed from it on the same texts, in one run.

    Throughput is measured in batches and latency one text at a time, interleaved, each against the dense model under
    SDPA: in every dtype asked for, in eager mode, if asked for through ``torch.compile``, and on a card from CUDA
    graphs, both sides alike. What is measured, and against what, is said in
    :func:`wordelim.evaluation.speedups.speedups`. Where one of the two is an exported directory, both run on the CPU,
    each in its own precision, and the model that drops nothing is left out.

    Args:
        base: the dense model, a directory or a hub name; or an exported directory.
        compressed: the directory that was made from it. None: what the packed layout and the exact cut of the last
            layer alone give to ``base``, with nothing dropped and nothing trained. It may be an exported directory.
        data: texts such as the model meets in use: a path, a hub name, or a data set. Labels aren't needed, but where
            there are some they must be the model's.
        text, text_pair, label: names of the columns, where they aren't the usual ones; ``label`` may be several, of 0
            and 1 each, where a text may have several labels.
        delimiter, encoding: of data files, where they aren't the usual ones; see :func:`wordelim.data.read.read`.
        skip_bad_rows: leave out rows that can't be used, and list them in the report, instead of refusing them.
        device: where to compute; None for the accelerator that is there, else the processor.
        speed: one of those that ``compressed`` was made for; None for the one that its config names.
        settings: fields of :class:`wordelim.verbs.settings.BenchSettings`.

    Returns:
        The report, as plain data.

    Raises:
        AnswersError: a model answers with NaN or infinity to a text that it is timed on.
        WordelimError: a model, the data or a setting can't be used; the two models aren't one before and after.

    Example:
        >>> report = wordelim.bench("my-bert", "my-bert-fast", data="dev.csv", texts=8, rounds=1)
        >>> sorted(report["measurements"][0]["throughput"]["against"])
        ['dynamic', 'fixed', 'keep-all', 'unpadded']
    """
    chosen = BenchSettings(**settings)
    programs = is_exported(base) or (compressed is not None and is_exported(compressed))
    if programs and compressed is None:
        raise WordelimError(f"{base} is an exported program: name the compressed one to time it against.")
    place = torch.device("cpu") if programs else open_device(device)
    dense = open_model(base, "dense", "exported", device=place, dtype=torch.float32)
    fast, sides = None, {"dense": dense}
    if compressed is not None:
        fast = open_model(compressed, "compressed", "exported", device=place, dtype=torch.float32, speed=speed)
        require_one_model(dense, fast)
    if not programs:
        sides["keep-all"] = _keeping_all(dense, fast)
    if fast is not None:
        sides["compressed"] = fast
    skipped = Skipped() if skip_bad_rows else None
    examples = dense.pose(
        read(data, delimiter=delimiter, encoding=encoding, skipped=skipped),
        {"text": text, "text_pair": text_pair, "label": label},
        need_label=False,
        max_length=chosen.max_length,
        skipped=skipped,
    )
    cost = (fast or sides["keep-all"]).cost()
    measurements = _measured(sides, examples, cost, chosen, place, progress)
    return {
        "base": bare_name(base),
        "compressed": None if compressed is None else bare_name(compressed),
        "wordelim_bench": 1,
        "class": dense.head,
        "attention": None if programs else dense.config._attn_implementation,
        "retention": None if fast is None or fast.retention is None else fast.retention.told(),
        "last_layer_cut_to_first_token": cost.first_token,
        "data": {**examples.describe(), "lengths": examples.encoded.spread},
        "fixed_length": examples.width,
        "settings": asdict(chosen),
        "measurements": measurements,
        **environment(place),
    }


def _keeping_all(dense: Opened, fast: Opened | None) -> Opened:
    """The dense model rewritten as the compressed one is, with nothing dropped."""
    everything = Retention.keep_all(max(1, getattr(dense.config, "num_hidden_layers", 0)))
    if fast is not None and fast.retention is not None:
        everything = replace(fast.retention, keep=everything.keep, kind=everything.kind)
    return replace(dense, kind="compressed", model=eliminate_(copy.deepcopy(dense.model), everything))


def _measured(
    sides: Mapping[str, Opened],
    examples: Examples,
    cost: Cost,
    settings: BenchSettings,
    device: torch.device,
    progress: Progress,
) -> list[dict[str, Any]]:
    """What is measured of the sides, of which the last is judged, in each precision and mode."""
    *_, judged = sides.values()
    retention = judged.retention
    assert retention is not None
    parts = {"throughput": (settings.batch_size, settings.texts), "latency": (1, settings.latency_texts)}
    work = {
        part: examples.workload(batch_size=size, texts=texts, seed=settings.seed, device=device)
        for part, (size, texts) in parts.items()
        if texts
    }
    forms = _forms(sides, settings, device)
    programs = "keep-all" not in sides  # which are run as they were exported
    expect(progress, {f"{part}, {', '.join(form)}": float(parts[part][1]) for form in forms for part in work})
    measurements = []
    for dtype, mode in forms:
        compiled, measured = mode == "compiled", {}
        if not programs:
            for side in sides.values():
                move(side.model, getattr(torch, dtype))
        way = "eager" if programs else cast(Mode, mode)
        forwards = {name: forward_of(side.model, mode=way) for name, side in sides.items()}
        if mode == "graphed":  # the first batch of a size runs as it is, and the untimed round makes the graph
            for run, given in product(forwards.values(), work.values()):
                for batch in (*given.fixed, *given.dynamic, *given.unpadded):
                    run(batch)
        for part, given in work.items():
            tell = partial(progress, f"{part}, {dtype}, {mode}")
            tell(0.0)
            with _compiler_errors(compiled):
                measured[part] = speedups(forwards, given, cost, retention, rounds=settings.rounds, progress=tell)
        measurements.append({"dtype": dtype, "mode": mode, **measured})
    return measurements


def _forms(sides: Mapping[str, Opened], settings: BenchSettings, device: torch.device) -> list[tuple[str, str]]:
    """Precisions and modes: of models those asked for, of programs the one that each has."""
    both = sides.values()
    if any(side.kind == "exported" for side in both):
        return [(_against(side.precision for side in both), _against(side.runtime for side in both))]
    fast = ("float32", "bfloat16") if has_fast_bf16(device) else ("float32",)
    graphed = ("graphed",) if OnACard.is_card(device) else ()
    modes = ("eager", *(("compiled",) if settings.compiled else ()), *graphed)
    return [(dtype, mode) for dtype in settings.dtypes or fast for mode in modes]


def _against(sides: Iterable[str]) -> str:
    dense, fast = sides
    return dense if dense == fast else f"{fast} against {dense}"


@contextmanager
def _compiler_errors(compiled: bool) -> Iterator[None]:
    """Say what to do where torch.compile fails; it raises errors of many classes."""
    try:
        yield
    except Exception as error:
        if not compiled or isinstance(error, WordelimError):
            raise
        reason = first_line(error)
        raise WordelimError(
            f"torch.compile fails here ({reason}): leave the compiled measurement out, or see that a C++ compiler is "
            "there."
        ) from error
