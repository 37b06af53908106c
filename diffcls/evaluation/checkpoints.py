"""Comparison of checkpoints: their metrics in one table, with paired tests between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from diffcls.data.option_use import root_for
from diffcls.evaluation.checkpoint_files import Checkpoint, autoencoder, find_checkpoints
from diffcls.evaluation.checkpoint_options import CLASSIFICATION, CheckpointOptions
from diffcls.metrics.statistics import mcnemar_exact
from diffcls.runs.record import read_records
from diffcls.runs.spec import SCORING_VERSION
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import write_text
from diffcls.support.hashing import hash_json
from diffcls.support.signatures import takes
from diffcls.training.validation import CURVE_DRAWS, CURVE_IMAGES

Row = dict[str, Any]


@dataclass(frozen=True)
class CheckpointTable:
    """Compared checkpoints.

    Args:
        rows: one per checkpoint, in order. Of each accuracy M: ``M``, ``M_ci_low``, ``M_ci_high``
            (Wilson, 95 %), ``M_n_asked``, ``M_n_scored``; on the images that both have:
            ``M_difference`` from the row before with McNemar's exact ``M_p_previous``, and
            ``M_p_last`` against the last row. ``curve_accuracy`` is the training's own figure.
        metrics: the metrics, in order.
        notes: what a reader of the table must know.
    """

    rows: list[Row]
    metrics: tuple[str, ...]
    notes: tuple[str, ...] = ()


@takes(CheckpointOptions)
def compare_checkpoints(options: CheckpointOptions) -> CheckpointTable:
    """Measure checkpoints, or resume, and compare them on the same images and draws.

    Args:
        options: the fields of `CheckpointOptions`, as keyword arguments.

    Raises:
        DiffclsError: see `diffcls.evaluation.run.run_evaluation`.
    """
    checkpoints = find_checkpoints(options.checkpoints)
    dataset = options.dataset or _shared_dataset(checkpoints)
    _check_root(options, dataset)
    seed = _shared_seed(checkpoints) if options.seed is None else options.seed
    rows: list[Row] = [
        {"checkpoint": c.name, "model": c.model, "training_images": c.images} for c in checkpoints
    ]
    for metric in options.metrics:
        if metric in CLASSIFICATION:
            _add_accuracies(metric, rows, options, CLASSIFICATION[metric] or dataset, seed)
        else:
            measure = _bits_per_dim if metric == "bits_per_dim" else _fid
            for row in rows:
                row |= _stored(measure, row, options, dataset, seed)
    if "accuracy" in options.metrics:
        for row, checkpoint in zip(rows, checkpoints, strict=True):
            same = _is_curve(options, seed, dataset, checkpoint)
            row["curve_accuracy"] = checkpoint.curve_accuracy if same else None
    return CheckpointTable(rows, tuple(options.metrics), tuple(_notes(rows, options, checkpoints)))


def _check_root(options: CheckpointOptions, dataset: str) -> None:
    """Refuse ``data_root`` where none of the data sets reads it."""
    names = {CLASSIFICATION.get(metric) or dataset for metric in options.metrics}
    if options.data_root is not None and not any(root_for(n, options.data_root) for n in names):
        raise UsageError(
            f"--data-root is not read by {', '.join(sorted(names))}", todo="remove --data-root"
        )


def _shared_dataset(checkpoints: Sequence[Checkpoint]) -> str:
    names = {c.card.get("measured_on") for c in checkpoints}
    (name,) = names if len(names) == 1 else (None,)
    if name is None:
        raise UsageError(
            "the checkpoints name no common data set",
            given=sorted(map(str, names)),
            todo="choose one with --dataset",
        )
    return str(name)


def _shared_seed(checkpoints: Sequence[Checkpoint]) -> int:
    seeds = {c.card.get("seed") for c in checkpoints}
    seed = seeds.pop()
    return seed if not seeds and isinstance(seed, int) else 0


def _is_curve(options: CheckpointOptions, seed: int, dataset: str, checkpoint: Checkpoint) -> bool:
    """Whether images and draws are those of the training's curve."""
    curve = (checkpoint.card.get("measured_on"), checkpoint.card.get("seed"), "validation")
    same = (dataset, seed, options.split) == curve
    return same and (options.limit, options.draws) == (CURVE_IMAGES, CURVE_DRAWS)


