"""One run of an evaluation: the images without a record are scored, and the row is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from diffcls.classifiers.base import Built
from diffcls.data.open_set import OpenSet
from diffcls.data.own_data import Preamble
from diffcls.evaluation.cost import advice, fit_cost, measure
from diffcls.evaluation.plan import Plan
from diffcls.evaluation.rejection import report_rejection
from diffcls.evaluation.results import (
    LEADERBOARD,
    check_scored,
    header_of,
    put_row,
    warn_of_kept_settings,
)
from diffcls.evaluation.tracking import tracking
from diffcls.runs import leaderboard
from diffcls.runs.error_tables import ErrorArchive
from diffcls.runs.records import RecordStore
from diffcls.runs.sharding import shard_of
from diffcls.support.notices import warn

SELF_TEST_IMAGES = 4


def run(
    plan: Plan, preamble: Preamble | None = None, tables_per_run: bool = False
) -> dict[str, Any]:
    """Score the images that have no record yet, then put the run's row into the leaderboard.

    Args:
        plan: the evaluation.
        preamble: prints how a person's own data were understood, if there is an image to score.
        tables_per_run: whether ``--save-errors`` gets a folder per run, named by its fingerprint.
    """
    from diffcls.evaluation.executors.progress import Progress
    from diffcls.evaluation.executors.recording import execute, waiting

    options, built = plan.options, plan.built
    output = Path(options.output_dir)
    if (output / LEADERBOARD).exists():
        leaderboard.read(output / LEADERBOARD)  # refuse a damaged file before the work
    if built.search and not options.quiet and (cost := fit_cost(built)):
        verb = "calibrated" if built.rejection else "fitted"
        each = cost.evaluations / len(plan.dataset)
        warn(
            f"{plan.spec.method} is {verb} first: {cost}; {each:,.0f} evaluations per image scored"
        )
    # refuses an impossible batch size, and damaged hashes, before anything is written
    proposed = header_of(plan)
    archive = _archive(plan, tables_per_run)
    with RecordStore(output, plan.spec, plan.shard, plan.dataset) as store:
        header = store.header(proposed)
        warn_of_kept_settings(options, header)
        built = plan.executor.with_settings(built, plan.spec.method, options, plan.prompts, header)
        positions = shard_of(len(plan.dataset), plan.shard)
        items = waiting(plan.dataset, store, positions, archive)
        ids = {plan.dataset.items[i].image_id for i in positions}
        stored = [one.without_scores() for one in store.records() if one.image_id in ids]
        if items:
            (preamble or Preamble()).print(options.dataset, plan.dataset, built.prompts)
            _before(plan, built, len(items))
        title = f"{plan.spec.dataset} {plan.spec.method}"
        with tracking(options, plan.spec, plan.shard, len(positions), stored) as trackers:
            progress = Progress(len(positions), stored, options.quiet, title, trackers.add)
            try:
                if items:  # a finished run needs no fitted method
                    execute(built.method, items, store, progress, archive)
            finally:
                progress.close()
                if built.method.batch_size < header["batch_size"]:  # for lack of memory
                    store.note_halved(built.method.batch_size)
            row = put_row(options, plan.dataset, plan.spec, plan.built, store, header)
            trackers.add_row(row)
        if isinstance(plan.dataset, OpenSet):
            report_rejection(plan, row, store, header["posterior_scale"])
    check_scored(row, plan.shard)
    return row


def _before(plan: Plan, built: Built, images: int) -> None:
    """Test the model and report the cost, before a long run."""
    options, dataset = plan.options, plan.dataset
    if options.check_model:
        step = max(1, len(dataset) // SELF_TEST_IMAGES)
        built.method.check(dataset.items[::step][:SELF_TEST_IMAGES])
    if not built.search:  # one pass per image: only a fit is worth an estimate
        cost = fit_cost(built)
        if cost is not None and not options.quiet:
            warn(f"{plan.spec.method} is fitted first: {cost}")
        return
    cost_of_images = measure(dataclasses.replace(plan, built=built), images)
    if not options.quiet:
        warn(str(cost_of_images))
    if not options.budget and (long := advice(cost_of_images.seconds, built.search)):
        warn(long)


def _archive(plan: Plan, per_run: bool) -> ErrorArchive | None:
    if plan.options.save_errors is None:
        return None
    run = {
        "fingerprint": plan.spec.fingerprint,
        "spec": plan.spec.as_dict(),
        **{name: values.tolist() for name, values in plan.built.draws.items()},
    }
    folder = Path(plan.options.save_errors)
    return ErrorArchive(
        folder / plan.spec.fingerprint if per_run else folder,
        run,
        plan.built.timesteps,
        plan.built.prompts.class_names,
        (item.image_id for item in plan.dataset.items),
    )
