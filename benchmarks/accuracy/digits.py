"""Digits: racing against the full score, three seeds, and templates nobody trained on."""

from __future__ import annotations

from benchmarks.core.benchmark import Benchmark, Run

BENCHMARK = Benchmark(
    name="digits",
    title="Handwritten digits, 500 held-out images",
    runs=(
        Run("exhaustive, 40 draws", ("--search", "exhaustive", "--draws", "40"), at_least=0.98),
        *(
            Run(
                f"racing, seed {seed}",
                ("--seed", str(seed)) if seed else (),
                at_least=0.98,
                most_evaluations=55,
                least_p=0.05,
            )
            for seed in range(3)
        ),
        Run("racing, plain template", ("--template", "a photo of a {}."), most_lost=0.02),
        Run(
            "racing, unseen template",
            ("--template", "somebody's pencil sketch of the {} on brown paper"),
            most_lost=0.02,
        ),
        Run("halving", ("--search", "halving")),
    ),
    reference="exhaustive, 40 draws",
    source="what the project asks of itself, set before any test image was scored",
    hours=0.1,
    device="2 CPU cores",
)
