"""Leaderboard: every method of the published table on the small benchmarks.

Their models are bundled. Images of CIFAR-10 and Fashion-MNIST come from the Hub, or from a local
folder: ``python -m benchmarks.run leaderboard -- --data-root data``.
"""

from __future__ import annotations

from benchmarks.accuracy.digits import TARGETS
from benchmarks.accuracy.leaderboard_report import write
from benchmarks.core.benchmark import Benchmark, Run
from diffcls.diffusion.timestep_allocation import EVEN

MIN_ACCURACY = {
    "digits": 0.98,
    "fashion_mnist": 0.90,
    "cifar10": 0.66,
    "scenes/attributes": 0.99,
    "scenes/held-out": 0.96,
    "scenes/relations": 0.80,
    "scenes/counting": 0.96,
    "scenes/pairs": 0.92,
}
"""Target of the diffusion method by data set; None: no target."""
IMAGES = 1000
"""Held-out images per data set; digits has 500."""

METHODS = {
    "diffusion": ("--method", "diffusion"),
    "diffusion, even draws": ("--method", "diffusion", "--allocation", EVEN),
    "clip": ("--method", "clip"),
    "sd-features": ("--method", "sd-features"),
    "synthetic": ("--method", "synthetic"),
    "classifier on labels": ("--method", "reference", "--reference", "classifier"),
    "nearest class mean": ("--method", "reference", "--reference", "nearest-mean"),
    "chance": ("--method", "reference", "--reference", "chance"),
}
"""Name of a table row -> its arguments of evaluate."""
EVEN_DRAWS_DATASETS = ("digits", "fashion_mnist", "cifar10")
"""Data sets on which the published, even timestep allocation is compared with the learned one."""
# the candidates of scenes/pairs are texts of the image itself: there are no classes to learn
PAIR_METHODS = ("diffusion", "clip", "chance")


def runs() -> tuple[Run, ...]:
    """All runs, grouped by data set."""
    all_runs = []
    for dataset, target in MIN_ACCURACY.items():
        images = ("--limit", str(IMAGES)) if dataset in ("fashion_mnist", "cifar10") else ()
        for method, arguments in METHODS.items():
            if dataset == "scenes/pairs" and method not in PAIR_METHODS:
                continue
            if method == "diffusion, even draws" and dataset not in EVEN_DRAWS_DATASETS:
                continue
            label = f"{dataset}: {method}"
            min_accuracy = target if method == "diffusion" else None
            all_runs.append(Run(label, ("--dataset", dataset, *images, *arguments), min_accuracy))
    return tuple(all_runs)


LEADERBOARD = Benchmark(
    name="leaderboard",
    title="Leaderboard",
    runs=runs(),
    reference="digits: diffusion",
    source=TARGETS,
    write=write,
    file="LEADERBOARD.md",
)
BENCHMARKS = {LEADERBOARD.name: LEADERBOARD}
