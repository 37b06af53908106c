"""One evaluation from options to rows: check, build, run, summarise."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from diffcls.classifiers import METHODS
from diffcls.classifiers.base import Built
from diffcls.data import catalog
from diffcls.data.open_set import OpenSet
from diffcls.evaluation.cost import advice, estimate, fit, measure
from diffcls.evaluation.finished import finished_row
from diffcls.evaluation.multi_label import evaluate_multi_label
from diffcls.evaluation.options import EvaluationOptions, read_options
from diffcls.evaluation.own_data import Preamble
from diffcls.evaluation.plan import Plan, check_names, choose_images, make_plan
from diffcls.evaluation.rejection import report_rejection
from diffcls.evaluation.results import (
    LEADERBOARD,
    check_scored,
    header_of,
    put_row,
    warn,
    warn_of_kept_settings,
)
from diffcls.evaluation.supervision import supervision_of
from diffcls.runs import leaderboard
from diffcls.runs.error_tables import ErrorArchive
from diffcls.runs.records import RecordStore
from diffcls.runs.sharding import shard_from, shard_of
from diffcls.support.environment import denormals_flushed, set_threads, threads
from diffcls.support.errors import UsageError
from diffcls.support.signatures import takes

SELF_TEST_IMAGES = 4


@takes(EvaluationOptions, read_options)
def run_evaluation(options: EvaluationOptions) -> list[dict[str, Any]]:
    """Evaluate one or more methods on a data set and put a row for each into the leaderboard.

    Args:
        options: the fields of `diffcls.evaluation.options.EvaluationOptions`, as keyword
            arguments; they are the flags of ``python -m diffcls.evaluate``.

    Returns:
        One row per method, its keys the leaderboard's columns; with ``published``, the published
        rows after them. With ``dry_run`` nothing is written, and each row is the resolved
        specification with the estimated cost.

    Raises:
        DiffclsError: see `diffcls.support.errors`; the same call resumes an interrupted run.
    """
    check_names(options)
    if options.multi_label:
        return evaluate_multi_label(options)
    shard = shard_from(os.environ, options.shard, options.n_workers, options.worker_idx)
    dataset, subset = choose_images(options)
    rows: list[dict[str, Any]] = []
    preamble = Preamble()
    with contextlib.ExitStack() as loaded:
        for name in options.method:
            row = finished_row(name, options, dataset, subset, shard)
            if row is None:
                loaded.enter_context(denormals_flushed())
                set_threads(options.threads)
                plan = make_plan(name, options, dataset, subset, shard)
                if options.budget and plan.built.search:
                    plan = fit(plan, options.budget)
                row = estimate(plan) if options.dry_run else run(plan, preamble)
            rows.append(row)
    return rows + (leaderboard.published_rows() if options.published else [])


def run(plan: Plan, preamble: Preamble | None = None) -> dict[str, Any]:
    """Score the images that have no record yet, then put the run's row into the leaderboard.

    Args:
        plan: the evaluation.
        preamble: prints how a person's own data were understood, if there is an image to score.
    """
    from diffcls.evaluation.executors.serial import Progress, execute, waiting

    options, built = plan.options, plan.built
    output = Path(options.output_dir)
    if (output / LEADERBOARD).exists():
        leaderboard.read(output / LEADERBOARD)  # refuse a damaged file before the work
    proposed = header_of(plan)  # refuses an impossible batch size before anything is written
    archive = _archive(plan)
    supervision_of(options, plan.dataset, built)  # refuse damaged hashes before the work
    with RecordStore(output, plan.spec, plan.shard, plan.dataset) as store:
        header = store.header(proposed)
        warn_of_kept_settings(options, header)
        if header["threads"] != threads():
            set_threads(header["threads"])
            # prompts were encoded with other threads, which affects their last bits
            kind = METHODS.load(plan.spec.method)
            built = kind.build(options, catalog.find(options.dataset), plan.prompts)
        built.method.batch_size = int(header["batch_size"])
        positions = shard_of(len(plan.dataset), plan.shard)
        items = waiting(plan.dataset, store, positions, archive)
        ids = {plan.dataset.items[i].image_id for i in positions}
        stored = [record for record in store.records() if record.image_id in ids]
        if items:
            (preamble or Preamble()).print(options.dataset, plan.dataset, built.prompts)
            _before(plan, built, len(items))
        title = f"{plan.spec.dataset} {plan.spec.method}"
        progress = Progress(len(positions), stored, options.quiet, title)
        try:
            if items:  # a finished run needs no fitted method
                execute(built.method, items, store, progress, archive)
        finally:
            progress.close()
        row = put_row(options, plan.dataset, plan.spec, plan.built, store, header)
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
    if not built.search:
        return  # one pass per image: not worth an estimate
    cost = measure(dataclasses.replace(plan, built=built), images)
    if not options.quiet:
        warn(str(cost))
    if not options.budget and (long := advice(cost)):
        warn(long)


def _archive(plan: Plan) -> ErrorArchive | None:
    if plan.options.save_errors is None:
        return None
    if not plan.built.search:
        raise UsageError(
            f"--save-errors does not apply: the method {plan.spec.method!r} has no error tables",
            todo="remove --save-errors, or choose --method diffusion",
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
        (item.image_id for item in plan.dataset.items),
    )
