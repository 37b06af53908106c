"""Knee: accuracy against evaluations where classes are nearly tied, on images of cifar10."""

from __future__ import annotations

from benchmarks.accuracy.digits import TARGETS
from benchmarks.core.benchmark import Benchmark, Run

IMAGES = ("--dataset", "cifar10", "--limit", "1000")
PAPER = "paper"

KNEE = Benchmark(
    name="knee",
    title="Accuracy against evaluations, 1,000 test images of cifar10",
    runs=(
        Run(PAPER, (*IMAGES, "--search", "paper")),
        Run("racing, the default", IMAGES, max_drop=0.01, max_evaluations=110),
        Run("racing, 100 draws", (*IMAGES, "--draws", "100"), max_drop=0.01),
    ),
    reference=PAPER,
    source=TARGETS,
    file="KNEE.md",
)
BENCHMARKS = {KNEE.name: KNEE}
