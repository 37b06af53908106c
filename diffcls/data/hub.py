"""Data sets of the Hugging Face Hub: fetched once, then read from the cache that its tools share.

The Hub is asked one question, with a limit on the wait; where no answer comes, what lies in the
cache is used. No code of a repository is run.
"""

from __future__ import annotations

import glob
import os
import queue
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from diffcls.data.dataset import Dataset
from diffcls.data.parquet import SHARD, Table, TableLike, check_shards, read, read_labels
from diffcls.data.specs import Query, Repository
from diffcls.errors import DataError

T = TypeVar("T")

SECONDS = 3.0  # that the Hub may take to answer
# names of a split in paths -> the one that the Hub's libraries use
SPLITS = {name: name for name in ("train", "validation", "test")}
SPLITS |= {"val": "validation", "valid": "validation", "dev": "validation"}
CONFIGURATIONS = (".", "data", "default")  # the one meant where a repository has several


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


def load(query: Query) -> Dataset:
    """A data set's copy on the Hub, or ``hf:ID[@revision]``; the commit is its revision.

    Raises:
        DataError: for a repository, revision or split that does not exist or may not be read, one
            that is neither in reach nor in the cache, and one without images and labels.
    """
    repository = query.spec.hub
    if repository is None:
        raise DataError(
            "this data set is not on the Hub", given=query.spec.name, todo="give --data-root"
        )
    snapshot = find_snapshot(repository)
    tables = _tables(snapshot, repository.splits.get(query.split, query.split))
    if query.spec.splits:  # of a row of the table, the columns are known
        query = replace(
            query,
            image_column=query.image_column or repository.image,
            label_column=query.label_column or repository.label,
        )
    dataset = read(query, tables, snapshot.commit, _names(snapshot))
    return _named_for_prompts(dataset, tables)


