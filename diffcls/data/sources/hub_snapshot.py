"""Snapshots of Hugging Face Hub repositories, downloaded once into the shared Hub cache.

One request with a timeout looks up the current commit. Without a response, the cached copy is used,
if all files that are needed are there.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.data.catalog import Repository
from diffcls.data.sources.hub_listing import keep_list, kept_list
from diffcls.data.sources.remote_files import RemoteFile
from diffcls.data.sources.shard_files import LocalFile
from diffcls.data.sources.shard_names import natural_key
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
        files: paths of the files: all of them, or those in the cache if `listed` is false.
        offline: whether the Hub cannot be reached.
        listed: whether all files of the commit are known.
    """

    repository: Repository
    commit: str
    files: tuple[str, ...]
    offline: bool
    listed: bool = True

    @property
    def folder(self) -> Path:
        """The folder of its files in the cache."""
        return repository_cache("datasets", self.repository.id) / "snapshots" / self.commit

    def missing(self, files: Sequence[str]) -> list[str]:
        """Those of some files that are not in the cache."""
        return [path for path in files if not (self.folder / path).is_file()]


def find_snapshot(
    repository: Repository, suffices: Callable[[Snapshot], bool] = lambda copy: True
) -> Snapshot:
    """The commit of the repository's revision, from the Hub or, if unreachable, from the cache.

    Args:
        repository: repository on the Hub.
        suffices: whether the copy in the cache serves at once where the Hub is busy; if not, the
            Hub is waited for.

    Raises:
        HubBusyError: for a Hub that stays busy, see `diffcls.support.hub.ask_hub`.
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
    folder = repository_cache("datasets", repository.id)
    copy = _copy(repository, folder)
    info = _request_info(repository, lambda: copy is not None and suffices(copy))
    if info is not None:
        files = sorted((str(file.rfilename) for file in info.siblings or ()), key=natural_key)
        snapshot = Snapshot(repository, str(info.sha), tuple(files), offline=False)
        if snapshot.folder.is_dir():
            keep_list(folder, snapshot.commit, files)
        return snapshot
    if copy is None:
        raise _unreachable(repository, folder)
    return copy


def _copy(repository: Repository, folder: Path) -> Snapshot | None:
    """The copy in the cache; None if there is none."""
    commit = cached_commit(folder, _revision(repository))
    if commit is None:
        return None
    files = kept_list(folder, commit)
    listed = files is not None
    if files is None:
        base = folder / "snapshots" / commit
        files = [path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()]
    in_order = tuple(sorted(files, key=natural_key))
    return Snapshot(repository, commit, in_order, offline=True, listed=listed)


def _request_info(repository: Repository, has_copy: Callable[[], bool]) -> Any | None:
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

    return ask_hub(ask, lambda error: _refused(repository, error), has_copy)


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
    if not snapshot.offline:
        keep_list(repository_cache("datasets", repository.id), snapshot.commit, snapshot.files)
    if files is not None and not snapshot.missing(files):
        return snapshot.folder
    if snapshot.offline:
        check_cached(snapshot, snapshot.files if files is None else files)
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


def check_cached(snapshot: Snapshot, files: Sequence[str]) -> None:
    """Raise DataError for files that the cache lacks, and for a copy that may lack some.

    Args:
        snapshot: snapshot that was found in the cache, without the Hub.
        files: paths of the files that are needed.
    """
    missing = snapshot.missing(files)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} files are not in the cache, and the Hub cannot be "
            "reached",
            given=f"{', '.join(missing[:3])} of {snapshot.repository.id}",
            todo="rerun the same command with a network connection to resume",
        )
    if not snapshot.listed:
        raise DataError(
            "the copy in the cache may be incomplete: no list of its files is kept, and the Hub "
            "cannot be reached",
            given=f"{snapshot.repository.id}, {len(snapshot.files)} files",
            allowed="a copy by this command or by `hf download` of huggingface_hub 2 or later; or "
            "files whose names state their number, such as test-00000-of-00001.parquet",
            todo="run the same command once with a network connection to load what is missing; "
            f"or, if it is complete, read it with --dataset parquet:{snapshot.folder} or folder:…",
        )


def in_place(snapshot: Snapshot, path: str) -> LocalFile | RemoteFile:
    """A file of a snapshot without a download: on the Hub, or in the cache if it is there.

    Raises:
        DataError: if the Hub is unreachable and the file is not in the cache.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    repository = snapshot.repository
    cached = snapshot.folder / path
    if snapshot.offline or cached.is_file():
        return LocalFile(cached)
    url = hf_hub_url(repository.id, path, repo_type="dataset", revision=snapshot.commit)
    return RemoteFile(url, f"{repository.id}/{path}", build_hf_headers)
