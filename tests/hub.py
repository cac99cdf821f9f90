"""A hub that is a folder."""

from pathlib import Path
from types import SimpleNamespace

__all__ = ["Hub"]


class Hub:
    """Stands for ``HfApi``: repositories are directories."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, []

    def create_repo(self, name, **options):
        self.made.append((name, options))
        (self.folder / name).mkdir(parents=True, exist_ok=True)

    def create_commit(self, name, operations, **options):
        for operation in operations:
            content = operation.path_or_fileobj
            data = content if isinstance(content, bytes) else Path(content).read_bytes()
            place = self.folder / name / operation.path_in_repo
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)
        return SimpleNamespace(commit_url=f"https://huggingface.co/{name}/commit/1")
