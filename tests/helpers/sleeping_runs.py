"""Runs of a classifier that only sleeps, on Ray's workers: with a store of records, and a row.

``python -m helpers.sleeping_runs ADDRESS IMAGES PLAN`` is such a run, as a driver that may be
killed: PLAN is a `helpers.fault_shim.Plan` in JSON, whose ``root`` is the output folder, and
``started`` the workers' log.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from helpers.fault_shim import Plan, install

from benchmarks.speed.scale_measure import on_workers
from benchmarks.speed.sleeping import SleepingMethod, SleepingTask, sleeping_images, sleeping_plan
from diffcls.evaluation.one_run import run

WORKERS = 2
CLASSES, SECONDS, BATCH = 10, 0.01, 8


def sleeping_task(log: Path) -> SleepingTask:
    """The classifier, which logs the images that it begins."""
    return SleepingTask(CLASSES, SECONDS, BATCH, str(log))


def run_here(images: int, out: Path) -> dict[str, Any]:
    """The same run, serial and undisturbed; it does not sleep."""
    task = SleepingTask(CLASSES, 0.0, BATCH)
    # the time per image is part of no record, and the number of evaluations does not depend on it
    return run(sleeping_plan(SleepingMethod(task), sleeping_images(images, CLASSES), out))


def begun(log: Path) -> Counter[str]:
    """Image id -> how often workers began it."""
    keys = log.read_text(encoding="ascii").split() if log.exists() else []
    return Counter(f"test/{key}" for key in keys)


def main() -> None:
    """One run as a driver."""
    address, images, text = sys.argv[1:]
    plan = Plan(**json.loads(text))
    log, out = Path(plan.started), Path(plan.root)
    plan.started = ""  # of the serial run's own method
    dataset = sleeping_images(int(images), CLASSES)
    with on_workers(sleeping_task(log), WORKERS, dataset, address) as (method, _):
        install(plan)
        run(sleeping_plan(method, dataset, out))


if __name__ == "__main__":
    main()
    os._exit(0)  # the records are written; Ray's own end takes seconds
