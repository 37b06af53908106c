"""Which files of a Hub repository are those of a split, and whether the cache has all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from diffcls.data.sources.hub_snapshot import Snapshot, check_cached
from diffcls.data.sources.parquet import SHARD, check_shards
from diffcls.data.sources.shard_set import COUNT
from diffcls.support.errors import DataError

SPLITS = {name: name for name in ("train", "validation", "test")}
SPLITS |= {"val": "validation", "valid": "validation", "dev": "validation"}
"""Name of a split in a path -> its name in the Hub's libraries."""

DEFAULT_FOLDERS = (".", "data", "default")
"""Folders of the default configuration, in a repository with several."""


def files_of(snapshot: Snapshot, split: str) -> tuple[str, list[str]]:
    """Suffix and paths of a split's files; no path where the repository has other files.

    Raises:
        DataError: for a split that the repository or, without the Hub, the cache lacks in part.
    """
    for suffix in (".parquet", ".tar"):
        files = [path for path in snapshot.files if path.endswith(suffix)]
        splits = {split_of(path) for path in files}
        if not splits & {split, *SPLITS.values()}:
            continue
        if snapshot.offline:
            lacking = set(snapshot.missing(files))
            splits = {split_of(path) for path in files if path not in lacking}
        if split not in splits:
            raise DataError(
                "--split: not in the cache, and the Hub cannot be reached"
                if snapshot.offline
                else "--split: not in the repository",
                given=f"{split} of {snapshot.repository.id}",
                allowed=sorted(splits),
            )
        chosen = _one_configuration([path for path in files if split_of(path) == split], snapshot)
        check_shards([PurePosixPath(path).stem for path in chosen])
        if snapshot.offline and (snapshot.listed or not _states_number(snapshot, chosen, split)):
            check_cached(snapshot, chosen)
        return suffix, chosen
    return "", []


def _states_number(snapshot: Snapshot, chosen: Sequence[str], split: str) -> bool:
    """Whether names, or a file beside the archives, state how many files a split has."""
    if str(PurePosixPath(chosen[0]).parent / COUNT) in snapshot.files:  # see `_check_count`
        return chosen[0].endswith(".tar")
    stems = [PurePosixPath(path).stem for path in chosen]
    return all(SHARD.fullmatch(stem) for stem in stems) or (
        len(stems) == 1 and SPLITS.get(stems[0], stems[0]) == split
    )


def is_whole(copy: Snapshot, split: str) -> bool:
    """Whether the copy in the cache has all files of a split."""
    try:
        if not files_of(copy, split)[1]:
            check_cached(copy, copy.files)
    except DataError:
        return False
    return True


def split_of(path: str) -> str:
    """Split of a file in a repository, from its own name or that of its folder."""
    file = PurePosixPath(path)
    shard = SHARD.fullmatch(file.stem)
    own = shard["name"] if shard else file.stem
    for name in (own, file.parent.name):
        if name in SPLITS:
            return SPLITS[name]
    return own if shard else file.parent.name


def _one_configuration(files: Sequence[str], snapshot: Snapshot) -> list[str]:
    """Files of one split in one configuration; a repository may contain several."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in files:
        parent = PurePosixPath(path).parent
        inside = SPLITS.get(parent.name, parent.name) == split_of(path)
        folders[str(parent.parent if inside else parent)].append(path)
    if len(folders) == 1:
        return list(files)
    for name in DEFAULT_FOLDERS:
        if name in folders:
            return folders[name]
    raise DataError(
        f"{snapshot.repository.id} contains several data sets",
        given=sorted(folders),
        todo="download it, and select one of these folders with --dataset parquet:PATH",
    )
