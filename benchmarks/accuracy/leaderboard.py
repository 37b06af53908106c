"""Every method of the published table on the benchmarks that need no hub but for two sets' images.

``python -m benchmarks.run leaderboard`` writes results/LEADERBOARD.md; where CIFAR-10 and
Fashion-MNIST lie in a folder: ``python -m benchmarks.run leaderboard -- --data-root data``.
"""

from __future__ import annotations

from benchmarks.accuracy.leaderboard_report import write
from benchmarks.core.benchmark import Benchmark, Run
from diffcls.diffusion.timestep_allocation import EVEN

# what the project asks of its own models: the least accuracy of the diffusion method
ASKED = {
    "digits": 0.98,
    "fashion_mnist": 0.90,
    "cifar10": 0.50,
    "scenes/attributes": 0.95,
    "scenes/held-out": 0.85,
    "scenes/relations": None,
    "scenes/counting": None,
    "scenes/pairs": None,
}
IMAGES = 1000
"""Held-out images of a data set; digits has 500."""

# a row of the table: what it is called, and the arguments that make it
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
# the published even draws beside those of the model's card, where that takes minutes
EVEN_ON = ("digits", "fashion_mnist", "cifar10")
# each image of a pair has texts of its own to choose between: there are no classes to learn
OF_PAIRS = ("diffusion", "clip", "chance")


def runs() -> tuple[Run, ...]:
    """All runs, data set by data set."""
    found = []
    for dataset, least in ASKED.items():
        images = ("--limit", str(IMAGES)) if dataset in ("fashion_mnist", "cifar10") else ()
        for method, arguments in METHODS.items():
            if dataset == "scenes/pairs" and method not in OF_PAIRS:
                continue
            if method == "diffusion, even draws" and dataset not in EVEN_ON:
                continue
            label = f"{dataset}: {method}"
            asked = least if method == "diffusion" else None
            found.append(Run(label, ("--dataset", dataset, *images, *arguments), asked))
    return tuple(found)


BENCHMARK = Benchmark(
    name="leaderboard",
    title="Leaderboard",
    runs=runs(),
    reference="digits: diffusion",
    source="what the project asks of itself, set before any test image was scored",
    hours=2.75,
    device="2 CPU cores",
    write=write,
    file="LEADERBOARD.md",
)
