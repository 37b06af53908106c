"""Registry of all benchmarks: the list that ``python -m benchmarks.run`` prints and runs.

``python -m benchmarks.core.registry`` prints it as the table of benchmarks/README.md.
"""

from __future__ import annotations

import importlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.accuracy import published
from benchmarks.core.flags import REFERENCE
from diffcls.support.errors import unknown_name

TWO_CORES = "2 CPU cores"
HOW_IT_WORKS = "forward-chain reverse-chain bound-terms guidance latent-space race".split()


@dataclass(frozen=True)
class Entry:
    """One benchmark.

    Args:
        name: name on the command line.
        question: the question that it answers.
        hours: rough duration in hours, for most estimated from the committed throughput.
        device: device of that duration.
        results: its files in results/reference.
        module: module with ``main(arguments)``; of an accuracy benchmark, with
            ``BENCHMARKS[name]``.
        aliases: further names, those of earlier versions among them.
        accuracy: whether it is a set of evaluate runs, and thus accepts flags of evaluate.
    """

    name: str
    question: str
    hours: float
    device: str
    results: tuple[str, ...]
    module: str
    aliases: tuple[str, ...] = ()
    accuracy: bool = False

    def main(self, arguments: Sequence[str]) -> int:
        """Run the benchmark; returns its exit status.

        Args:
            arguments: its own options; of an accuracy benchmark, then ``--`` and flags of evaluate.
        """
        module = importlib.import_module(self.module)
        if not self.accuracy:
            return int(module.main(arguments))
        from benchmarks.accuracy import runner

        return runner.main(module.BENCHMARKS[self.name], arguments)


def _published(name: str) -> Entry:
    return Entry(
        name=f"published_{name}",
        question=f"Is the published accuracy on {name} reproduced (Li et al. 2023)?",
        hours=round(published.hours(name, "A100"), 1),
        device="A100, estimated from the published cost",
        results=(f"published_{name}.md",),
        module="benchmarks.accuracy.published",
        accuracy=True,
    )


