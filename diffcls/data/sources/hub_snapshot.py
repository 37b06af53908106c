"""Snapshots of Hugging Face Hub repositories, downloaded once into the shared Hub cache.

A single request with a timeout finds the current commit; without a response the cached copy is
used.
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
from diffcls.support.hub import SECONDS, ask_hub, cached_commit, repository_cache

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository.

    Args:
        repository: whose.
        commit: hash of the commit.
        files: paths of the files: all of them, or those in the cache when offline.
        offline: whether the Hub is out of reach.
    """

    repository: Repository
    commit: str
    files: tuple[str, ...]
    offline: bool


def find_snapshot(repository: Repository) -> Snapshot:
    """The commit that is meant: by the Hub's word, or the cache's where the Hub is out of reach.

    Raises:
        DataError: for an id that is none, a repository or revision that does not exist, and for one
            that is neither in reach nor in the cache.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository.id)
    except HFValidationError as error:
        raise DataError(
            "no id of a repository", given=repository.id, allowed="owner/name"
        ) from error
    info = _ask(repository)
    if info is not None:
        files = sorted((str(file.rfilename) for file in info.siblings or ()), key=_natural)
        return Snapshot(repository, str(info.sha), tuple(files), offline=False)
    folder = repository_cache("datasets", repository.id)
    commit = cached_commit(folder, _revision(repository))
    if commit is None:
        raise _out_of_reach(repository, folder)
    base = folder / "snapshots" / commit
    paths = (path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
    return Snapshot(repository, commit, tuple(sorted(paths, key=_natural)), offline=True)


def _ask(repository: Repository) -> Any | None:
    """What the Hub says of the repository; None where it cannot be reached.

    Raises:
        DataError: where it says that there is no such thing, or that it may not be seen.
    """
    from huggingface_hub import HfApi

    def ask() -> Any:
        revision = _revision(repository)
        return HfApi().dataset_info(repository.id, revision=revision, timeout=SECONDS)

    return ask_hub(ask, lambda error: _refused(repository, error))


def _refused(repository: Repository, error: Exception) -> DataError | None:
    """The error for what the Hub will not give, None for any other trouble."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/datasets/{repository.id}"
    if isinstance(error, errors.GatedRepoError):
        return DataError(
            "this data set of the Hub is gated",
            given=repository.id,
            todo=f"accept its terms at {page}, log in with `hf auth login`, or give --data-root",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError(f"no such revision of {repository.id}", given=repository.revision)
    if isinstance(error, errors.RepositoryNotFoundError | errors.DisabledRepoError):
        return DataError(
            "no such data set on the Hub",
            given=repository.id,
            todo=f"see whether {page} is there; for a private one, log in with `hf auth login`",
        )
    return None


def _revision(repository: Repository) -> str:
    return repository.revision or "main"


def _out_of_reach(repository: Repository, folder: Path) -> DataError:
    at = f" --revision {repository.revision}" if repository.revision else ""
    return DataError(
        "the Hub cannot be reached, and this data set is not in the cache",
        given=repository.id,
        allowed=f"a copy in {folder}",
        todo=f"run `hf download --repo-type dataset {repository.id}{at}` where there is a network "
        "and set HF_HOME to the cache it fills; or give --data-root DIR (its makers' or "
        "torchvision's layout, one folder a class, or parquet files); or --dataset folder:PATH or "
        "parquet:PATH",
    )


def _natural(path: str) -> list[tuple[int, str]]:
    """Order of paths in which 10.tar comes after 2.tar."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def fetch(snapshot: Snapshot, files: Sequence[str] | None) -> Path:
    """The folder of a snapshot, with `files` in it, or all files for None.

    Raises:
        DataError: where they may not be had, are not all in the cache, or the network fails.
    """
    from huggingface_hub import snapshot_download

    repository = snapshot.repository
    there = repository_cache("datasets", repository.id) / "snapshots" / snapshot.commit
    if files is not None and all((there / path).is_file() for path in files):
        return there
    patterns = None if files is None else [glob.escape(path) for path in files]
    try:
        folder = snapshot_download(
            repository.id,
            repo_type="dataset",
            revision=_revision(repository),  # by its name, which the cache then knows too
            allow_patterns=patterns,
            local_files_only=snapshot.offline,
        )
    except Exception as error:  # of the network there are more kinds than can be named
        raise _refused(repository, error) or DataError(
            f"could not get all files ({type(error).__name__})",
            given=repository.id,
            todo="rerun the same command with a network to resume"
            if snapshot.offline
            else "rerun the same command to resume",
        ) from error
    if Path(folder).name != snapshot.commit:
        raise DataError(
            "the data set on the Hub changed during the download",
            given=f"{repository.id}, {snapshot.commit} became {Path(folder).name}",
            todo="run the same command again",
        )
    return Path(folder)