# ---- which commit ------------------------------------------------------------------------------


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
    info = None if _told_to_stay_offline() else _ask(repository)
    if info is not None:
        files = sorted((str(file.rfilename) for file in info.siblings or ()), key=_natural)
        return Snapshot(repository, str(info.sha), tuple(files), offline=False)
    folder = _cache(repository)
    commit = _cached_commit(folder, repository.revision or "main")
    if commit is None:
        raise _out_of_reach(repository, folder)
    base = folder / "snapshots" / commit
    paths = (path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
    return Snapshot(repository, commit, tuple(sorted(paths, key=_natural)), offline=True)


def _told_to_stay_offline() -> bool:
    from huggingface_hub.constants import ENV_VARS_TRUE_VALUES, is_offline_mode

    told = os.environ.get("HF_DATASETS_OFFLINE", "").upper() in ENV_VARS_TRUE_VALUES
    return told or bool(is_offline_mode())


def _ask(repository: Repository) -> Any | None:
    """What the Hub says of the repository; None where it cannot be reached.

    Raises:
        DataError: where it says that there is no such thing, or that it may not be seen.
    """
    from huggingface_hub import HfApi

    try:
        return _within(
            SECONDS + 0.5,  # the name of the Hub's host may take as long to resolve as it likes
            lambda: HfApi().dataset_info(
                repository.id, revision=repository.revision or None, timeout=SECONDS
            ),
        )
    except Exception as error:  # of the network there are more kinds than can be named
        refused = _refused(repository, error)
        if refused is not None:
            raise refused from error
        return None


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises; TimeoutError where that takes longer, and the call is left."""
    answers: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def _refused(repository: Repository, error: Exception) -> DataError | None:
    """The error for what the Hub will not give, None for any other trouble."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/datasets/{repository.id}"
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


def _cache(repository: Repository) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"datasets--{repository.id.replace('/', '--')}"


def _cached_commit(folder: Path, revision: str) -> str | None:
    """The commit that a branch, tag or commit stands for, None where it is not in the cache."""
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return commit if (folder / "snapshots" / commit).is_dir() else None


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


# ---- which files -------------------------------------------------------------------------------


def _tables(snapshot: Snapshot, split: str) -> list[TableLike]:
    """The rows of a split: parquet files as they are, anything else by the Hub's own library."""
    for suffix in (".parquet", ".tar"):
        files = [path for path in snapshot.files if path.endswith(suffix)]
        splits = {split_of(path) for path in files}
        if not splits & {split, *SPLITS.values()}:
            continue
        if split not in splits:
            raise DataError(
                f"no such split of {snapshot.repository.id}", given=split, allowed=sorted(splits)
            )
        chosen = _one_configuration([path for path in files if split_of(path) == split], snapshot)
        check_shards([PurePosixPath(path).stem for path in chosen])
        if suffix == ".parquet":
            folder = fetch(snapshot, chosen)
            return [Table(folder / path) for path in chosen]
        return [_read_webdataset(snapshot, chosen, split)]
    return [_read_any(snapshot, split)]


def split_of(path: str) -> str:
    """The split that a file of a repository belongs to, by its own name or that of its folder."""
    file = PurePosixPath(path)
    shard = SHARD.fullmatch(file.stem)
    own = shard["name"] if shard else file.stem
    for name in (own, file.parent.name):
        if name in SPLITS:
            return SPLITS[name]
    return own if shard else file.parent.name


def _one_configuration(files: Sequence[str], snapshot: Snapshot) -> list[str]:
    """The files of one split in one folder, of a repository that may have several data sets."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in files:
        parent = PurePosixPath(path).parent
        inside = SPLITS.get(parent.name, parent.name) == split_of(path)
        folders[str(parent.parent if inside else parent)].append(path)
    if len(folders) == 1:
        return list(files)
    for name in CONFIGURATIONS:
        if name in folders:
            return folders[name]
    raise DataError(
        f"{snapshot.repository.id} holds several data sets",
        given=sorted(folders),
        todo=f"run `hf download --repo-type dataset {snapshot.repository.id}` and give one of these "
        "folders: --dataset parquet:PATH",
    )


def fetch(snapshot: Snapshot, files: Sequence[str] | None) -> Path:
    """The folder of a snapshot, with `files` in it, or all files for None.

    Raises:
        DataError: where they may not be had, are not all in the cache, or the network fails.
    """
    from huggingface_hub import snapshot_download

    repository = snapshot.repository
    patterns = None if files is None else [glob.escape(path) for path in files]
    try:
        folder = snapshot_download(
            repository.id,
            repo_type="dataset",
            revision=snapshot.commit,
            allow_patterns=patterns,
            local_files_only=snapshot.offline,
        )
    except Exception as error:  # of the network there are more kinds than can be named
        raise _refused(repository, error) or DataError(
            f"could not get all files ({type(error).__name__})",
            given=repository.id,
            todo="the same command with a network goes on from here"
            if snapshot.offline
            else "the same command goes on from here",
        ) from error
    return Path(folder)


def _names(snapshot: Snapshot) -> list[str]:
    """The class names in a file of the repository, for labels that are numbers."""
    name = snapshot.repository.names
    if name is None:
        return []
    if name not in snapshot.files:
        raise DataError(f"no {name} with the class names", given=snapshot.repository.id)
    text = (fetch(snapshot, [name]) / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


# ---- other formats -----------------------------------------------------------------------------


def _read_webdataset(snapshot: Snapshot, files: list[str], split: str) -> TableLike:
    count = str(PurePosixPath(files[0]).parent / "nshards.txt")
    counted = [count] if count in snapshot.files else []
    folder = fetch(snapshot, [*files, *counted])
    if counted and (folder / count).read_text(encoding="utf-8").strip() != str(len(files)):
        raise DataError(
            "archives of this split are missing", given=files[:8], todo="download them again"
        )
    paths = [str(folder / path) for path in files]
    return _load_dataset(snapshot, split, "webdataset", data_files={split: paths})


def _read_any(snapshot: Snapshot, split: str) -> TableLike:
    repository = snapshot.repository
    script = f"{PurePosixPath(repository.id).name}.py"
    if script in snapshot.files:
        raise DataError(
            "this data set of the Hub is a script, and no code of a repository is run",
            given=f"{repository.id}, {script}",
            todo=f"the Hub may have made tables of it: hf:{repository.id}@refs/convert/parquet",
        )
    return _load_dataset(snapshot, split, str(fetch(snapshot, None)))


def _load_dataset(snapshot: Snapshot, split: str, place: str, **options: Any) -> TableLike:
    """What the Hub's library makes of files on this machine."""
    import datasets

    try:
        loaded = datasets.load_dataset(place, split=split, **options)
    except Exception as error:  # each format has its own
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"cannot read split {split!r} ({type(error).__name__}: {reason})",
            given=snapshot.repository.id,
            allowed="parquet files, tar archives, or what `datasets.load_dataset` reads",
        ) from error
    return _Rows(loaded)


