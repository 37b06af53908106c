"""Snapshots of Hugging Face Hub repositories, downloaded once into the shared Hub cache.

One request with a timeout looks up the current commit. Without a response, the cached copy is used.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.data.catalog import Repository
from diffcls.support.errors import DataError
from diffcls.support.hub import (
    REQUEST_TIMEOUT_SECONDS,
    ask_hub,
    busy_error,
    busy_status,
    cached_commit,
    repository_cache,
)


@dataclass(frozen=True)
class Snapshot:
    """Snapshot of a repository: one of its commits.

    Args:
        repository: repository on the Hub.
        commit: hash of the commit.
        files: paths of the files: all of them, or those in the cache when offline.
        offline: whether the Hub cannot be reached.
    """

    repository: Repository
    commit: str
    files: tuple[str, ...]
    offline: bool


def find_snapshot(repository: Repository) -> Snapshot:
    """The commit of the repository's revision, from the Hub or, if unreachable, from the cache.

    Raises:
        DataError: if the id is invalid, the repository or revision does not exist, access is
            denied, or the Hub is unreachable and the repository is not in the cache.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository.id)
    except HFValidationError as error:
        raise DataError(
            "--dataset hf:ID: invalid repository id", given=repository.id, allowed="owner/name"
        ) from error
    info = _request_info(repository)
    if info is not None:
        files = sorted((str(file.rfilename) for file in info.siblings or ()), key=_natural)
        return Snapshot(repository, str(info.sha), tuple(files), offline=False)
    folder = repository_cache("datasets", repository.id)
    commit = cached_commit(folder, _revision(repository))
    if commit is None:
        raise _unreachable(repository, folder)
    base = folder / "snapshots" / commit
    paths = (path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
    return Snapshot(repository, commit, tuple(sorted(paths, key=_natural)), offline=True)


def _request_info(repository: Repository) -> Any | None:
    """The Hub's information on the repository; None if the Hub cannot be reached.

    Raises:
        DataError: if the repository or revision does not exist, or access is denied.
    """
    from huggingface_hub import HfApi

    def ask() -> Any:
        revision = _revision(repository)
        return HfApi().dataset_info(
            repository.id, revision=revision, timeout=REQUEST_TIMEOUT_SECONDS
        )

    folder = repository_cache("datasets", repository.id)
    return ask_hub(
        ask,
        lambda error: _refused(repository, error),
        lambda: cached_commit(folder, _revision(repository)) is not None,
    )


def _refused(repository: Repository, error: Exception) -> DataError | None:
    """The error for a repository that is missing or denied; None for any other exception."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/datasets/{repository.id}"
    if isinstance(error, errors.GatedRepoError):
        return DataError(
            "--dataset: the repository on the Hub is gated",
            given=repository.id,
            todo=f"accept its terms at {page}, log in with `hf auth login`, or give --data-root",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError(
            f"--dataset: revision of {repository.id} not found",
            given=repository.revision,
            todo=f"choose a branch, tag or commit listed at {page}",
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.DisabledRepoError):
        return DataError(
            "--dataset: repository not found on the Hub",
            given=repository.id,
            todo=f"check {page}; for a private repository, log in with `hf auth login`",
        )
    return None


def _revision(repository: Repository) -> str:
    return repository.revision or "main"


def _unreachable(repository: Repository, folder: Path) -> DataError:
    at = f" --revision {repository.revision}" if repository.revision else ""
    return DataError(
        "the Hub cannot be reached, and this data set is not in the cache",
        given=repository.id,
        allowed=f"a copy in {folder}",
        todo=f"run `hf download --repo-type dataset {repository.id}{at}` with a network connection "
        "and set HF_HOME to its cache; or give --data-root DIR (the original or torchvision's "
        "layout, one folder per class, or parquet files); or --dataset folder:PATH or parquet:PATH",
    )


def _natural(path: str) -> list[tuple[int, str]]:
    """Key of natural sorting: 10.tar after 2.tar."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def fetch(snapshot: Snapshot, files: Sequence[str] | None) -> Path:
    """Download files of a snapshot into the cache, unless they are there.

    Args:
        snapshot: snapshot of a repository.
        files: paths in the repository; None for all.

    Returns:
        The folder of the snapshot.

    Raises:
        DataError: if access is denied, the network fails, or the Hub is unreachable and a file is
            not in the cache.
    """
    from huggingface_hub import snapshot_download

    repository = snapshot.repository
    cached = repository_cache("datasets", repository.id) / "snapshots" / snapshot.commit
    if files is not None and all((cached / path).is_file() for path in files):
        return cached
    patterns = None if files is None else [glob.escape(path) for path in files]
    try:
        folder = snapshot_download(
            repository.id,
            repo_type="dataset",
            revision=_revision(repository),  # by name, so that the cache knows its commit
            allow_patterns=patterns,
            local_files_only=snapshot.offline,
        )
    except Exception as error:  # network libraries raise exceptions of many types
        busy = busy_status(error)
        if busy is not None:
            raise busy_error(busy) from error
        raise _refused(repository, error) or DataError(
            f"cannot download all files ({type(error).__name__})",
            given=repository.id,
            todo="rerun the same command with a network connection to resume"
            if snapshot.offline
            else "rerun the same command to resume",
        ) from error
    if Path(folder).name != snapshot.commit:
        raise DataError(
            "the data set on the Hub changed during the download",
            given=f"{repository.id}, {snapshot.commit} became {Path(folder).name}",
            todo="rerun the same command",
        )
    return Path(folder)
