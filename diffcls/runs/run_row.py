"""Row of a run: its columns that no record holds, and its place in the leaderboard."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from diffcls.runs import leaderboard
from diffcls.runs.record import Record
from diffcls.runs.spec import RunSpec
from diffcls.runs.summary import summarise
from diffcls.support.text import valid_text

FACTS = ("n_asked", "n_classes", "setting", "supervision")
"""Columns that are known with the images and the model alone; a run's header keeps them, so that
its row can be written where neither of them is."""
PROVENANCE = ("device", "versions", "commit", "command", "date")
"""Columns that are those of the run's first start, not of a later read."""


def run_row(
    spec: RunSpec,
    header: Mapping[str, Any],
    facts: Mapping[str, Any],
    records: Iterable[Record],
) -> dict[str, Any]:
    """The leaderboard row of a run.

    Args:
        spec: its specification.
        header: its ``run.json``.
        facts: the values of `FACTS`.
        records: see `diffcls.runs.summary.summarise`.

    Raises:
        RecordError: for records that do not fit the run.
    """
    metadata: dict[str, Any] = {
        "fingerprint": spec.fingerprint,
        "dataset": spec.dataset,
        "split": spec.split,
        "n_classes": facts["n_classes"],
        "method": spec.method,
        "model": spec.model,
        "revision": spec.model_revision,
        "search": spec.search,
        "setting": facts["setting"],
        "supervision": facts["supervision"],
        "seed": spec.seed,
        "dtype": spec.dtype,
        **{name: header[name] for name in PROVENANCE},
    }
    row = summarise(
        records,
        {name: valid_text(v) if isinstance(v, str) else v for name, v in metadata.items()},
        n_asked=facts["n_asked"],
        posterior_scale=header["posterior_scale"],
    )
    return dict(row)


def put_run_row(
    path: str | os.PathLike[str],
    spec: RunSpec,
    header: Mapping[str, Any],
    facts: Mapping[str, Any],
    records: Callable[[], Iterable[Record]],
) -> dict[str, Any]:
    """Put the row of a run into a leaderboard file, and return it.

    Args:
        path: the file.
        spec, header, facts: see `run_row`.
        records: reads the records of all shards; called under the file's lock, so that of two
            shards that end together the later one reads the records of both.

    Raises:
        UsageError, RecordError: see `run_row` and `diffcls.runs.leaderboard.upsert`.
    """
    stored: list[dict[str, Any]] = []

    def rows() -> list[dict[str, Any]]:
        stored[:] = [run_row(spec, header, facts, records())]
        return stored

    leaderboard.upsert(path, rows)
    return stored[0]
