"""Ray Serve: ``serve run wordelim.serving.ray:app directory=my-bert-fast``."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from ..errors import UnsupportedModelError, WordelimError
from .answers import Answers, Row, require_served
from .batching import Batching
from .requests import RequestError, parse_request

try:
    from ray import serve
    from starlette.requests import Request
    from starlette.responses import JSONResponse
except ImportError as error:
    raise WordelimError("Ray Serve isn't installed: pip install 'wordelim[ray]'.") from error

__all__ = ["Replica", "Settings", "app"]

_BUDGET = 2048


class Settings(BaseModel):
    """How a directory is served.

    Args:
        directory: compressed, or its hub name.
        max_tokens: of all texts of a batch, special ones included; at least as many as one text may have. None: 2048,
            or as many as one text may have, where that is more.
        wait: seconds for which a batch waits for more texts; without any, texts that come while a batch is computed
            make the next one.
        speed: one of those that the model was compressed for; None for the one that its config names.
        replicas: copies of the model, a process each.
        threads: of each copy, and the processors that Ray sets aside for it.
    """

    model_config = ConfigDict(extra="forbid")

    directory: str
    max_tokens: int | None = Field(default=None, ge=1)
    wait: float = Field(default=0.0, ge=0.0, le=10.0)
    speed: float | None = None
    replicas: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)


class Replica:
    """One copy of the model. It answers ``POST {"inputs": ...}``, and ``handle.answer.remote({"inputs": ...})``."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self._answers = self.load(settings)
        longest, budget = self._answers.longest or _BUDGET, settings.max_tokens
        if budget is not None and budget < longest:
            raise UnsupportedModelError(
                f"max_tokens is {budget}, but one text of {settings.directory} may have {longest} tokens: give at "
                "least as many, or none."
            )
        # Not Ray's own `serve.batch`, which closes a batch before the one ahead of it is computed: of one text, mostly.
        self._together = Batching(self._answers.answer, budget or max(_BUDGET, longest), settings.wait)

    def load(self, settings: Settings) -> Answers:
        """What answers."""
        return Answers.of(settings.directory, speed=settings.speed)

    async def __call__(self, request: Request) -> JSONResponse:
        """An answer for each text, or ``{"error": ...}`` with a status of 4xx."""
        try:
            if request.method != "POST":
                raise RequestError(f'{request.method} asks nothing: POST {{"inputs": "a text"}}.', status=405)
            return JSONResponse(await self.answer(await request.body()))
        except RequestError as error:
            return JSONResponse({"error": str(error)}, error.status)
        except WordelimError as error:
            return JSONResponse({"error": str(error)}, 500)

    async def answer(self, asked: bytes | Mapping[str, Any]) -> list[Any]:
        """An answer for each text of a request, as transformers' pipeline gives it; an embedding as a list of numbers.

        Raises:
            RequestError: the request can't be answered.
            AnswersError: the answer is NaN or infinity.
        """
        rows = await asyncio.to_thread(self._encode, asked)
        return await asyncio.gather(*map(self._together, rows))

    def _encode(self, asked: bytes | Mapping[str, Any]) -> list[Row]:
        request = parse_request(asked)
        options = {"truncate": request.truncate, "top_k": request.top_k}
        return [self._answers.encode(item, **options) for item in request.items]


def app(directory: str | os.PathLike[str] | Settings, **settings: Any) -> serve.Application:
    """The application that serves a compressed directory.

    Args:
        directory: where it is, or its hub name; or all settings.
        settings: the other fields of :class:`Settings`, as ``max_tokens=4096``.

    Raises:
        WordelimError: the directory can't be loaded, isn't compressed, or holds a head that isn't served.
    """
    chosen = directory if isinstance(directory, Settings) else Settings(directory=os.fspath(directory), **settings)
    require_served(chosen.directory, speed=chosen.speed)
    path = os.path.expanduser(chosen.directory)
    if os.path.isdir(path):  # which is looked for from elsewhere
        chosen = chosen.model_copy(update={"directory": os.path.abspath(path)})
    return deploy(chosen, Replica)


def deploy(settings: Settings, replica: type[Replica]) -> serve.Application:
    """An application of this class of replicas."""
    deployment = serve.deployment(
        name="wordelim",
        num_replicas=settings.replicas,
        max_ongoing_requests=256,
        ray_actor_options={"num_cpus": settings.threads},
    )
    return deployment(replica).bind(settings)


# Ray calls what builds an application with one argument, of the class that stands here.
app.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [inspect.Parameter("settings", inspect.Parameter.POSITIONAL_ONLY, annotation=Settings)]
)
