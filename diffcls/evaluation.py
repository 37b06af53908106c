"""One evaluation from options to rows: find, build, run, summarise."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls import leaderboard
from diffcls.data import sources, specs
from diffcls.data.dataset import Dataset
from diffcls.data.subsets import choose
from diffcls.errors import RecordError, UsageError, unknown_name
from diffcls.executor import ErrorArchive, Progress, execute, waiting
from diffcls.method import Built
from diffcls.methods import METHODS
from diffcls.methods.building import build_search, model_name, search_name
from diffcls.options import EvaluationOptions
from diffcls.prompts import PromptSet
from diffcls.provenance import (
    clock,
    commit,
    denormals_flushed,
    describe_device,
    set_threads,
    threads,
    versions,
)
from diffcls.records import RecordStore, RunSpec, shard_of

Row = dict[str, Any]
BOARD = "leaderboard.csv"


@dataclass(frozen=True)
class Plan:
    """An evaluation that is ready to run.

    Args:
        options: a person's wishes.
        dataset: the chosen images.
        prompts: candidate classes.
        built: the method.
        spec: what defines the numbers.
        shard: (i, n).
    """

    options: EvaluationOptions
    dataset: Dataset
    prompts: PromptSet
    built: Built
    spec: RunSpec
    shard: tuple[int, int]


def run_evaluation(**wishes: Any) -> list[Row]:
    """Evaluate one or more methods on a data set and put a row for each into the leaderboard.

    Args:
        wishes: the fields of `diffcls.options.EvaluationOptions`, which are the flags of
            ``python -m diffcls.evaluate``.

    Returns:
        One row a method, its keys the leaderboard's columns. With ``dry_run`` nothing is written,
        and each row is the resolved spec with the estimated cost.

    Raises:
        DiffclsError: see `diffcls.errors`; the same call resumes a run that was cut off.
    """
    options = _options(wishes)
    _check_names(options)
    spec = specs.find(options.dataset)
    shard = shard_from(options, os.environ)
    whole = sources.load(
        options.dataset,
        options.split,
        options.data_root,
        options.image_column,
        options.label_column,
    )
    dataset, subset = choose(whole, options.limit, options.subset, options.indices)
    prompts = _prompts(options, spec, dataset)
    rows = []
    with denormals_flushed():
        for name in options.method:
            set_threads(options.threads)
            built = METHODS.load(name)(options, spec, prompts)
            run_spec = _run_spec(name, options, subset, dataset, prompts, built)
            plan = Plan(options, dataset, prompts, built, run_spec, shard)
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
            build = METHODS.load(plan.spec.method)
            built = build(options, specs.find(options.dataset), plan.prompts)
        built.method.batch_size = int(header["batch_size"])
        mine = shard_of(len(plan.dataset), plan.shard)
        items = waiting(plan.dataset, store, mine, archive)
        ids = {plan.dataset.items[i].image_id for i in mine}
        held = [record for record in store.records() if record.image_id in ids]
        title = f"{plan.spec.dataset} {plan.spec.method}"
        progress = Progress(len(mine), held, options.quiet, title)
        try:
            execute(built.method, items, store, progress, archive)
        finally:
            progress.close()
        row = _put_row(plan, store, header)
    if row["n_scored"] == 0 and plan.shard[1] == 1:
        raise RecordError("no image could be scored", todo="see the errors in the records")
    return row


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


def estimate(plan: Plan) -> Row:
    """The resolved spec and what the shard would cost: all evaluations at most, one batch timed."""
    method = plan.built.method
    images = len(shard_of(len(plan.dataset), plan.shard))
    batches = -(-images * plan.built.most_evaluations // method.batch_size)
    return {
        "fingerprint": plan.spec.fingerprint,
        "spec": plan.spec.as_dict(),
        "images": images,
        "evaluations_per_image_at_most": plan.built.most_evaluations,
        "seconds_at_most": round(batches * method.seconds_a_batch(), 1),
        "device": describe_device(plan.built.device),
    }


def shard_from(options: EvaluationOptions, environment: Any) -> tuple[int, int]:
    """(i, n) from ``--shard``, ``--n-workers --worker-idx``, torchrun's or SLURM's variables.

    Raises:
        UsageError: for a shard that cannot be read, or outside 0 <= i < n.
    """
    if options.shard is not None:
        try:
            i, n = map(int, options.shard.split("/"))
        except ValueError:
            raise UsageError(
                "cannot read shard", given=options.shard, allowed="i/n, i from 0, such as 0/4"
            ) from None
    elif options.n_workers is not None or options.worker_idx is not None:
        if options.n_workers is None or options.worker_idx is None:
            raise UsageError("--n-workers and --worker-idx go together", allowed="both, or neither")
        i, n = options.worker_idx, options.n_workers
    else:
        i, n = 0, 1
        for rank, size in (
            ("RANK", "WORLD_SIZE"),
            ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
            ("SLURM_PROCID", "SLURM_NTASKS"),
        ):
            if rank in environment and size in environment:
                first = environment.get("SLURM_ARRAY_TASK_MIN", 0) if "ARRAY" in rank else 0
                i, n = int(environment[rank]) - int(first), int(environment[size])
                break
    shard_of(0, (i, n))  # checks the range
    return i, n


def _options(wishes: dict[str, Any]) -> EvaluationOptions:
    for name in ("method", "template", "stages", "n_samples", "to_keep"):
        value = wishes.get(name)
        if isinstance(value, str):
            value = (value,)
        if value is not None:
            wishes = {**wishes, name: tuple(value)}
    try:
        return EvaluationOptions(**wishes)
    except TypeError as error:
        raise UsageError(
            str(error).replace("EvaluationOptions.__init__()", "run_evaluation"),
            allowed=list(EvaluationOptions.__dataclass_fields__),
        ) from None


def _check_names(options: EvaluationOptions) -> None:
    """Everything that can be refused before anything heavy is loaded."""
    from diffcls.models.devices import check_dtype
    from diffcls.models.loading import find
    from diffcls.parameterization import LOSSES, WEIGHTINGS

    spec = specs.find(options.dataset)
    for name in options.method:
        METHODS[name]
    search_name(options)
    build_search(options, spec)
    find(model_name(options, spec))
    if options.weighting not in WEIGHTINGS:
        raise unknown_name("weighting", options.weighting, WEIGHTINGS)
    if options.loss and options.loss not in LOSSES:
        raise unknown_name("loss", options.loss, LOSSES)
    check_dtype(options.dtype)
    if options.prompts and options.template:
        raise UsageError("prompts given twice", allowed="--prompts, or --template")
    if options.noise_path and not Path(options.noise_path).is_file():
        raise UsageError("noise file not found", given=options.noise_path)


def _prompts(options: EvaluationOptions, spec: specs.DatasetSpec, dataset: Dataset) -> PromptSet:
    if options.prompts:
        return PromptSet.from_csv(options.prompts, dataset.class_names)
    return PromptSet.from_templates(
        dataset.class_names, options.template or spec.templates, dataset.prompt_names
    )


def _run_spec(
    method: str,
    options: EvaluationOptions,
    subset: str,
    dataset: Dataset,
    prompts: PromptSet,
    built: Built,
) -> RunSpec:
    return RunSpec(
        dataset=dataset.name,
        data_revision=dataset.revision,
        split=dataset.split,
        subset=subset,
        class_names=prompts.class_names,
        prompts=prompts.prompts,
        class_of=prompts.class_of,
        model=built.card.name,
        model_revision=built.card.revision,
        method=method,
        search=built.search,
        search_options=dict(built.search_options),
        img_size=built.img_size,
        loss=built.loss,
        weighting=options.weighting,
        seed=options.seed,
        dtype=built.dtype,
        noise=built.noise,
    )


def _archive(plan: Plan) -> ErrorArchive | None:
    if plan.options.save_errors is None:
        return None
    return ErrorArchive(
        Path(plan.options.save_errors),
        plan.spec.fingerprint,
        plan.built.timesteps,
        plan.prompts.class_names,
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
    own = spec.dataset in card.trained_on
    return {
        "fingerprint": spec.fingerprint,
        "dataset": spec.dataset,
        "split": spec.split,
        "n_classes": plan.prompts.n_classes,
        "method": spec.method,
        "model": spec.model,
        "revision": spec.model_revision,
        "search": spec.search,
        "setting": plan.options.setting(),
        "supervision": "model trained on this data set" if own else "zero-shot",
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
