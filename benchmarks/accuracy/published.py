"""The published table on Stable Diffusion 2.0-base: what is run, and what it gives and takes.

``python -m benchmarks.accuracy.published`` prints the table of hours that REPRODUCE.md holds.
Nothing here
was measured by this project: figures and costs are the published ones, and hours on other devices
are scaled from them as the table says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.core.benchmark import Benchmark, Run
from diffcls.data.catalog import SPECS
from diffcls.runs.leaderboard import published_rows
from diffcls.search.paper import Paper

Z = 1.96
SYSTEMATIC = 0.015
"""Accuracy that other weights' files, precisions and image decoders may shift, either way."""

RACING_SHARE = 10
"""Times fewer evaluations than the published stages that racing must make at least."""


@dataclass(frozen=True)
class Setting:
    """What of a data set was scored.

    Args:
        images: of the test split, or of the subset.
        classes: candidates.
        arguments: that choose the subset.
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

# half-precision matrix throughput in TFLOP/s without sparsity, from the makers' data sheets; the
# published cost was 30 s for a CIFAR-10 image of 2,750 evaluations on an A100
A100_RATE = 2_750 / 30
PEAK = {"A100": 312, "H100 SXM": 989, "RTX 4090": 165, "V100": 125}


def evaluations(name: str) -> int:
    """Evaluations an image that the published stages take, whatever the errors are."""
    stages, alive, before, total = SPECS[name].stages, SETTINGS[name].classes, 0, 0
    ends = Paper(stages.samples, stages.keep)._ends()
    for end, keep in zip(ends.tolist(), stages.keep, strict=True):
        total += alive * (end - before)
        alive, before = keep, end
    return total


def hours(name: str, device: str) -> float:
    """Hours of the published stages on one device, scaled by peak throughput from the A100's."""
    rate = A100_RATE * PEAK[device] / PEAK["A100"]
    return SETTINGS[name].images * evaluations(name) / rate / 3600


def figures(name: str) -> list[float]:
    """Published accuracies of the diffusion classifier, the later version's last."""
    rows = [
        row for row in published_rows() if row["dataset"] == name and row["method"] == "diffusion"
    ]
    return [row["accuracy"] for row in rows]


def tolerance(name: str) -> float:
    """Half the width of a 95 % interval at the images' number, and what is systematic."""
    p, n = figures(name)[0], SETTINGS[name].images
    return round(Z * math.sqrt(p * (1 - p) / n) + SYSTEMATIC, 3)


def published(name: str) -> Benchmark:
    """The benchmark of one column of the table: the published stages, and racing beside them."""
    subset = SETTINGS[name].arguments
    common = ("--dataset", name, "--model", "sd2-base", *subset)
    least = round(min(figures(name)) - tolerance(name), 3)
    return Benchmark(
        name=f"published_{name}",
        title=f"The published table: {name}",
        runs=(
            Run("paper", (*common, "--search", "paper"), at_least=least),
            Run(
                "racing",
                (*common, "--search", "racing", "--loss", SPECS[name].stages.loss),
                most_lost=0.01,
                most_evaluations=evaluations(name) / RACING_SHARE,
            ),
        ),
        reference="paper",
        source="Li et al. 2023, table 1 and the commands published with it; tolerance "
        f"{tolerance(name):.1%}",
        hours=round(hours(name, "A100"), 1),
        device="one A100, computed from the published cost, not measured here",
    )


def table() -> str:
    """What each column takes and gives, in Markdown."""
    lines = [
        "| benchmark | images | evaluations an image, `paper` | "
        + " | ".join(f"hours, {device}" for device in PEAK)
        + " | hours of `racing`, A100 | published | later version | tolerance |",
        "|---" * (7 + len(PEAK)) + "|",
    ]
    for name, setting in SETTINGS.items():
        first, *later = figures(name)
        cells = [
            f"`published_{name}`",
            f"{setting.images:,}",
            f"{evaluations(name):,}",
            *(f"{hours(name, device):,.0f}" for device in PEAK),
            f"< {hours(name, 'A100') / RACING_SHARE:,.0f}",
            f"{first:.1%}",
            f"{later[0]:.1%}" if later else "",
            f"± {tolerance(name):.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
