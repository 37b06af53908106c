"""Evaluation from options to rows: every combination is checked, then run or resumed."""

from __future__ import annotations

import contextlib
import logging
import os
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffcls.data.dataset import Dataset
from diffcls.data.open_set import OpenSet, open_set
from diffcls.data.own_data import Preamble
from diffcls.evaluation.combinations import (
    Combinations,
    EvaluationArguments,
    Run,
    check_each,
    read_combinations,
)
from diffcls.evaluation.cost import Cost, estimate, fit, measure
from diffcls.evaluation.executors import EXECUTORS
from diffcls.evaluation.executors.base import Executor
from diffcls.evaluation.finished import finished_row
from diffcls.evaluation.memory import describe_memory, memory_of
from diffcls.evaluation.multi_label import evaluate_multi_label, prepare
from diffcls.evaluation.one_run import run
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import Plan, build_prompts, check_names, choose_images, make_plan
from diffcls.evaluation.total_cost import TotalCost
from diffcls.models.kept import models_kept
from diffcls.runs import leaderboard
from diffcls.runs.sharding import shard_from
from diffcls.support.environment import denormals_flushed, set_threads, threads
from diffcls.support.errors import DataError, DiffclsError, UsageError
from diffcls.support.launchers import check_alone, launcher_of
from diffcls.support.notices import warn
from diffcls.support.signatures import takes

__all__ = ["FailedRuns", "run", "run_evaluation"]


class FailedRuns(DiffclsError):
    """Some of several runs failed; the others are done, and the same call resumes the failed ones.

    Args:
        rows: rows of the runs that did not fail, as `run_evaluation` returns them; an attribute.
        failures: each failed run, as its flags, with the message; an attribute.
        total: number of all runs; None: each of the others has one row.
    """

    def __init__(
        self, rows: list[dict[str, Any]], failures: dict[str, str], total: int | None = None
    ) -> None:
        self.rows, self.failures = rows, failures
        shown = "; ".join(f"{run}: {message}" for run, message in failures.items())
        total = len(rows) + len(failures) if total is None else total
        super().__init__(f"{len(failures)} of {total} runs failed: {shown}")


@takes(EvaluationArguments, read_combinations)
def run_evaluation(combinations: Combinations) -> list[dict[str, Any]]:
    """`diffcls.run_evaluation` without its report; results and errors are documented there.

    Args:
        combinations: the fields of `diffcls.evaluation.combinations.EvaluationArguments`, as
            keyword arguments.
    """
    check_each(combinations.runs, lambda one: check_names(one.options))
    options = combinations.options
    if options.multi_label:
        check_each(combinations.runs, lambda one: prepare(one.options))
        check_alone("--multi-label", os.environ)
        return _multi_label(combinations)
    shard = _shard(options)
    with models_kept(), contextlib.ExitStack() as stack:
        session = _Session(combinations, shard, stack)
        session.open_data()
        if combinations.is_single:
            rows = session.one_by_one()
        else:
            stack.enter_context(_warnings_once(session))
            rows = session.all()
    return rows + (leaderboard.published_rows() if options.published else [])


def _shard(options: EvaluationOptions) -> tuple[int, int]:
    """The part that this process scores; said where no flag names it."""
    # one driver gives work to all processes that a launcher describes
    environment = os.environ if options.executor == "serial" else {}
    flags = (options.shard, options.n_workers, options.worker_idx)
    i, n = shard_from(environment, *flags)
    launcher = launcher_of(environment) if flags == (None, None, None) else None
    if launcher is not None and n > 1:
        source = f"from {launcher.index} and {launcher.count}"
        warn(f"shard {i}/{n}, {source}; --shard 0/1 scores all images in this process")
    return i, n


def _multi_label(combinations: Combinations) -> list[dict[str, Any]]:
    """The rows of all combinations with several labels per image."""
    rows: dict[Run, list[dict[str, Any]]] = {}
    failures: dict[Run, str] = {}
    with models_kept():
        for one in combinations.by_model():
            with contextlib.nullcontext() if combinations.is_single else _noted(one, failures):
                rows[one] = evaluate_multi_label(one.options)
    done = [row for one in combinations.runs for row in rows.get(one, ())]
    if failures:
        raise FailedRuns(done, _named(combinations, failures), len(combinations.runs))
    return done


def _named(combinations: Combinations, failures: Mapping[Run, str]) -> dict[str, str]:
    """Each failed run as its flags; with its place, where models in memory are named alike."""
    runs = combinations.runs
    names = Counter(map(str, runs))
    places = {one: f" (run {i} of {len(runs)})" for i, one in enumerate(runs, start=1)}
    return {
        f"{one}{places[one] if names[str(one)] > 1 else ''}": failures[one]
        for one in runs
        if one in failures
    }


