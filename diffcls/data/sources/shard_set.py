"""Shards of ``webdataset:PATTERN``: the files of a split, their names and what lies beside them."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffcls.data.csv_tables import LINE_BREAK, read_text
from diffcls.data.sources.parquet import check_shards
from diffcls.data.sources.shard_files import LocalFile, ShardFile
from diffcls.data.sources.shard_names import expand_braces, natural_key
from diffcls.data.sources.split_folders import FALLBACKS
from diffcls.data.split_names import split_in, split_of
from diffcls.support.errors import DataError
from diffcls.support.text import valid_text

FLAG = "--dataset webdataset:PATTERN"
SUFFIX = ".tar"
NAMES, TEMPLATES, COUNT = "classnames.txt", "zeroshot_classification_templates.txt", "nshards.txt"
"""Files beside the shards in the layout of CLIP_benchmark."""
OTHER_SPLITS = "archives of other splits"
MAX_NAMED = 3
"""Shards that a message names."""


@dataclass(frozen=True)
class ShardSet:
    """The shards of a split.

    Args:
        name: name of the set: that of the folder which holds all shards, or of the folder above it
            if it is a split's.
        split: name of the split.
        whole: whether the shards tell no split.
        shards: name -> file, in natural order of the names. A name is the file's path below the
            folder which holds all shards, without suffix; it depends neither on the place of that
            folder nor on the pattern.
        folders: folders that may have files beside the shards, nearest first.
    """

    name: str
    split: str
    whole: bool
    shards: dict[str, ShardFile]
    folders: tuple[Path, ...]

    def lines_beside(self, name: str) -> list[str]:
        """The lines of a text file beside the shards without empty ones at its end; else none."""
        for folder in self.folders:
            if (folder / name).is_file():
                text = read_text(folder / name, name).rstrip()
                return [line.strip() for line in LINE_BREAK.split(text)]
        return []


def find_shards(pattern: str, split: str, passed_over: Counter[str]) -> ShardSet:
    """The shards that a pattern names, of one split.

    Where the names of the shards, or of their folders, tell several splits, those of the requested
    one are read; without one of the test split, those of the validation split.

    Args:
        pattern: a folder, or a path with braces and wildcards.
        split: name of the split.
        passed_over: kind -> count of what is passed over, which is added to.

    Raises:
        UsageError, DataError: if there is no such shard, a shard is missing, or there are only
            shards of other splits.
    """
    root = Path(pattern)
    if root.is_dir():
        inside = [p for p in sorted(root.iterdir()) if p.is_dir() and split_of(p.name)]
        paths = [p for folder in (root, *inside) for p in folder.glob(f"*{SUFFIX}")]
    else:
        paths = _matches(pattern)
    if not paths:
        raise DataError(
            f"{FLAG}: no shards",
            given=valid_text(pattern),
            allowed=f"a folder with *{SUFFIX} or test/*{SUFFIX}, or a path with braces or "
            f"wildcards, such as shards/{{000..009}}{SUFFIX}",
            todo="check the path",
        )
    wanted, chosen, whole = _of_split(sorted(set(map(Path, map(os.path.abspath, paths)))), split)
    passed_over[OTHER_SPLITS] += len(paths) - len(chosen)
    base = Path(os.path.commonpath([path.parent for path in chosen]))
    name = base.parent.name if split_of(base.name) else base.name
    names = {
        valid_text(path.relative_to(base).as_posix().removesuffix(SUFFIX)): path for path in chosen
    }
    if root.is_dir():
        _check_count(base, chosen, pattern)
    ordered = sorted(names, key=natural_key)
    return ShardSet(
        name=f"webdataset:{valid_text(name or 'shards')}",
        split=wanted,
        whole=whole,
        shards={one: LocalFile(names[one]) for one in ordered},
        folders=(base, base.parent) if split_of(base.name) else (base,),
    )


def _matches(pattern: str) -> list[Path]:
    """The files that a pattern names; each of its alternatives must exist."""
    paths, missing = list[Path](), list[str]()
    for one in expand_braces(pattern):
        if os.path.isfile(one):
            paths.append(Path(one))
        elif glob.has_magic(one):
            paths += [Path(path) for path in glob.glob(one, recursive=True) if os.path.isfile(path)]
        else:
            missing.append(one)
    if missing and (paths or len(missing) > 1):
        raise DataError(
            f"{FLAG}: {len(missing)} shards are missing, {len(paths)} are there",
            given=[valid_text(one) for one in missing[:MAX_NAMED]],
            todo="download them, or name only those that are there",
        )
    return paths


def _of_split(paths: Sequence[Path], split: str) -> tuple[str, list[Path], bool]:
    """Name of the split, its files, and whether the files tell no split at all."""
    told: dict[str | None, list[Path]] = defaultdict(list)
    for path in paths:
        told[split_of(path.parent.name) or split_in(path.stem)].append(path)
    wanted = split_of(split) or split
    if set(told) == {None}:
        return wanted, list(paths), True
    for kind in FALLBACKS.get(wanted, (wanted,)):
        if kind in told:
            return wanted, told[kind], False
    splits = sorted(name for name in told if name)
    raise DataError(
        "--split: no shards of this split",
        given=split,
        allowed=splits,
        todo=f"add --split {splits[0]}" if len(splits) == 1 else "choose one of these splits",
    )


def _check_count(base: Path, chosen: Sequence[Path], pattern: str) -> None:
    """Raise DataError if a folder has fewer or more shards than are counted in its files."""
    check_shards([path.stem for path in chosen])
    if not (base / COUNT).is_file():
        return
    count = read_text(base / COUNT, COUNT).strip()
    if count != str(len(chosen)):
        raise DataError(
            f"{FLAG}: shards are missing",
            given=f"{len(chosen)} of {count} in {valid_text(str(base))}",
            todo="download them, or name those that are there, such as "
            f"webdataset:{valid_text(pattern)}/{{0..{len(chosen) - 1}}}{SUFFIX}",
        )