ENTRIES = (
    Entry(
        "digits",
        "Does racing agree with exhaustive search, over seeds and unseen templates?",
        0.1,
        TWO_CORES,
        ("digits.md", "leaderboard.csv"),
        "benchmarks.accuracy.digits",
        accuracy=True,
    ),
    Entry(
        "knee",
        "How many evaluations does racing need for the accuracy of the published procedure?",
        1.8,
        "1 CPU core",
        ("KNEE.md", "leaderboard.csv"),
        "benchmarks.accuracy.knee",
        accuracy=True,
    ),
    Entry(
        "leaderboard",
        "How accurate is every method on every small benchmark?",
        2.75,
        TWO_CORES,
        ("LEADERBOARD.md", "leaderboard.csv"),
        "benchmarks.accuracy.leaderboard",
        accuracy=True,
    ),
    *map(_published, published.SETTINGS),
    Entry(
        "published_script",
        "Do prompts, pixels and errors equal those of a checkout of the published repository?",
        0.02,
        "1 CPU core",
        (),
        "benchmarks.accuracy.published_script",
    ),
    Entry(
        "rejection",
        "Are images recognised whose class is not among the candidates, against CLIP?",
        0.3,
        "1 CPU core",
        ("rejection.md", "rejection.csv"),
        "benchmarks.accuracy.rejection",
    ),
    Entry(
        "multi_label",
        "Which of several objects does an image show, each label decided by itself, against CLIP?",
        0.1,
        "1 CPU core",
        ("multi_label.md", "multi_label.csv"),
        "benchmarks.accuracy.multi_label",
    ),
    Entry(
        "edits",
        "Do word swaps change the named attribute of an image, and nothing else?",
        0.2,
        "1 CPU core",
        ("EDITS.md", "edits.csv"),
        "benchmarks.accuracy.edits",
    ),
    Entry(
        "instructions",
        "Do instructed edits change the named attribute of an image, and nothing else?",
        0.1,
        "1 CPU core",
        ("INSTRUCTIONS.md", "instructions.csv", "instructions_validation.csv"),
        "benchmarks.accuracy.instructions",
    ),
    Entry(
        "control",
        "Do samples follow the given edges, and how accurate are answers given the edges?",
        0.1,
        "1 CPU core",
        ("CONTROL.md", "control.csv", "control.png"),
        "benchmarks.accuracy.control",
    ),
    Entry(
        "counterfactuals",
        "Do counterfactuals convince another classifier, and leave the surroundings alone?",
        0.2,
        "1 CPU core",
        ("COUNTERFACTUALS.md", "counterfactuals.csv"),
        "benchmarks.accuracy.counterfactuals",
    ),
    Entry(
        "few_shot",
        "Are classes recognised that were added from one to ten images?",
        2.5,
        "1 CPU core",
        ("FEW_SHOT.md", "few_shot.csv"),
        "benchmarks.accuracy.few_shot",
    ),
    Entry(
        "beyond",
        "Which rules are more accurate than the published one at equal cost?",
        0.4,
        "1 CPU core",
        ("beyond.md", "beyond.csv"),
        "benchmarks.accuracy.beyond",
    ),
    Entry(
        "searches",
        "How do accuracy and evaluations trade off, for every search and setting?",
        2,
        TWO_CORES,
        ("SPEED.md", "speed.csv", "speed.png", "speed_answers/"),
        "benchmarks.speed.searches",
        aliases=("speed",),
    ),
    Entry(
        "classes",
        "How do cost and memory grow with classes, images and batch size?",
        3,
        TWO_CORES,
        ("GROWTH.md", "growth.csv", "growth.png", "growth_answers/"),
        "benchmarks.speed.classes",
        aliases=("growth",),
    ),
    Entry(
        "throughput",
        "How close is the whole command to the bare network, and to the published procedure?",
        0.2,
        TWO_CORES,
        ("OVERHEAD.md", "overhead.csv"),
        "benchmarks.speed.throughput",
        aliases=("overhead",),
    ),
    Entry(
        "published_speed",
        "How much faster than the published script itself, side by side in one run?",
        0.15,
        "1 CPU core",
        ("PUBLISHED_SPEED.md", "published_speed.csv"),
        "benchmarks.speed.published_speed",
    ),
    Entry(
        "cpu_inference",
        "Which optimisations of one forward pass pay on a CPU?",
        0.1,
        "1 CPU core",
        ("KERNELS.md", "kernels.csv"),
        "benchmarks.speed.cpu_inference",
        aliases=("kernels",),
    ),
    Entry(
        "cheaper_evaluations",
        "Which ways to make an evaluation cheaper pay on a CPU, and which do not?",
        0.1,
        "1 CPU core",
        ("CHEAPER.md", "cheaper.csv"),
        "benchmarks.speed.cheaper_evaluations",
    ),
    Entry(
        "startup",
        "How soon does a finished run answer, and a new run write its first record?",
        0.05,
        "1 CPU core",
        ("STARTUP.md", "startup.csv"),
        "benchmarks.speed.startup",
    ),
    Entry(
        "pages",
        "How soon does the demo answer, how often is it updated, how soon does the report open?",
        0.05,
        TWO_CORES,
        ("PAGES.md", "pages.csv"),
        "benchmarks.speed.pages",
    ),
    Entry(
        "class_heads",
        "Does a network with one output head per class pay?",
        0.5,
        "1 CPU core",
        ("HEADS.md", "heads.csv"),
        "benchmarks.speed.class_heads",
        aliases=("heads",),
    ),
    Entry(
        "scale",
        "What does a run cost its driver, with up to 16 workers and 1,000 classes?",
        1.5,
        TWO_CORES,
        ("SCALE.md", "scale.csv"),
        "benchmarks.speed.scale",
    ),
    Entry(
        "soak",
        "Do memory, open handles and speed stay flat over a long run?",
        1.5,
        TWO_CORES,
        ("SOAK.md", "soak.csv"),
        "benchmarks.speed.soak",
    ),
    Entry(
        "gpu",
        "Which optimisations pay on an accelerator, and which share of its peak is used?",
        0.13,
        "one CUDA device",
        ("GPU.md", "gpu-DEVICE.csv"),
        "benchmarks.speed.gpu",
    ),
    Entry(
        "variance",
        "Ablation: does variance reduction raise accuracy at equal cost?",
        0.2,
        TWO_CORES,
        ("VARIANCE.md", "variance.csv"),
        "benchmarks.ablations.variance",
    ),
    Entry(
        "aggregations",
        "Ablation: which loss, timestep weighting and aggregation of draws is most accurate?",
        0.7,
        TWO_CORES,
        ("aggregations.md",),
        "benchmarks.ablations.aggregations",
    ),
    Entry(
        "fidelity",
        "Does a better generator classify better, over guidance and training?",
        3,
        TWO_CORES,
        ("FIDELITY.md", "fidelity.csv", "guided.csv", "fidelity.png"),
        "benchmarks.generation.fidelity",
        aliases=("generative",),
    ),
    Entry(
        "pointing",
        "Does the evidence for the right class lie on the object?",
        0.1,
        TWO_CORES,
        ("POINTING.md", "pointing.csv"),
        "benchmarks.accuracy.pointing",
    ),
    Entry(
        "autoencoder",
        "How much of an image is lost before the denoiser sees it?",
        0.05,
        "1 CPU core",
        ("AUTOENCODER.md", "autoencoder.csv"),
        "benchmarks.generation.autoencoder",
    ),
    Entry(
        "scaling",
        "How do accuracy, likelihood and FID scale with parameters and training images?",
        0.3,
        "1 CPU core",
        ("SCALING.md", "scaling.csv", "scaling.png"),
        "benchmarks.generation.scaling",
    ),
    Entry(
        "overview",
        "Figure: the method and its results, for the README",
        0.01,
        TWO_CORES,
        ("../../docs/images/overview.png",),
        "benchmarks.figures.overview",
    ),
    Entry(
        "how_it_works",
        "Pictures: chains, bound, guidance, latent space and a race, for docs/how-it-works.md",
        0.02,
        TWO_CORES,
        tuple(f"../../docs/images/{name}.png" for name in HOW_IT_WORKS),
        "benchmarks.figures.how_it_works",
    ),
    Entry(
        "samples",
        "Figure: samples of a bundled model over guidance scales",
        0.1,
        TWO_CORES,
        ("digits_samples.png",),
        "benchmarks.figures.samples",
    ),
    Entry(
        "scenes",
        "Figure: images of the scene benchmarks",
        0.01,
        "1 CPU core",
        ("scenes.png",),
        "benchmarks.figures.scenes",
        aliases=("scenes_picture",),
    ),
)


