"""``wordelim explain``."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from wordelim.errors import DataError

from .console import print_report
from .options import FileForm
from .progress import progress
from .run import Config, Debug, Json, errors, list_skipped, print_json

__all__ = ["command"]


def command(
    model_dir: Annotated[str, typer.Argument(help="Compressed model: a directory.", metavar="COMPRESSED")],
    text: Annotated[str | None, typer.Argument(help="Text to follow through the model.")] = None,
    pair: Annotated[str | None, typer.Option(help="Second text, where the model takes pairs.")] = None,
    compare: Annotated[str | None, typer.Option(help="Another text to show beside it (with the same --pair).")] = None,
    audit: Annotated[
        str | None, typer.Option(help="Instead of a text: a data set, to count which words go early and which late.")
    ] = None,
    watch: Annotated[
        str | None, typer.Option(help="With --audit: words to count by themselves, comma-separated; else negations.")
    ] = None,
    limit: Annotated[int, typer.Option(help="With --audit: most texts to follow.", min=1)] = 500,
    text_column: Annotated[str | None, typer.Option(help="With --audit: column of the text.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="With --audit: column of the second text.")] = None,
    *,
    file: FileForm,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file too.")] = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Show which words of a text survive in a compressed model, layer by layer.

    Example: wordelim explain my-bert-fast "The film is not good." --html survival.html
    """
    if (text is None) == (audit is None):
        raise typer.BadParameter("give a text, or a data set with --audit.", param_hint="'TEXT'")
    from wordelim.report import survival
    from wordelim.system.outputs import refuse_files

    refuse_files({"--html": html}, {"model": model_dir, "data": audit, "file of --config": config})
    if audit is not None:
        columns = {"text": text_column, "text_pair": pair_column}
        found = _audit(model_dir, audit, watch, limit, {**columns, **file})
        print_json(found) if as_json else print_report(survival.audited(found))
        list_skipped(found)
        _write(html, lambda: survival.render_audit(found, model=Path(model_dir).name, source=Path(audit).name))
        return
    from wordelim.verbs.explain import explain

    model, tokenizer = _open(model_dir)
    assert text is not None
    first = explain(model, tokenizer, text, pair)
    second = None if compare is None else explain(model, tokenizer, compare, pair)
    if as_json:
        print_json(first.to_dict() if second is None else {"first": first.to_dict(), "second": second.to_dict()})
    else:
        both = [] if second is None else [*survival.brief(second), *survival.shared(first, second)]
        print_report([*survival.brief(first), *both])
    _write(html, lambda: survival.render_survival(first, second))


def _open(model_dir: str) -> tuple[Any, Any]:
    from wordelim.verbs.opened import open_model

    opened = open_model(model_dir, "compressed", dtype="float32")
    return opened.model, opened.tokenizer


def _audit(model_dir: str, data: str, watch: str | None, limit: int, file: dict[str, Any]) -> dict[str, Any]:
    from wordelim.verbs.audit import NEGATIONS, audit

    words = NEGATIONS if watch is None else {word.strip().casefold() for word in watch.split(",")}
    model, tokenizer = _open(model_dir)
    with progress() as show:
        try:
            return audit(model, tokenizer, data, watch=words, limit=limit, progress=show, **file)
        except DataError as error:  # whose options are called otherwise here, where --text is taken
            said = str(error).replace("--text-pair", "--pair-column")
            raise DataError(re.sub(r"--text\b(?!-)", "--text-column", said)) from error


def _write(path: Path | None, render: Any) -> None:
    if path is not None:
        from wordelim.system.files import write_whole

        errors.print(f"Written: {write_whole(render(), path)}")