def _add_accuracies(
    metric: str, rows: Sequence[Row], options: CheckpointOptions, dataset: str, seed: int
) -> None:
    from diffcls.evaluation.run import run_evaluation
    from diffcls.support.notices import warn

    correct: list[dict[str, bool]] = []
    for number, row in enumerate(rows, start=1):
        if not options.quiet:
            warn(f"{metric} of {row['checkpoint']}, {number} of {len(rows)}")
        (measured,) = run_evaluation(
            dataset=dataset,
            data_root=root_for(dataset, options.data_root),
            split=options.split,
            model=row["model"],
            draws=options.draws,
            limit=options.limit,
            seed=seed,
            device=options.device,
            dtype=options.dtype,
            batch_size=options.batch_size,
            threads=options.threads,
            output_dir=options.output_dir,
            shard="0/1",  # accuracies are compared on all images, under a launcher too
            quiet=options.quiet,
            command="python -m diffcls.checkpoints ...",
        )
        row |= {"dataset": dataset} if metric == "accuracy" else {}
        row |= {"split": options.split, "seed": seed, metric: measured["accuracy"]}
        for name in ("ci_low", "ci_high", "n_asked", "n_scored", "fingerprint"):
            row[f"{metric}_{name}"] = measured[name]
        correct.append(_correct(Path(options.output_dir), measured["fingerprint"]))
    rows[0][f"{metric}_difference"] = rows[0][f"{metric}_p_previous"] = None
    for (before, after), row in zip(pairwise(correct), rows[1:], strict=True):
        row[f"{metric}_difference"], row[f"{metric}_p_previous"] = paired(before, after)
    for answers, row in zip(correct, rows, strict=True):
        last = row is rows[-1]
        row[f"{metric}_p_last"] = None if last else paired(answers, correct[-1])[1]


def _correct(output: Path, fingerprint: str) -> dict[str, bool]:
    """Image id -> whether the run's answer is right, of all images that could be scored."""
    records = [
        record
        for path in sorted((output / "runs" / fingerprint).glob("records-*.jsonl"))
        for record in read_records(path)
    ]
    return {r.image_id: r.ranking[0] == r.label for r in records if r.error is None}


def paired(
    before: Mapping[str, bool], after: Mapping[str, bool]
) -> tuple[float | None, float | None]:
    """Difference in accuracy and McNemar's exact p, on the images of both; None without any."""
    shared = sorted(before.keys() & after.keys())
    if not shared:
        return None, None
    a, b = ([answers[image] for image in shared] for answers in (before, after))
    return (sum(b) - sum(a)) / len(shared), mcnemar_exact(a, b)


def _stored(
    measure: Callable[..., Row], row: Row, options: CheckpointOptions, dataset: str, seed: int
) -> Row:
    """The stored result of a measurement, which is made if it is missing."""
    from diffcls.models import loading

    revision = loading.read_card(loading.find(row["model"])).revision
    settings: Row = {"dataset": dataset, "split": options.split, "seed": seed}
    settings["data_root"] = root_for(dataset, options.data_root)
    if measure is _fid:
        settings |= {"count": options.count, "extractor": options.extractor}
    else:
        settings["limit"] = options.limit
    identity = [measure.__name__, SCORING_VERSION, revision, settings]
    path = Path(options.output_dir) / "checkpoints" / f"{hash_json(identity)}.json"
    if not path.exists():
        machine = {"device": options.device, "threads": options.threads, "quiet": options.quiet}
        if options.batch_size is not None:
            machine["batch_size"] = options.batch_size
        path.parent.mkdir(parents=True, exist_ok=True)
        result = measure(model=row["model"], **settings, **machine)
        write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    try:
        stored: Row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"a stored result cannot be read ({error})", str(path), todo="delete it, then rerun"
        ) from error
    return stored


def _bits_per_dim(**options: Any) -> Row:
    from diffcls.generation.dataset_likelihood import estimate_likelihood

    result = estimate_likelihood(**options)
    stderr = result.stderr if result.n > 1 else None
    return {
        "bits_per_dim": result.value,
        "bits_per_dim_stderr": stderr,
        "bits_per_dim_n": result.n,
        "bits_per_dim_unit": result.unit,
        "bits_per_dim_latent": result.is_latent,
    }


def _fid(**options: Any) -> Row:
    from diffcls.generation.fidelity import measure_fidelity

    (result,) = measure_fidelity(metrics=("FID",), **options)
    return {
        "FID": result.metrics[0].value,
        "FID_n": result.n,
        "FID_extractor": result.extractor,
        "FID_guidance": result.guidance,
    }


def _notes(
    rows: Sequence[Row], options: CheckpointOptions, checkpoints: Sequence[Checkpoint]
) -> list[str]:
    notes = []
    for metric in (m for m in options.metrics if m in CLASSIFICATION):
        failed = [row for row in rows if row[f"{metric}_n_scored"] < row[f"{metric}_n_asked"]]
        if failed:
            notes.append(f"{metric}: images of {len(failed)} checkpoints could not be scored")
    latent = any(row.get("bits_per_dim_latent") for row in rows)
    if latent and len({autoencoder(c) for c in checkpoints}) > 1:
        notes.append("bits per dimension of models with different autoencoders are not comparable")
    return notes