class _Rows:
    """A data set of the Hub's library, its images left encoded."""

    def __init__(self, rows: Any) -> None:
        from datasets import Image

        for name, feature in rows.features.items():
            if isinstance(feature, Image):  # decoding is ours: with limits, and one at a time
                rows = rows.cast_column(name, Image(decode=False))
        self._rows = rows

    @property
    def count(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> list[str]:
        return list(self._rows.column_names)

    @cached_property
    def features(self) -> dict[str, Any]:
        return dict(self._rows.features.to_dict())

    def values(self, column: str) -> list[Any]:
        return list(self._rows[column])

    def paths(self, column: str) -> list[str | None]:
        return [None] * self.count

    def image(self, column: str, row: int) -> bytes:
        value = self._rows[row][column]
        encoded = value.get("bytes") if isinstance(value, dict) else value
        if encoded is None and isinstance(value, dict) and value.get("path"):
            encoded = _file(Path(value["path"]))
        if not isinstance(encoded, bytes):
            raise DataError("no image in this row", given=f"row {row}, {column}")
        return encoded


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read image ({error})", given=str(path)) from error


# ---- names -------------------------------------------------------------------------------------


def _named_for_prompts(dataset: Dataset, tables: Sequence[TableLike]) -> Dataset:
    """The data set with the names that its published prompts use."""
    if dataset.name == "imagenet":
        from diffcls.data.layouts.imagenet import class_names

        return replace(dataset, class_names=class_names())
    spaced = tuple(name.replace("_", " ") for name in dataset.class_names)
    if dataset.name == "pets":
        names = tuple(name.title() for name in spaced)
        prompts = map(_with_species, names, _species(dataset, tables))
        return replace(dataset, class_names=names, prompt_names=tuple(prompts))
    return dataset if spaced == dataset.class_names else replace(dataset, prompt_names=spaced)


def _with_species(name: str, species: str) -> str:
    return name if name.lower().endswith(species) else f"{name} {species}"


def _species(dataset: Dataset, tables: Sequence[TableLike]) -> list[str]:
    """``cat``, ``dog`` or nothing for each class.

    By the column that says so, else by the file's name: Oxford's begin with a capital for cats.
    """
    words: list[str] = [""] * len(dataset)
    columns = set(tables[0].columns)
    if "label_cat_dog" in columns:
        numbers, names = read_labels(tables, "label_cat_dog", ("", ""))
        words = [names[number].lower() for number in numbers]
    if not set(words) <= {"cat", "dog"} and "image_id" in columns:
        files = [str(value) for table in tables for value in table.values("image_id")]
        words = ["cat" if file[:1].isupper() else "dog" for file in files]
    of_class = {item.label: word for item, word in zip(dataset.items, words, strict=True)}
    found = [of_class.get(label, "") for label in range(len(dataset.class_names))]
    return [word if word in ("cat", "dog") else "" for word in found]
