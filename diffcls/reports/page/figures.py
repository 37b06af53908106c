"""Plots with their captions; a caption says in numbers what its plot shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffcls.reports.page import plots
from diffcls.reports.page.races import Race, TimeBin, classes_alive
from diffcls.reports.page.reliability import Calibration
from diffcls.reports.page.results import RunResults, settled
from diffcls.support.number_text import percent


@dataclass(frozen=True)
class Figure:
    """A plot.

    Args:
        title: its heading.
        svg: the plot.
        alternative: what kind of plot it is, for people who do not see it.
        caption: its numbers.
    """

    title: str
    svg: str
    alternative: str
    caption: str


def evaluation_figures(results: RunResults) -> list[Figure]:
    """Accuracy against evaluations, and the histogram of evaluations per image."""
    correct = (results.answers == results.labels).astype(np.float64)
    curve = settled(results.evaluations, correct)
    half = int(np.argmax(curve.finished >= 0.5))
    low, high = int(curve.evaluations[0]), int(curve.evaluations[-1])
    mean, median = float(results.evaluations.mean()), float(np.median(results.evaluations))
    top = float(np.quantile(results.evaluations, 0.95))
    return [
        Figure(
            "Accuracy against evaluations",
            plots.settled_plot(curve),
            "Line chart: fraction of images finished, and finished and correct, by evaluations.",
            f"{percent(float(curve.finished[half]))} of the images are finished within "
            f"{curve.evaluations[half]:,} evaluations, {percent(float(curve.correct[half]))} "
            f"correctly; within {high:,}, all are finished and "
            f"{percent(float(curve.correct[-1]))} are correct.",
        ),
        Figure(
            "Where the evaluations went",
            plots.histogram_plot(results.evaluations),
            "Histogram of evaluations per image.",
            f"An image took {low:,} to {high:,} evaluations: {mean:,.1f} on average, median "
            f"{median:,.4g}; 95 % of the images took {top:,.4g} or fewer.",
        ),
    ]


def calibration_figure(calibration: Calibration) -> list[Figure]:
    """The reliability diagram, before and after temperature scaling."""
    before, after = calibration.before, calibration.after
    text = f"ECE {percent(before.ece, 2)} in {len(before.bins)} of 15 bins"
    if after is None:
        text += "; no temperature could be fitted."
    else:
        shown = " and ".join(f"{t:.3g}" for t in calibration.temperatures)
        text += (
            f"; {percent(after.ece, 2)} with the temperatures {shown}, each fitted on one half of "
            "the images and used on the other."
        )
    alternative = (
        "Reliability diagram: accuracy by confidence, before and after temperature scaling."
    )
    return [Figure("Calibration", plots.reliability_plot(calibration), alternative, text)]


def race_figures(races: Sequence[Race], times: Sequence[TimeBin], n_classes: int) -> list[Figure]:
    """Errors by timestep, what each part contributes, and classes alive over draws."""
    figures = []
    if len(times) > 1:
        total = sum(one.n for one in times)
        figures.append(
            Figure(
                "Error against timestep",
                plots.errors_plot(times),
                "Line chart: mean error of the label and of its closest rival by timestep.",
                f"Of {len(races)} images, {total:,} draws on which both were evaluated. The "
                f"label's error falls from {times[0].label_error:.3g} at timesteps "
                f"{times[0].low:.0f}–{times[0].high:.0f} to {times[-1].label_error:.3g} at "
                f"{times[-1].low:.0f}–{times[-1].high:.0f}; its rival's, from "
                f"{times[0].rival_error:.3g} to {times[-1].rival_error:.3g}."
                if times[0].label_error > times[-1].label_error
                else f"Of {len(races)} images, {total:,} draws on which both were evaluated.",
            )
        )
        shares = [one for one in times if one.share is not None]
        best = max(shares, key=lambda one: one.share or 0.0, default=None)
        figures.append(
            Figure(
                "What each timestep contributes",
                plots.contribution_plot(times),
                "Bar chart: lead of the label over its closest rival by timestep.",
                "Error of the closest rival minus that of the label: above 0, these timesteps "
                "speak for the label."
                + (
                    ""
                    if best is None
                    else f" Timesteps {best.low:.0f}–{best.high:.0f} contribute "
                    f"{percent(best.share or 0.0)} of the whole lead."
                ),
            )
        )
    if races:
        alive = classes_alive(races)
        half = int((alive > n_classes / 2).sum())
        figures.append(
            Figure(
                "Classes alive over draws",
                plots.alive_plot(alive),
                "Line chart: mean number of classes still evaluated at each draw.",
                f"Of {len(races)} images: more than half of the {n_classes} classes are evaluated "
                f"up to draw {half}; {alive[-1]:.2g} on average at draw {len(alive)}, the last.",
            )
        )
    return figures
