"""Digits: racing against exhaustive search, over three seeds and two untrained templates."""

from __future__ import annotations

from benchmarks.core.benchmark import Benchmark, Run

TARGETS = "targets of the project, set before any test image was scored"

DIGITS = Benchmark(
    name="digits",
    title="Handwritten digits, 500 held-out images",
    runs=(
        Run("exhaustive, 40 draws", ("--search", "exhaustive", "--draws", "40"), min_accuracy=0.98),
        *(
            Run(
                f"racing, seed {seed}",
                ("--seed", str(seed)) if seed else (),
                min_accuracy=0.98,
                max_evaluations=55,
                min_p=0.05,
            )
            for seed in range(3)
        ),
        Run("racing, plain template", ("--template", "a photo of a {}."), max_drop=0.02),
        Run(
            "racing, unseen template",
            ("--template", "somebody's pencil sketch of the {} on brown paper"),
            max_drop=0.02,
        ),
        Run("halving", ("--search", "halving")),
    ),
    reference="exhaustive, 40 draws",
    source=TARGETS,
)
BENCHMARKS = {DIGITS.name: DIGITS}
