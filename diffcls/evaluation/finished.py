"""Finished runs: their rows, from the records alone, without loading a model or torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffcls.classifiers import METHODS
from diffcls.classifiers.base import Description
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts, spec_of
from diffcls.evaluation.results import (
    LEADERBOARD,
    check_scored,
    is_complete,
    put_row,
    warn_of_kept_settings,
)
from diffcls.evaluation.tracking import tracking
from diffcls.runs import leaderboard
from diffcls.runs.header import read_header
from diffcls.runs.records import RecordStore
from diffcls.runs.sharding import shard_of
from diffcls.runs.spec import RunSpec
from diffcls.support.errors import RecordError


def finished_row(
    method: str,
    options: EvaluationOptions,
    dataset: Dataset,
    subset: str,
    shard: tuple[int, int],
) -> dict[str, Any] | None:
    """The row of a run whose shard is complete, also put into the leaderboard; else None.

    None, too, if the run that the options describe depends on the loaded model.

    Raises:
        RecordError: for a leaderboard or records that cannot be read, or without a scored image.
        UsageError: for a shard that another process writes.
    """
    if options.dry_run or options.budget or options.save_errors:
        return None
    output = Path(options.output_dir)
    if not (output / "runs").is_dir():
        return None
    dataset_spec = catalog.find(options.dataset)
    prompts = build_prompts(options, dataset)
    description = METHODS.load(method).describe(options, dataset_spec, prompts)
    if description is None:
        return None
    spec = _stored_spec(method, options, dataset, subset, description)
    if spec is None:
        return None
    if (output / LEADERBOARD).exists():
        leaderboard.read(output / LEADERBOARD)
    with RecordStore(output, spec, shard, dataset) as store:
        if not is_complete(dataset, store, shard):
            return None
        header = read_header(store.folder / "run.json")
        warn_of_kept_settings(options, header)
        row = put_row(options, dataset, spec, description, store, header)
        with tracking(options, spec, shard, len(shard_of(len(dataset), shard))) as trackers:
            trackers.add_row(row)
    check_scored(row, shard)
    return row


def _stored_spec(
    method: str,
    options: EvaluationOptions,
    dataset: Dataset,
    subset: str,
    description: Description,
) -> RunSpec | None:
    """The specification of a stored run that the options describe; None if there is none.

    Everything but the image size is known from the description. If the model's own size was
    requested, it is that of a stored run of the same model with the same request.
    """
    for path in sorted((Path(options.output_dir) / "runs").glob("*/run.json")):
        try:
            header = read_header(path)
            if header.get("img_size", "unknown") != options.img_size:
                continue
            img_size = int(header["spec"]["img_size"])
        except (RecordError, KeyError, TypeError, ValueError):
            continue  # resuming that run reports the error in its header
        spec = spec_of(method, options, dataset, subset, description, img_size)
        if spec.as_dict() == header["spec"] and spec.fingerprint == path.parent.name:
            return spec
    return None
