"""One evaluation from options to rows: find, build, run, summarise."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from diffcls.classifiers import METHODS
from diffcls.classifiers.base import Built
from diffcls.data import catalog
from diffcls.evaluation.cost import advice, estimate, fit, measure
from diffcls.evaluation.executors.serial import ErrorArchive, Progress, execute, waiting
from diffcls.evaluation.plan import (
    Plan,
    check_names,
    choose_images,
    make_plan,
    read_options,
    shard_from,
)
from diffcls.runs import leaderboard
from diffcls.runs.records import RecordStore, shard_of
from diffcls.support.environment import (
    clock,
    commit,
    denormals_flushed,
    describe_device,
    set_threads,
    threads,
    versions,
)
from diffcls.support.errors import RecordError, UsageError

Row = dict[str, Any]
BOARD = "leaderboard.csv"
OWN = "model trained on this data set"
CHECKED = 4
"""Images that a model is tested on before it is used."""


def run_evaluation(**wishes: Any) -> list[Row]:
    """Evaluate one or more methods on a data set and put a row for each into the leaderboard.

    Args:
        wishes: the fields of `diffcls.classifiers.options.EvaluationOptions`, which are the flags
            of ``python -m diffcls.evaluate``.

    Returns:
        One row a method, its keys the leaderboard's columns. With ``dry_run`` nothing is written,
        and each row is the resolved spec with the estimated cost.

    Raises:
        DiffclsError: see `diffcls.support.errors`; the same call resumes a run that was cut off.
    """
    options = read_options(wishes)
    check_names(options)
    shard = shard_from(options, os.environ)
    dataset, subset = choose_images(options)
    rows = []
    with denormals_flushed():
        for name in options.method:
            set_threads(options.threads)
            plan = make_plan(name, options, dataset, subset, shard)
            if options.budget and plan.built.search:
                plan = fit(plan, options.budget)
            rows.append(estimate(plan) if options.dry_run else run(plan))
    return rows


def run(plan: Plan) -> Row:
    """Score what the store does not hold yet, then put the run's row into the leaderboard."""
    options, built = plan.options, plan.built
    output = Path(options.output_dir)
    if (output / BOARD).exists():
        leaderboard.read(output / BOARD)  # one that is damaged is refused now, not after the work
    archive = _archive(plan)
    with RecordStore(output, plan.spec, plan.shard) as store:
        header = store.header(_header(plan))
        for name, asked in (("batch_size", options.batch_size), ("threads", options.threads)):
            if asked not in (None, "auto") and int(asked) != header[name]:
                warn(f"the run goes on with the {name} it was begun with: {header[name]}")
        if header["threads"] != threads():
            set_threads(header["threads"])
            # prompts were encoded with other threads, which touches their last bits
            kind = METHODS.load(plan.spec.method)
            built = kind.build(options, catalog.find(options.dataset), plan.prompts)
        built.method.batch_size = int(header["batch_size"])
        mine = shard_of(len(plan.dataset), plan.shard)
        items = waiting(plan.dataset, store, mine, archive)
        ids = {plan.dataset.items[i].image_id for i in mine}
        held = [record for record in store.records() if record.image_id in ids]
        if items:
            _before(plan, built, len(items))
        title = f"{plan.spec.dataset} {plan.spec.method}"
        progress = Progress(len(mine), held, options.quiet, title)
        try:
            if items:  # a finished run has nothing to learn for
                execute(built.method, items, store, progress, archive)
        finally:
            progress.close()
        row = _put_row(plan, store, header)
    if row["n_scored"] == 0 and plan.shard[1] == 1:
        raise RecordError("no image could be scored", todo="see the errors in the records")
    return row


def _before(plan: Plan, built: Built, images: int) -> None:
    """What is worth knowing before hours are spent: whether the model is sound, and the cost."""
    options, dataset = plan.options, plan.dataset
    if options.check_model:
        step = max(1, len(dataset) // CHECKED)
        built.method.check(dataset.items[::step][:CHECKED])
    if not built.search:
        return  # each image is looked at once: that costs nothing worth telling
    cost = measure(dataclasses.replace(plan, built=built), images)
    if not options.quiet:
        warn(str(cost))
    if not options.budget and (long := advice(cost)):
        warn(long)


def _put_row(plan: Plan, store: RecordStore, header: dict[str, Any]) -> Row:
    """The run's row, from the records of all shards, in the leaderboard as well."""
    made: list[Row] = []

    def rows() -> list[Row]:
        made[:] = [
            leaderboard.summarise(
                store.records(),
                _metadata(plan, header),
                n_asked=len(plan.dataset),
                posterior_scale=header["posterior_scale"],
            )
        ]
        return made

    leaderboard.upsert(Path(plan.options.output_dir) / BOARD, rows)
    return made[0]


def _archive(plan: Plan) -> ErrorArchive | None:
    if plan.options.save_errors is None:
        return None
    if not plan.built.search:
        raise UsageError(
            f"the method {plan.spec.method!r} has no error tables", given="--save-errors"
        )
    run = {
        "fingerprint": plan.spec.fingerprint,
        "spec": plan.spec.as_dict(),
        **{name: values.tolist() for name, values in plan.built.draws.items()},
    }
    return ErrorArchive(
        Path(plan.options.save_errors),
        run,
        plan.built.timesteps,
        plan.built.prompts.class_names,
    )


def _header(plan: Plan) -> dict[str, Any]:
    return {
        "batch_size": plan.built.method.batch_size,
        "threads": threads(),
        "posterior_scale": plan.built.method.posterior_scale,
        "device": describe_device(plan.built.device),
        "versions": versions(),
        "commit": commit(),
        "command": plan.options.command,
        "date": clock(),
    }


def _metadata(plan: Plan, header: dict[str, Any]) -> Row:
    # where, with what and when: as the run was begun, whoever only looks at it later
    begun = {name: header[name] for name in ("device", "versions", "commit", "command", "date")}
    spec, card = plan.spec, plan.built.card
    own = card.has_seen(spec.dataset)
    return {
        "fingerprint": spec.fingerprint,
        "dataset": spec.dataset,
        "split": spec.split,
        "n_classes": plan.dataset.n_candidates,
        "method": spec.method,
        "model": spec.model,
        "revision": spec.model_revision,
        "search": spec.search,
        "setting": plan.built.setting or plan.options.setting(),
        "supervision": plan.built.supervision or (OWN if own else "zero-shot"),
        "seed": spec.seed,
        "dtype": spec.dtype,
        **begun,
    }


def failed_images(row: Row) -> int:
    """How many images of a finished run could not be scored."""
    return int(row["n_asked"]) - int(row["n_scored"]) if row["status"] == "complete" else 0


def warn(text: str) -> None:
    """One line to stderr."""
    print(f"diffcls: {text}", file=sys.stderr)