def find(name: str) -> Entry:
    """The benchmark of this name or alias; hyphens and underscores are the same.

    Raises:
        UsageError: for an unknown name.
    """
    by_name = {alias: entry for entry in ENTRIES for alias in (entry.name, *entry.aliases)}
    try:
        return by_name[name.replace("-", "_")]
    except KeyError:
        raise unknown_name("benchmark", name, by_name) from None


def table() -> str:
    """All benchmarks as a Markdown table."""
    lines = ["| name | question | hours | device | result files |", "|---|---|---|---|---|"]
    for entry in ENTRIES:
        names = " or ".join(f"`{name}`" for name in (entry.name, *entry.aliases))
        files = ", ".join(map(_linked, entry.results))
        lines.append(
            f"| {names} | {entry.question} | {entry.hours:,g} | {entry.device} | {files} |"
        )
    return "\n".join(lines)


def _linked(file: str) -> str:
    name = file.rstrip("/").rpartition("/")[2]
    path = posixpath.normpath(f"../{REFERENCE}/{file}") + ("/" if file.endswith("/") else "")
    return f"[{name}]({path})" if _is_committed(file) else f"`{name}`"


def _is_committed(file: str) -> bool:
    from pathlib import Path

    return (Path(__file__).parents[2] / REFERENCE / file).exists()


if __name__ == "__main__":
    print(table())
