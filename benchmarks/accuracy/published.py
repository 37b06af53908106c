"""The published table on Stable Diffusion 2.0-base: runs, expected accuracies and costs.

One benchmark for each of its data sets; ``python -m benchmarks.accuracy.published`` prints the
table of REPRODUCE.md. None of its figures was measured by this project: accuracies and costs are
published, and hours on other devices are scaled from them by peak throughput.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.core.benchmark import Benchmark, Run
from diffcls.data.catalog import SPECS
from diffcls.data.specs import Stages
from diffcls.runs.leaderboard import published_rows
from diffcls.search.paper import Paper

NORMAL_QUANTILE = 1.96
SYSTEMATIC = 0.015
"""Shift in accuracy, either way, allowed to other weight files, precisions and image decoders."""

MIN_RACING_SPEEDUP = 10
"""Least ratio of the published stages' evaluations to those of racing."""


@dataclass(frozen=True)
class Setting:
    """The images of a data set that were scored in the published table.

    Args:
        images: number of images, of the test split or of its subset.
        classes: number of candidate classes.
        arguments: arguments of evaluate that select the subset.
    """

    images: int
    classes: int
    arguments: tuple[str, ...] = ()


SETTINGS = {
    "food101": Setting(25_250, 101),
    "cifar10": Setting(10_000, 10),
    "fgvc_aircraft": Setting(3_333, 100),
    "pets": Setting(3_669, 37),
    "flowers102": Setting(6_149, 102),
    "stl10": Setting(8_000, 10),
    "imagenet": Setting(4_000, 1000, ("--subset", "4-per-class")),
    "objectnet": Setting(18_574, 113),
}

# the published cost: 30 s for a CIFAR-10 image of 2,750 evaluations on an A100
A100_EVALUATIONS_PER_SECOND = 2_750 / 30
# half-precision matrix throughput without sparsity, from the makers' data sheets
PEAK_TFLOPS = {"A100": 312, "H100 SXM": 989, "RTX 4090": 165, "V100": 125}


def evaluations(name: str) -> int:
    """Evaluations per image of the published stages, which do not depend on the errors."""
    return stage_evaluations(SPECS[name].stages, SETTINGS[name].classes)


def stage_evaluations(stages: Stages, classes: int) -> int:
    """Evaluations per image of published stages among any number of classes."""
    alive, before, total = classes, 0, 0
    ends = Paper(stages.samples, stages.keep)._ends()
    for end, keep in zip(ends.tolist(), stages.keep, strict=True):
        total += alive * (end - before)
        alive, before = keep, end
    return total


def hours(name: str, device: str) -> float:
    """Hours of the published stages on one device, scaled from the A100 by peak throughput."""
    rate = A100_EVALUATIONS_PER_SECOND * PEAK_TFLOPS[device] / PEAK_TFLOPS["A100"]
    return SETTINGS[name].images * evaluations(name) / rate / 3600


def figures(name: str) -> list[float]:
    """Published accuracies of the diffusion classifier; that of the later version comes last."""
    rows = [
        row for row in published_rows() if row["dataset"] == name and row["method"] == "diffusion"
    ]
    return [row["accuracy"] for row in rows]


def tolerance(name: str) -> float:
    """Half the width of a 95 % interval on as many images, plus the systematic shift."""
    p, n = figures(name)[0], SETTINGS[name].images
    return round(NORMAL_QUANTILE * math.sqrt(p * (1 - p) / n) + SYSTEMATIC, 3)


def published(name: str) -> Benchmark:
    """The benchmark of one data set of the table: the published stages and racing."""
    subset = SETTINGS[name].arguments
    common = ("--dataset", name, "--model", "sd2-base", *subset)
    min_accuracy = round(min(figures(name)) - tolerance(name), 3)
    return Benchmark(
        name=f"published_{name}",
        title=f"The published table: {name}",
        runs=(
            Run("paper", (*common, "--search", "paper"), min_accuracy=min_accuracy),
            Run(
                "racing",
                (*common, "--search", "racing", "--loss", SPECS[name].stages.loss),
                max_drop=0.01,
                max_evaluations=evaluations(name) / MIN_RACING_SPEEDUP,
            ),
        ),
        reference="paper",
        source="Li et al. 2023, table 1 and the commands published with it; tolerance "
        f"{tolerance(name):.1%}",
    )


BENCHMARKS = {f"published_{name}": published(name) for name in SETTINGS}


def table() -> str:
    """Cost and published accuracy of each data set, as a Markdown table."""
    lines = [
        "| benchmark | images | evaluations per image, `paper` | "
        + " | ".join(f"hours, {device}" for device in PEAK_TFLOPS)
        + " | hours of `racing`, A100 | published | later version | tolerance |",
        "|---" * (7 + len(PEAK_TFLOPS)) + "|",
    ]
    for name, setting in SETTINGS.items():
        first, *later = figures(name)
        cells = [
            f"`published_{name}`",
            f"{setting.images:,}",
            f"{evaluations(name):,}",
            *(f"{hours(name, device):,.0f}" for device in PEAK_TFLOPS),
            f"< {hours(name, 'A100') / MIN_RACING_SPEEDUP:,.0f}",
            f"{first:.1%}",
            f"{later[0]:.1%}" if later else "",
            f"± {tolerance(name):.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
