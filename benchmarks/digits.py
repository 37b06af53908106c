"""Digits: racing against the full score, three seeds, and templates nobody trained on."""

from __future__ import annotations

from benchmarks.benchmark import Benchmark, Run

EXPECTED = (0.985, 0.01)

BENCHMARK = Benchmark(
    name="digits",
    title="Handwritten digits, 500 held-out images",
    runs=(
        Run("exhaustive, 100 draws", ("--search", "exhaustive", "--draws", "100"), EXPECTED),
        Run("racing, seed 0", (), EXPECTED, 60),
        Run("racing, seed 1", ("--seed", "1"), EXPECTED, 60),
        Run("racing, seed 2", ("--seed", "2"), EXPECTED, 60),
        Run("racing, plain template", ("--template", "a photo of a {}."), (0.985, 0.02)),
        Run(
            "racing, unseen template",
            ("--template", "somebody's pencil sketch of the {} on brown paper"),
            (0.985, 0.02),
        ),
        Run("halving", ("--search", "halving")),
    ),
    reference="exhaustive, 100 draws",
    source="the model's own validation images, before any test image was scored",
    hours=0.3,
    device="2 CPU cores",
)
