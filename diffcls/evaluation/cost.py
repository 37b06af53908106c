"""Cost of an evaluation on this device, and fitting it to a time budget."""

from __future__ import annotations

import bisect
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.classifiers.base import Built
from diffcls.classifiers.fitting import FitCost
from diffcls.classifiers.search_options import build_search, most_evaluations
from diffcls.data import catalog
from diffcls.data.subsets import choose
from diffcls.evaluation.memory import memory_of
from diffcls.evaluation.plan import Plan, choose_images, make_plan
from diffcls.evaluation.time_budget import SECONDS_PER_HOUR, read_time
from diffcls.runs.sharding import shard_of
from diffcls.support.environment import describe_device
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import locked, write_text
from diffcls.support.hashing import hash_json
from diffcls.support.options import flag_of
from diffcls.support.progress import describe_time

__all__ = ["Cost", "advice", "describe_time", "estimate", "fit", "measure", "read_time"]

MIN_DRAWS_PER_CLASS = 5
"""Draws per class below which a budget reduces the number of images instead."""


@dataclass(frozen=True)
class Cost:
    """Upper bound of the cost of a shard.

    Args:
        images: number of images of the shard.
        evaluations: forward passes per image at most.
        seconds: time at most, extrapolated from one timed batch.
        fit: cost of what the method fits beforehand; None if there is nothing to fit.
    """

    images: int
    evaluations: int
    seconds: float
    fit: FitCost | None = None

    @property
    def total_evaluations(self) -> int:
        """Forward passes of the denoiser at most, for all images and the fit."""
        return self.images * self.evaluations + (self.fit.evaluations if self.fit else 0)

    @property
    def total_seconds(self) -> float:
        """Time at most, with that of the fit."""
        return self.seconds + (self.fit.seconds if self.fit else 0.0)

    def __str__(self) -> str:
        return (
            f"{self.images:,} images × {self.evaluations:,} evaluations at most "
            f"= {self.images * self.evaluations:,}: {describe_time(self.seconds)} at most"
        )


