"""Results of an evaluation: the header of a run, its leaderboard row, and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffcls.classifiers.base import Built, Description
from diffcls.data.dataset import Dataset
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import Plan
from diffcls.evaluation.supervision import supervision_of
from diffcls.models.model_argument import is_name, shown
from diffcls.runs.header import check_proposed
from diffcls.runs.records import RecordStore
from diffcls.runs.run_row import put_run_row
from diffcls.runs.sharding import shard_of
from diffcls.runs.spec import RunSpec
from diffcls.support.environment import clock, commit, threads, versions
from diffcls.support.errors import RecordError
from diffcls.support.notices import warn
from diffcls.support.redaction import redacted, redacted_values
from diffcls.support.text import valid_text

LEADERBOARD = "leaderboard.csv"


def header_of(plan: Plan) -> dict[str, Any]:
    """The header that a run gets at its first start.

    Raises:
        UsageError: for a batch size or number of threads that is not allowed.
        ModelError: if the hashes of training images that are stored with the model are damaged.
    """
    header = {
        "batch_size": plan.built.method.batch_size,
        "threads": threads(),
        "posterior_scale": plan.built.method.posterior_scale,
        "img_size": plan.options.img_size,  # as requested: null for the model's own
        "device": plan.executor.describe_device(plan.built),
        "versions": versions(),
        "commit": commit(),
        "command": redacted(valid_text(plan.options.command)),
        "options": redacted_values(plan.options.resolved()),
        "date": clock(),
        **_facts(plan.options, plan.dataset, plan.built),
    }
    if plan.options.compile:
        header["compiled"] = True
    if plan.options.model is not None and not is_name(plan.options.model):
        header["model_source"] = redacted(valid_text(shown(plan.options.model)))
    check_proposed(header)
    return header


def put_row(
    options: EvaluationOptions,
    dataset: Dataset,
    spec: RunSpec,
    described: Built | Description,
    store: RecordStore,
    header: dict[str, Any],
) -> dict[str, Any]:
    """The row of a run, from the records of all its shards, also put into the leaderboard."""
    path = Path(options.output_dir) / LEADERBOARD
    return put_run_row(path, spec, header, _facts(options, dataset, described), store.records)


def _facts(
    options: EvaluationOptions, dataset: Dataset, described: Built | Description
) -> dict[str, Any]:
    """See `diffcls.runs.run_row.FACTS`."""
    return {
        "n_asked": len(dataset),
        "n_classes": dataset.n_candidates,
        "setting": valid_text(described.setting or options.setting()),
        "supervision": valid_text(supervision_of(options, dataset, described)),
    }


def is_complete(dataset: Dataset, store: RecordStore, shard: tuple[int, int]) -> bool:
    """Whether the store holds a record of every image of a shard."""
    return all(dataset.items[i].image_id in store.done for i in shard_of(len(dataset), shard))


def warn_of_kept_settings(options: EvaluationOptions, header: dict[str, Any]) -> None:
    """Warn if the run keeps other settings of its first start than were requested."""
    for name, requested in (("batch_size", options.batch_size), ("threads", options.threads)):
        if requested not in (None, "auto") and int(requested) != header[name]:
            flag = f"--{name.replace('_', '-')}"
            warn(f"{flag} ignored: the run keeps the {header[name]} of its first start")
    if options.compile != header.get("compiled", False):
        form = "without" if options.compile else "with"
        warn(f"the run goes on {form} --compile, as at its first start")


def check_scored(row: dict[str, Any], shard: tuple[int, int]) -> None:
    """Raise RecordError for a run in a single shard without any scored image."""
    if row["n_scored"] == 0 and shard[1] == 1:
        raise RecordError("no image could be scored", todo="see the errors in the records")


def failed_images(row: dict[str, Any]) -> int:
    """The number of images of a finished run that could not be scored."""
    return int(row["n_asked"]) - int(row["n_scored"]) if row["status"] == "complete" else 0