@dataclass
class _Session:
    """The runs of one call, with the data sets that they share."""

    combinations: Combinations
    shard: tuple[int, int]
    stack: contextlib.ExitStack
    images: dict[int, tuple[Dataset, str]] = field(default_factory=dict)
    preambles: dict[int, Preamble] = field(default_factory=dict)
    threads: int | None = None
    executor: Executor | None = None
    kind: object = None
    """Data set, model and method of the run that is planned or done now."""

    def open_data(self) -> None:
        """Open each data set once; with several runs, compare the prompts with the classes."""

        def check(one: Run) -> None:
            if one.data_options not in self.images:
                self.images[one.data_options] = choose_images(one.options)
                self.preambles[one.data_options] = Preamble()
                if not self.combinations.is_single:
                    build_prompts(one.options, self.images[one.data_options][0])

        check_each(self.combinations.runs, check)

    def one_by_one(self) -> list[dict[str, Any]]:
        """The rows of the methods of a single evaluation; the first failure ends it."""
        rows = []
        for one in self.combinations.runs:
            row = self._finished(one)
            rows.append(self._run(one) if row is None else row)
        return rows

    def all(self) -> list[dict[str, Any]]:
        """The rows of all combinations; one that fails does not end the others."""
        rows: dict[Run, dict[str, Any]] = {}
        failures: dict[Run, str] = {}
        for one in self.combinations.by_model():
            with _noted(one, failures):
                row = self._finished(one)
                if row is not None:
                    rows[one] = row
        left = [r for r in self.combinations.by_model() if r not in rows and r not in failures]
        if not self.combinations.options.dry_run:
            self._announce(left)
        for one in left:
            with _noted(one, failures, refusals=self.combinations.options.dry_run):
                rows[one] = self._run(one)
        done = [rows[one] for one in self.combinations.runs if one in rows]
        if self.combinations.options.dry_run:
            self._say(TotalCost.of_rows(done))
        if failures:
            raise FailedRuns(done, _named(self.combinations, failures))
        return done

    def _announce(self, left: list[Run]) -> None:
        """Plan each combination of data set, model and method: what cannot be is refused here.

        The model that runs first is planned last, so that it is loaded already. A model that cannot
        be opened is no refusal: its run will fail, and the others will not.
        """
        total = TotalCost()
        costs: dict[tuple[object, ...], Cost | None] = {}
        for one in reversed(left):
            if one.kind not in costs:
                costs[one.kind] = None
                with _noted(one, {}, refusals=True):
                    costs[one.kind] = measure(self._plan(one))
            total.add(costs[one.kind])
        if left:
            self._say(total)

    def _say(self, total: TotalCost) -> None:
        options = self.combinations.options
        if not options.quiet:
            text = total.text(options.budget, len(self.combinations.runs), options.search)
            warn(f"{self.combinations}: {text}")

    def _images(self, one: Run) -> tuple[Dataset, str]:
        dataset, subset = self.images[one.data_options]
        if isinstance(dataset, OpenSet):  # each seed withholds other labels
            dataset = open_set(dataset.whole, one.options.seed)
        return dataset, subset

    def _finished(self, one: Run) -> dict[str, Any] | None:
        dataset, subset = self._images(one)
        return finished_row(one.method, one.options, dataset, subset, self.shard)

    def _plan(self, one: Run) -> Plan:
        if self.threads is None:
            self.stack.enter_context(denormals_flushed())
            self.threads = threads()
        # a resumed run before this one may have set its own
        set_threads(one.options.threads or self.threads)
        self.kind = one.kind
        if self.executor is None:
            name = "serial" if one.options.dry_run else one.options.executor
            self.executor = self.stack.enter_context(EXECUTORS.load(name)(one.options))
        dataset, subset = self._images(one)
        return make_plan(one.method, one.options, dataset, subset, self.shard, self.executor)

    def _show_memory(self, one: Run) -> None:
        """Print the memory that a run will need, before its model is loaded."""
        prompts = build_prompts(one.options, self._images(one)[0])
        memory = memory_of(one.method, one.options, len(prompts))
        if memory is not None and not one.options.quiet:
            warn(describe_memory(memory))

    def _run(self, one: Run) -> dict[str, Any]:
        if one.options.dry_run:
            self._show_memory(one)
        plan = self._plan(one)
        if one.options.budget and plan.built.search:
            plan = fit(plan, one.options.budget)
        if one.options.dry_run:
            return estimate(plan)
        several = not self.combinations.is_single
        return run(plan, self.preambles[one.data_options], tables_per_run=several)


@contextlib.contextmanager
def _warnings_once(session: _Session) -> Iterator[None]:
    """Show a warning once per data set, model and method: each is planned, then run by seed."""
    seen: set[tuple[object, str]] = set()

    def is_new(record: logging.LogRecord) -> bool:
        shown = (session.kind, record.getMessage())
        is_new = shown not in seen
        seen.add(shown)
        return is_new

    handlers = logging.getLogger("diffcls").handlers
    for handler in handlers:
        handler.addFilter(is_new)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_new)


@contextlib.contextmanager
def _noted(one: Run, failures: dict[Run, str], refusals: bool = False) -> Iterator[None]:
    """Note the failure of a run instead of raising it.

    Args:
        one: the run.
        failures: receives the message.
        refusals: whether to raise what is no failure but a combination that cannot be.
    """
    try:
        yield
    except DiffclsError as error:
        if refusals and isinstance(error, UsageError | DataError):
            raise type(error)(f"{error}; refused for {one}") from error
        failures[one] = str(error)
    except Exception as error:
        memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        if not memory:  # a defect: its traceback is worth more than its message
            traceback.print_exc()
        failures[one] = "out of memory" if memory else f"{type(error).__name__}: {error}"
