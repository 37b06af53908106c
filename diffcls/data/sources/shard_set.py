"""Shards of ``webdataset:PATTERN``: the files of a split, their names and what lies beside them."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from diffcls.data.csv_tables import LINE_BREAK, read_text
from diffcls.data.sources import remote_files
from diffcls.data.sources.parquet import SHARD, check_shards
from diffcls.data.sources.remote_files import remote_file
from diffcls.data.sources.shard_files import LocalFile, ShardFile
from diffcls.data.sources.shard_names import expand_braces, natural_key
from diffcls.data.sources.split_folders import FALLBACKS
from diffcls.data.split_names import split_in, split_of
from diffcls.support.errors import DataError, UsageError
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
        texts: name -> content of the text files beside the shards.
    """

    name: str
    split: str
    whole: bool
    shards: Mapping[str, ShardFile]
    texts: Mapping[str, str]

    def lines_beside(self, name: str) -> list[str]:
        """The lines of a text file beside the shards, up to the last one with a text; else none."""
        text = self.texts.get(name, "").rstrip()
        return [line.strip() for line in LINE_BREAK.split(text)] if text else []


def find_shards(pattern: str, split: str, passed_over: Counter[str]) -> ShardSet:
    """The shards that a pattern names, of one split.

    Where the names of the shards, or of their folders, tell several splits, those of the requested
    one are read; without one of the test split, those of the validation split.

    Args:
        pattern: a folder; a path with braces and wildcards; or an address with braces.
        split: name of the split.
        passed_over: kind -> count of what is passed over, which is added to.

    Raises:
        UsageError, DataError: if there is no such shard, a shard is missing, or there are only
            shards of other splits.
    """
    is_remote, is_folder = "://" in pattern, os.path.isdir(pattern)
    if is_remote:
        addresses = dict.fromkeys(expand_braces(pattern))
        files = {PurePath(remote_files.place_of(one)): one for one in addresses}
        if len(files) < len(addresses):
            raise UsageError(
                f"{FLAG}: addresses differ in their query alone",
                given=pattern.partition("?")[0],
                allowed="addresses whose paths differ, from which ids are made",
            )
    elif is_folder:
        root = Path(pattern)
        inside = [p for p in root.iterdir() if p.is_dir() and split_of(p.name)]
        files = _local(p for folder in (root, *inside) for p in folder.glob(f"*{SUFFIX}"))
    else:
        files = _local(_matches(pattern))
    if not files:
        raise DataError(
            f"{FLAG}: no shards",
            given=valid_text(pattern),
            allowed=f"a folder with *{SUFFIX} or test/*{SUFFIX}, or a path with braces or "
            f"wildcards, such as shards/{{000..009}}{SUFFIX}",
            todo="check the path",
        )
    wanted, chosen, whole = _of_split(list(files), split)
    passed_over[OTHER_SPLITS] += len(files) - len(chosen)
    base = Path(os.path.commonpath([path.parent for path in chosen]))
    of_split = bool(split_of(base.name))
    if is_folder or (not is_remote and glob.has_magic(pattern)):
        _check_count(chosen)  # braces alone name each shard
    names = {valid_text(p.relative_to(base).as_posix().removesuffix(SUFFIX)): p for p in chosen}
    make = remote_file if is_remote else LocalFile
    return ShardSet(
        name=f"webdataset:{valid_text((base.parent if of_split else base).name or 'shards')}",
        split=wanted,
        whole=whole,
        shards={one: make(files[names[one]]) for one in sorted(names, key=natural_key)},
        texts=_texts(
            [base, base.parent] if of_split else [base], files[chosen[0]] if is_remote else None
        ),
    )


def _local(paths: Iterable[Path]) -> dict[PurePath, str]:
    """Absolute path -> path; links keep their own names, as those of the Hub's cache have none."""
    return {Path(os.path.abspath(path)): os.path.abspath(path) for path in sorted(paths)}


def _texts(folders: Sequence[Path], address: str | None) -> dict[str, str]:
    """The text files beside the shards, from the nearest folder that has them."""
    texts: dict[str, str] = {}
    for name in (NAMES, TEMPLATES):
        for folder in folders:
            path = folder / name
            if address is not None:
                text = remote_files.text_of(remote_files.beside(address, path.as_posix()))
            else:
                text = read_text(path, name) if path.is_file() else None
            if text is not None:
                texts[name] = text
                break
    return texts


def _matches(pattern: str) -> list[Path]:
    """The files that a pattern names; each of its alternatives must exist."""
    paths, missing = list[Path](), list[str]()
    for one in expand_braces(pattern):
        if os.path.isfile(one):
            paths.append(Path(one))
        elif glob.has_magic(one):
            found = [Path(path) for path in glob.glob(one, recursive=True) if os.path.isfile(path)]
            paths += found
            missing += [] if found else [one]
        else:
            missing.append(one)
    if missing and (paths or len(missing) > 1):
        raise DataError(
            f"{FLAG}: {len(missing)} shards are missing, {len(paths)} are there",
            given=[valid_text(one) for one in missing[:MAX_NAMED]],
            todo="download them, or name only those that are there",
        )
    return paths


def _of_split(paths: Sequence[PurePath], split: str) -> tuple[str, list[PurePath], bool]:
    """Name of the split, its files, and whether the files tell no split at all."""
    told: dict[str | None, list[PurePath]] = defaultdict(list)
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


def _check_count(chosen: Sequence[PurePath]) -> None:
    """Raise DataError if a folder has fewer or more shards than its files, or names, state."""
    folders = defaultdict[PurePath, list[PurePath]](list)
    for path in chosen:
        folders[path.parent].append(path)
    for folder, inside in folders.items():
        series = defaultdict[str, list[str]](list)
        for path in inside:
            numbered = SHARD.match(path.stem)
            series[numbered["name"] if numbered else ""].append(path.stem)
        for stems in series.values():
            check_shards(stems)
        if not Path(folder, COUNT).is_file():
            continue
        count = read_text(Path(folder, COUNT), COUNT).strip()
        if count != str(len(inside)):
            place = valid_text(str(folder))
            raise DataError(
                f"{FLAG}: shards are missing",
                given=f"{len(inside)} of {count} in {place}",
                todo="download them, or name those that are there, such as "
                f"webdataset:{place}/{{0..{len(inside) - 1}}}{SUFFIX}",
            )
