"""The page: sections, leaderboard and tests through Jinja2 templates, which escape all text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from diffcls.reports.page import filters
from diffcls.reports.page.figures import Figure
from diffcls.reports.page.generators import Generator
from diffcls.reports.page.leaderboard_shape import CHANCE, shape
from diffcls.reports.page.paired import Group
from diffcls.reports.page.plots import cost_plot
from diffcls.reports.page.sections import CLASSES_SHOWN, PAIRS_SHOWN, Section
from diffcls.reports.page.svg import with_ids
from diffcls.support.version import __version__

OPEN_SECTIONS = 3
"""Runs up to which all sections are open at first."""

SUFFIX = ".jinja"


@dataclass(frozen=True)
class Page:
    """The content of a report.

    Args:
        sections: one per run.
        groups: paired tests.
        rows: rows of the leaderboard, each cell as its text.
        generators: models that generate images.
    """

    sections: Sequence[Section]
    groups: Sequence[Group]
    rows: Sequence[Mapping[str, str]]
    generators: Sequence[Generator]


def render(page: Page) -> str:
    """The page as HTML; equal content gives equal text."""
    import jinja2
    from markupsafe import Markup

    folder = resources.files("diffcls.reports.page").joinpath("templates")
    texts = {
        file.name.removesuffix(SUFFIX): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith((SUFFIX, ".css", ".js"))
    }
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(texts),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(filters.FILTERS)
    environment.filters["svg"] = lambda text, prefix: Markup(with_ids(text, prefix))  # noqa: S704  # ours
    return environment.get_template("page.html").render(
        page=page,
        version=__version__,
        style=Markup(texts["style.css"]),  # noqa: S704  # files of the package
        script=Markup(texts["script.js"]),  # noqa: S704
        shape=shape(page.rows),
        costs=costs(page.rows),
        runs={one.results.run.fingerprint: one.results.run for one in page.sections},
        models={one.model for one in page.generators},
        is_open=len(page.sections) <= OPEN_SECTIONS,
        classes_shown=CLASSES_SHOWN,
        pairs_shown=PAIRS_SHOWN,
    )


def costs(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Accuracy against evaluations per image, a plot for each data set with a search."""
    by_dataset: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        is_chance = (row["method"], row["model"]) == CHANCE
        if row["accuracy"] and row["evaluations_per_image"] and not is_chance:
            method = filters.method(row)
            point = float(row["evaluations_per_image"]), float(row["accuracy"])
            by_dataset.setdefault(row["dataset"], {}).setdefault(method, []).append(point)
    figures = []
    for dataset, methods in by_dataset.items():
        points = [point for values in methods.values() for point in values]
        if len(points) < 2 or not any(evaluations for evaluations, _ in points):
            continue
        spent = [point for point in points if point[0]]
        best = max(spent, key=lambda point: point[1])
        cheapest = min(spent, key=lambda point: point[0])
        free = [accuracy for evaluations, accuracy in points if not evaluations]
        figures.append(
            Figure(
                dataset,
                cost_plot(methods),
                f"Scatter plot: accuracy by evaluations per image of the runs on {dataset}.",
                f"{len(points)} runs. Of those with evaluations of the denoiser, the highest "
                f"accuracy, {filters.percent(best[1])}, takes {best[0]:,.4g} per image; the "
                f"cheapest takes {cheapest[0]:,.4g} with {filters.percent(cheapest[1])}."
                + (f" Without any: at most {filters.percent(max(free))}." if free else ""),
            )
        )
    return figures
