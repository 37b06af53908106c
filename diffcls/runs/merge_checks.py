"""Checks of a merge: what is missing, what differs by machine, and what cannot be one run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from math import isclose
from typing import Any

from diffcls.runs.merge_sources import SHARD, FolderRun, record_files
from diffcls.runs.spec import RunSpec
from diffcls.runs.stored import StoredRun
from diffcls.support.errors import RecordError
from diffcls.support.hashing import canonical_json

LAST_BITS = ("batch_size", "halved_batch_size", "threads", "compiled", "device", "versions")
"""Keys of a header that may change the last bits of scores; folders may differ in them."""
BY_MACHINE = ("data_revision", "model_revision", "dtype", "scoring_version")
"""Fields of a specification that may differ between machines although the command is the same."""
BY_BUDGET = ("subset", "search_options")
"""Fields of a specification that a fit to ``--budget`` changes, by the speed of the machine."""
BUDGET_ADVICE = (
    "; if each part was fitted to --budget by itself, fit once, with --dry-run, and give the flags "
    "under its key fitted to every part, instead of --budget"
)
MAX_SHARDS_NAMED = 8
MAX_SHARDS_READ = 100_000


def spec_of(folder: FolderRun) -> RunSpec:
    """The specification of a run, as this version of diffcls writes it.

    Raises:
        RecordError: for one that another version wrote.
    """
    try:
        return RunSpec.from_dict(folder.run.spec)
    except ValueError as error:
        raise RecordError(
            f"run {folder.run.fingerprint} is of another version of diffcls: {error}",
            given=str(folder.run.folder),
            todo="merge with the version that scored it",
        ) from error


def check_count(folder: FolderRun, n_records: int, n_asked: int | None) -> None:
    """Raise RecordError for more records than a run has images."""
    if n_asked is not None and n_records > n_asked:
        raise RecordError(
            f"more records than images in run {folder.run.fingerprint}",
            given=n_records,
            allowed=f"at most {n_asked}",
            todo="find out which records are not of its data set",
        )


def check_scales(folders: Sequence[FolderRun]) -> None:
    """Raise RecordError for folders that differ in the scale of a run's posterior."""
    scales = [one.run.posterior_scale for one in folders]
    if not all(_is_same(scales[0], scale) for scale in scales):
        raise RecordError(
            f"folders contradict each other on posterior_scale of run {folders[0].run.fingerprint}",
            given=sorted(set(map(str, scales))),
            allowed="one scale: it belongs to the model",
            todo="find out which run.json was edited",
        )


def _is_same(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return isclose(first, second, rel_tol=1e-6)


def header_notes(folders: Sequence[FolderRun]) -> Iterator[str]:
    """Notes on batch shape, threads, environment and given options of a run, where they differ by
    folder.
    """
    for key in LAST_BITS:
        values = {one.name: one.run.header.get(key, "none") for one in folders}
        if len({canonical_json(value) for value in values.values()}) > 1:
            shown = ", ".join(f"{value} in {folder}" for folder, value in values.items())
            yield (
                f"run {folders[0].run.fingerprint}: {key} differs ({shown}): "
                "last bits of scores may differ"
            )
    settings = {one.name: text for one in folders if (text := one.run.column("setting"))}
    if len(set(settings.values())) > 1:
        shown = ", ".join(f"{text} in {folder}" for folder, text in settings.items())
        yield (
            f"run {folders[0].run.fingerprint}: setting differs ({shown}): "
            "a default that only some commands give"
        )


def missing_notes(
    runs: Sequence[StoredRun], n_asked: int | None, n_records: int, is_new: bool
) -> Iterator[str]:
    """Notes on images without a record.

    Args:
        runs: the run in each folder.
        n_asked: number of its images; None if no folder knows it.
        n_records: images with a record.
        is_new: whether the target has no records of the run; else the files of its shards say
            nothing of what is missing.
    """
    name = f"run {runs[0].fingerprint}"
    if n_asked is None:
        yield (
            f"{name}: no row, as no folder knows how many images it has: run its command once, "
            "with the merged folder as --output-dir, where the data set is"
        )
    elif n_records < n_asked:
        shards = unfinished_shards(runs, n_asked) if is_new else []
        more = len(shards) - MAX_SHARDS_NAMED
        shown = ", ".join(shards[:MAX_SHARDS_NAMED]) + (f" and {more} more" if more > 0 else "")
        yield (
            f"{name}: {n_asked - n_records} of {n_asked} images have no record"
            + (f"; unfinished shards: {shown}" if shards else "")
        )


def unfinished_shards(runs: Sequence[StoredRun], n_asked: int) -> list[str]:
    """Shards without all their images, such as ``1/4 (3 of 5)``.

    Empty where the folders were written with several numbers of shards, or in one shard.
    """
    lines: dict[tuple[int, int], int] = {}
    for run in runs:
        for path in record_files(run.folder):
            if match := SHARD.fullmatch(path.name):
                shard = int(match[1]), int(match[2])
                lines[shard] = max(lines.get(shard, 0), path.read_bytes().count(b"\n"))
    numbers = {n for _, n in lines}
    if len(numbers) != 1 or not numbers <= set(range(2, MAX_SHARDS_READ)):
        return []
    (n,) = numbers
    expected = {i: len(range(i, n_asked, n)) for i in range(n)}
    return [
        f"{i}/{n} ({lines.get((i, n), 0)} of {expected[i]})"
        for i in range(n)
        if lines.get((i, n), 0) < expected[i]
    ]


def compare_specs(incomplete: Sequence[tuple[RunSpec, Collection[str]]]) -> Iterator[str]:
    """Notes on incomplete runs that were meant to be one: they differ by machine, or by a budget.

    Args:
        incomplete: each run, with the names of the folders that have records of it.

    Raises:
        RecordError: for incomplete runs that differ in their scoring version, and at most in other
            fields by machine.
    """
    for (first, here), (second, there) in combinations(incomplete, 2):
        one, other = first.as_dict(), second.as_dict()
        keys = [key for key in one | other if one.get(key) != other.get(key)]
        names = f"runs {first.fingerprint} and {second.fingerprint}"
        by_machine = set(keys) <= {*BY_MACHINE}
        if by_machine and "scoring_version" in keys:
            others = [key for key in keys if key != "scoring_version"]
            more = f", and differ in {' and '.join(others)}" if others else ""
            raise RecordError(
                f"{names} are parts of one evaluation by several scoring versions{more}",
                given=sorted((one["scoring_version"], other["scoring_version"])),
                allowed="parts that one version of diffcls scored",
                todo="score the part of the older version again",
            )
        # of two runs that one machine scored parts of, neither is a part of the other
        by_budget = set(keys) <= {*BY_MACHINE, *BY_BUDGET} and set(here).isdisjoint(there)
        if by_machine or by_budget:
            advice = "" if by_machine else BUDGET_ADVICE
            yield f"{names} differ in {_shown(one, other, keys)}: they are not joined{advice}"


def _shown(one: Mapping[str, Any], other: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Fields of two specifications with their values, such as ``seed alone (0, 1)``; options of the
    search by their own names.
    """
    values: dict[str, tuple[Any, Any]] = {}
    for key in keys:
        first, second = one.get(key), other.get(key)
        if key == "search_options":
            a, b = dict(first or {}), dict(second or {})
            values |= {k: (a.get(k), b.get(k)) for k in a | b if a.get(k) != b.get(k)}
        else:
            values[key] = first, second
    pairs = "; ".join(f"{first}, {second}" for first, second in values.values())
    return f"{' and '.join(values)} alone ({pairs})"
