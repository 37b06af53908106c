"""A stored run opened once more: its method, with the run's threads and without downloads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from diffcls.data.dataset import Dataset
from diffcls.evaluation.options import EvaluationOptions
from diffcls.runs.stored import StoredRun
from diffcls.support.hub import offline

if TYPE_CHECKING:
    from diffcls.evaluation.plan import Plan


def reopened(run: StoredRun, dataset: Dataset, options: EvaluationOptions) -> Plan | str:
    """The plan of a run, its method in batches of the run's; or what has changed, as a sentence's
    end.

    Args:
        run: the run.
        dataset: its images.
        options: its options.

    Raises:
        DiffclsError: for a model that cannot be opened.
    """
    from diffcls.evaluation.plan import make_plan

    plan = make_plan(str(run.spec["method"]), options, dataset, str(run.spec["subset"]), (0, 1))
    if plan.spec.fingerprint != run.fingerprint:
        return "model, data or prompts are no longer those of the run"
    plan.built.method.batch_size = int(run.header["batch_size"])
    return plan


@contextmanager
def as_in(run: StoredRun) -> Iterator[None]:
    """Context in which images are scored as the run scored them, and nothing is downloaded."""
    with ExitStack() as stack:
        for context in (offline(), _quiet(), _threads(int(run.header["threads"]))):
            stack.enter_context(context)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that the run itself gave: they are not of the report."""
    logger = logging.getLogger("diffcls")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """The run's number of threads, which affects the last bits of its scores."""
    from diffcls.support.environment import denormals_flushed, set_threads, threads

    before = threads()
    set_threads(count)
    try:
        with denormals_flushed():
            yield
    finally:
        set_threads(before)
