"""Put a compressed model on a hub."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ..checkpoint.directory import REPORT_FILE, is_compressed
from ..errors import CheckpointError
from ..graph.protect import bare_rules
from ..report.card import HERE, source_name
from ..report.html import READABLE, readable
from ..system.inputs import UnreadableError, read_json
from ..system.printable import first_line, json_text

__all__ = ["push"]


def push(
    directory: str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    texts: bool = False,
    api: HfApi | None = None,
) -> str:
    """Upload a compressed directory to a model repository, in one commit; the repository is made if it isn't there.

    Args:
        directory: what ``compress`` wrote.
        repository: such as ``"me/my-bert-fast"``.
        private: whether a new repository is private.
        texts: upload the examples that stand in the report too; else they are taken out, with every local path.
        api: of the hub; None for the one that huggingface_hub is set up for.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the directory isn't a compressed model, or the hub refuses.

    Example:
        >>> wordelim.push("my-bert-fast", "me/my-bert-fast")
        'https://huggingface.co/me/my-bert-fast/commit/...'
    """
    if not is_compressed(directory):
        raise CheckpointError(f"{directory} holds no compressed model: compress one first.")
    folder = Path(directory).expanduser()
    files: dict[str, bytes | str] = {
        path.relative_to(folder).as_posix(): str(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    card, report = folder / "README.md", folder / REPORT_FILE
    if card.is_file():
        files["README.md"] = card.read_text(encoding="utf-8").replace(f'"{HERE}"', f'"{repository}"').encode()
    for name in READABLE:
        files.pop(name, None)
    if report.is_file():
        public = _public(_read(report), texts=texts)
        files[REPORT_FILE] = (json_text(public) + "\n").encode()
        name, page = readable(public)
        files[name] = page.encode()
    hub = api or HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True, repo_type="model")
        done = hub.create_commit(
            repository,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message="Add a model compressed with wordelim",
            repo_type="model",
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = first_line(error)
        raise CheckpointError(
            f"{directory} can't be pushed to {repository!r} ({reason}): check the name, the connection, and that you "
            "are logged in (hf auth login)."
        ) from error
    return str(done.commit_url)


def _read(path: Path) -> dict[str, Any]:
    try:
        report = read_json(path)
    except UnreadableError as error:
        raise CheckpointError(f"{path} is damaged (it {error}): compress again, or remove it.") from error
    if not isinstance(report, dict):
        raise CheckpointError(f"{path} is damaged (it holds no JSON object): compress again, or remove it.")
    return report


def _public(report: Mapping[str, Any], *, texts: bool) -> dict[str, Any]:
    """A report without where things stood on the machine that made it and, unless ``texts``, without examples."""
    public = copy.deepcopy(dict(report))
    public["model"] = source_name(report)
    settings = public.get("settings")
    if isinstance(settings, dict) and settings.get("protect"):
        settings["protect"] = bare_rules(settings["protect"])
    for part in public.values():
        if isinstance(part, dict) and not texts:
            part.pop("worst_flips", None)
    for data in public.get("data", {}).values():
        if isinstance(data, dict) and "skipped" in data and not texts:
            data["skipped"].pop("rows", None)  # a reason quotes what it is about
    return public
