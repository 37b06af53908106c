"""results/reference/PUBLISHED_SPEED.md: diffcls beside the published script, in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.tables import environment_of
from benchmarks.speed.published_sides import PUBLISHED_BATCH
from diffcls.support.files import write_text

PAGE = "PUBLISHED_SPEED.md"
EQUAL_WORK = "paper"
"""The search with the published stages; it runs in the published batch size here."""
QUIET = 0.9
"""Share of a core below which ratios of wall-clock time say little."""

COLUMNS: dict[str, Callable[[Any], str]] = {
    "dataset": str,
    "classes": "{:.0f}".format,
    "search": "`{}`".format,
    "published_images": "{:.0f}".format,
    "images": "{:,.0f}".format,
    "published_evaluations_per_image": "{:,.0f}".format,
    "evaluations_per_image": "{:,.1f}".format,
    "published_seconds_per_image": "{:.2f}".format,
    "seconds_per_image": "{:.4f}".format,
    "times": "{:.2f}".format,
    "ci_low": "{:.2f}".format,
    "ci_high": "{:.2f}".format,
    "cpu_times": "{:.2f}".format,
    "core_share": "{:.0%}".format,
    "target": "{:g}".format,
    "same_predictions": "{:.0f}".format,
    "compared": "{:.0f}".format,
    "largest_difference": "{:.1e}".format,
    "accuracy": "{:.1%}".format,
}
"""Column of published_speed.csv -> how the page shows its values."""

HEADER = (
    "data set",
    "classes",
    "`--search`",
    "images: script",
    "diffcls",
    "evaluations per image: script",
    "diffcls",
    "seconds per image: script",
    "diffcls",
    "times faster [95 % interval]",
    "by CPU time",
    "target",
    "same prediction",
    "accuracy of diffcls",
)


def write_page(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write and print the page.

    Args:
        rows: rows of published_speed.csv.
        output: folder of the results, with the environment of the benchmark.
    """
    setup = environment_of(output, "published_speed")
    lines = [
        "# Side by side with the published script",
        "",
        "Written by `python -m benchmarks.run published_speed --checkout DIR` from "
        f"`published_speed.csv`: commit {setup['published']} of "
        "diffusion-classifier/diffusion-classifier and this package on the same models, images and "
        f"prompts, on {setup['environment']}. Both run in one process, on one core and one thread, "
        "and take turns: one image of the script, then some of each search, in an order that is "
        "reversed from turn to turn. The interval is a bootstrap over the turns.",
        "",
        f"`{EQUAL_WORK}` does equal work: the script's stages, noise and batches of "
        f"{PUBLISHED_BATCH}. The other searches have their defaults, and score further images, so "
        "that their batches fill as in a run.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *map(_line, rows),
        "",
        *_notes(rows),
        "",
        *DEPARTURES,
        "",
    ]
    text = "\n".join(lines)
    write_text(output / PAGE, text)
    print(text)


DEPARTURES = (
    "Timed on both sides: opening, resizing and encoding an image, all evaluations, and the "
    "decision. Not timed: loading the model, encoding the prompts (once per run), what a search "
    "fits beforehand, and writing results.",
    "",
    "The functions of the script (`get_transform`, `eval_prob_adaptive`, `eval_error`) run "
    "unmodified. Around them, its `main` is replaced, which accepts only images of 256 or 512 "
    "pixels: the pipeline is loaded by diffusers in float32 without xformers; latents have the "
    "scale of the model's own config; the output of a model of the v-prediction is converted to "
    "the ε-prediction that the script expects, whose time is subtracted; the noise is that of "
    "diffcls, and is not timed for the script; no progress bar is printed.",
)


def _line(row: Mapping[str, Any]) -> str:
    shown = {name: show(row[name]) for name, show in COLUMNS.items() if row[name] is not None}
    cells = (
        shown["dataset"],
        shown["classes"],
        shown["search"],
        shown["published_images"],
        shown["images"],
        shown["published_evaluations_per_image"],
        shown["evaluations_per_image"],
        shown["published_seconds_per_image"],
        shown["seconds_per_image"],
        f"{shown['times']} [{shown['ci_low']}, {shown['ci_high']}]",
        shown["cpu_times"],
        shown["target"],
        f"{shown['same_predictions']} of {shown['compared']}",
        shown["accuracy"],
    )
    return "| " + " | ".join(cells) + " |"


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The targets, each with a verdict, and how far the errors of equal work agree."""
    for row in rows:
        verdict = "missed"
        if row["ci_low"] >= row["target"]:
            verdict = "met"
        elif row["times"] >= row["target"]:
            verdict = "met, but the interval reaches below it"
        elif row["ci_high"] >= row["target"]:
            verdict = "missed, but within the interval"
        yield (
            f"- {row['dataset']}, `{row['search']}`: {row['times']:.2f} times faster, target "
            f"{row['target']:g}: {verdict}."
        )
    shares = [row["core_share"] for row in rows if row["core_share"] is not None]
    if shares and min(shares) < QUIET:
        yield (
            f"- **The machine was busy**: the process received {min(shares):.0%} of a core at "
            "worst. Compare the ratios by CPU time."
        )
    differences = [row["largest_difference"] for row in rows]
    known = [value for value in differences if value is not None]
    if known:
        yield f"- Largest difference between the errors of equal work: {max(known):.1e}."