def measure(plan: Plan, images: int | None = None) -> Cost:
    """The cost of the shard's images, or of `images` of them; times one batch."""
    method = plan.built.method
    if images is None:
        images = len(shard_of(len(plan.dataset), plan.shard))
    per_batch = method.seconds_per_batch()  # for lack of memory, it may halve the batch
    batches = -(-images * plan.built.most_evaluations // method.batch_size)
    seconds = batches * per_batch
    return Cost(images, plan.built.most_evaluations, seconds, fit_cost(plan.built))


def fit_cost(built: Built) -> FitCost | None:
    """The cost of what a method has to fit before its first image; None if there is nothing."""
    fitting = built.fitting
    return None if fitting is None or fitting.is_done() else fitting.cost()


def estimate(plan: Plan) -> dict[str, Any]:
    """The resolved specification and its cost: the row of a dry run."""
    cost = measure(plan)
    row = {
        "fingerprint": plan.spec.fingerprint,
        "spec": plan.spec.as_dict(),
        "images": cost.images,
        "evaluations_per_image_at_most": cost.evaluations,
        "seconds_at_most": round(cost.seconds, 1),
        "device": describe_device(plan.built.device),
        "classes": list(plan.dataset.class_names),
        "prompts": list(plan.built.prompts.prompts),
        "passed_over": dict(plan.dataset.passed_over),
    }
    if cost.seconds > 0 and plan.built.search:
        rate = cost.images * cost.evaluations / cost.seconds
        row["evaluations_per_second"] = float(f"{rate:.3g}")
    if plan.options.budget and (flags := fitted_flags(plan)) is not None:
        row["fitted"] = flags
    memory = memory_of(plan.spec.method, plan.options, len(plan.prompts))
    if memory is not None:
        row["memory"] = memory.as_dict()
    if cost.fit is not None:
        row.update(fit_evaluations=cost.fit.evaluations, fit_images=cost.fit.training_images)
        row.update(fit_seconds=round(cost.fit.seconds, 1))
    return row


def fitted_flags(plan: Plan) -> str | None:
    """The flags that give a plan's draws and images without ``--budget``, on any machine.

    None for a method without a search, and for a subset of images that ``--limit`` cannot name.
    """
    options, is_part = plan.options, plan.spec.subset != "all"
    if not plan.built.search or (is_part and (options.subset or options.indices)):
        return None
    given = {
        "draws": options.draws,
        "max_evaluations": options.max_evaluations,
        "limit": len(plan.dataset) if is_part else None,
    }
    return " ".join(f"{flag_of(name)} {value}" for name, value in given.items() if value)


def fit(plan: Plan, budget: str) -> Plan:
    """The same evaluation with fewer draws, then fewer images, so that it ends within the budget.

    Draws are reduced first, down to `MIN_DRAWS_PER_CLASS`; the published stages stay unchanged. The
    result is stored in the run's folder, so that the same command resumes with the same images and
    draws.

    Raises:
        UsageError: for a budget that cannot be read, or is too short for one image.
    """
    seconds = read_time(budget)
    fitted = _fit(plan, seconds) if plan.options.dry_run else _fit_once(plan, seconds)
    options = dataclasses.replace(plan.options, **fitted["options"])
    dataset, subset = plan.dataset, plan.spec.subset
    if fitted["images"] < len(dataset):
        if options.subset is None and options.indices is None:
            options = dataclasses.replace(options, limit=fitted["images"])
            dataset, subset = choose_images(options)
        else:
            dataset, subset = choose(dataset, limit=fitted["images"])
    if dataset is plan.dataset and options == plan.options:
        return plan
    return make_plan(plan.spec.method, options, dataset, subset, plan.shard, plan.executor)


def _fit_once(plan: Plan, seconds: float) -> dict[str, Any]:
    folder = Path(plan.options.output_dir) / "runs" / plan.spec.fingerprint
    name = hash_json([seconds, plan.shard[1]], 8)
    with locked(folder / f"budget-{name}.json") as path:  # the first of several shards wins
        if path.exists():
            return _read(path)
        fitted = _fit(plan, seconds)
        write_text(path, json.dumps(fitted) + "\n")
        return fitted


def _read(path: Path) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {"options": dict(stored["options"]), "images": int(stored["images"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"the stored fit to the budget cannot be read ({error})",
            given=str(path),
            todo="delete that file and rerun the command",
        ) from error


def _fit(plan: Plan, seconds: float) -> dict[str, Any]:
    """The options to change, and the number of images that fit."""
    method, most = plan.built.method, plan.built.most_evaluations
    workers = plan.shard[1]
    per_batch = method.seconds_per_batch()  # for lack of memory, it may halve the batch
    affordable = int(seconds / per_batch * method.batch_size) * workers
    images = len(plan.dataset)
    changes: dict[str, Any] = {}
    if images * most > affordable:
        changes = _fewer_draws(plan, affordable / images)
        options = dataclasses.replace(plan.options, **changes)
        _, search = build_search(options, catalog.find(options.dataset))
        most = most_evaluations(search, plan.built.prompts, options.aggregate)
        images = min(images, affordable // most)
    if images < 1:
        raise UsageError(
            "--budget is too short for one image",
            given=plan.options.budget,
            allowed=f"{describe_time(seconds * most / max(affordable, 1))} or more",
        )
    return {"options": changes, "images": images}


def _fewer_draws(plan: Plan, evaluations: float) -> dict[str, Any]:
    """The search's option that limits the evaluations per image; empty if it has none."""
    spec, name = catalog.find(plan.options.dataset), plan.built.search
    if name == "paper":
        return {}
    if name == "racing":  # its limit counts rows of the error table, of one or more prompts each
        rows, prompts = plan.prompts.n_classes, len(plan.built.prompts)
        if plan.options.aggregate == "prompts":
            rows = prompts
        if plan.options.aggregate == "rotate":
            prompts = rows
        return {
            "max_evaluations": max(MIN_DRAWS_PER_CLASS * rows, int(evaluations * rows / prompts))
        }

    def too_many(draws: int) -> bool:
        options = dataclasses.replace(plan.options, draws=draws)
        search = build_search(options, spec)[1]
        return most_evaluations(search, plan.built.prompts, options.aggregate) > evaluations

    draws = range(MIN_DRAWS_PER_CLASS, int(plan.built.search_options["draws"]) + 1)
    return {
        "draws": max(
            MIN_DRAWS_PER_CLASS, draws.start - 1 + bisect.bisect(draws, False, key=too_many)
        )
    }


def advice(seconds: float, search: str | None) -> str | None:
    """Advice for a work of more than an hour; None for a shorter one.

    Args:
        seconds: time at most.
        search: name of the search; None: the default, racing, which stops early.
    """
    if seconds <= SECONDS_PER_HOUR:
        return None
    time, ways = describe_time(seconds), "--limit, --budget 1h or --search racing"
    if search in (None, "racing"):
        time, ways = f"{time}, less as far as racing stops early", "--limit or --budget 1h"
    return (
        f"this may take {time}; to shorten it, use {ways}; "
        "it can be interrupted and resumed at any time"
    )
