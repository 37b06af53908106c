"""The leaderboard in the published table's shape: methods by data sets, by supervision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffcls.runs.leaderboard import published_rows
from diffcls.runs.row import MEASURED

GROUPS = {
    "zero-shot": "Zero-shot",
    "model trained on this data set": "Model trained on this data set",
    "labels": "Trained with labels",
}
"""Value of the column ``supervision`` -> title; the zero-shot group comes first."""

Row = Mapping[str, Any]
CHANCE = ("reference", "chance")
"""Method and model of random answers: no competitor, so never the best, and listed last."""
EARLIER = "earlier model version"


@dataclass(frozen=True)
class Cell:
    """Accuracies of a method on one data set: one figure, or those of several runs.

    Args:
        accuracies: of each run, in the order of the leaderboard.
        low, high: interval of a single run, if it has one.
        fingerprints: the runs; empty for published figures.
        is_best: whether none of the group's measured, or published, figures is higher.
    """

    accuracies: Sequence[float]
    low: float | None
    high: float | None
    fingerprints: Sequence[str]
    is_best: bool = False

    @property
    def accuracy(self) -> float:
        """The mean over the runs."""
        return sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Args:
        method: method and search.
        model: model, or "" where each data set has one of its own.
        setting: setting, if it is not the default one.
        source: ``measured`` or that of the published figures.
        cells: data set -> cell.
        is_chance: whether its answers are random.
    """

    method: str
    model: str
    setting: str
    source: str
    cells: Mapping[str, Cell]
    is_chance: bool = False

    @property
    def is_measured(self) -> bool:
        """Whether this project measured the figures, not others."""
        return self.source == MEASURED


@dataclass(frozen=True)
class Shape:
    """The table: columns, and the lines of each group of supervision.

    Args:
        datasets: columns; first those with a measured figure.
        groups: title -> lines, measured ones before published ones.
    """

    datasets: Sequence[str]
    groups: Mapping[str, Sequence[Line]]


def shape(measured: Sequence[Row], with_published: bool = True) -> Shape:
    """The table of measured rows beside the published figures.

    Args:
        measured: leaderboard rows, as text or numbers; those without an accuracy are left out.
        with_published: whether the published figures are added.
    """
    rows = [row for row in measured if row.get("accuracy") not in (None, "")]
    published = published_rows() if with_published else []
    datasets = list(dict.fromkeys(str(row["dataset"]) for row in (*rows, *published)))
    groups: dict[str, list[Line]] = {}
    for supervision in dict.fromkeys([*GROUPS, *(str(row["supervision"]) for row in rows)]):
        lines = [
            line
            for source in (rows, published)
            for line in _lines([r for r in source if str(r["supervision"]) == supervision])
        ]
        if lines:
            groups[GROUPS.get(supervision, supervision)] = _with_best(lines)
    return Shape(datasets, groups)


def _lines(rows: Sequence[Row]) -> list[Line]:
    """Rows of one method, search and setting share a line, if no data set has two models.

    A cell averages runs that differ in the seed alone: of a model that was replaced, each version
    has a line of its own, the newest first. Chance comes last.
    """
    by_method: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        method = "/".join(filter(None, (str(row["method"]), str(row["search"] or ""))))
        setting = str(row["setting"] or "")
        # templates belong to the data set, as class names do
        setting = "" if setting == "default" or setting.startswith("templates=") else setting
        by_method.setdefault((method, setting, str(row["source"])), []).append(row)
    lines: list[Line] = []
    for (method, setting, source), members in by_method.items():
        models = {(row["dataset"], row["model"]) for row in members}
        own = len({dataset for dataset, _ in models}) == len(models)
        names = list(dict.fromkeys(str(row["model"]) for row in members))
        parts = [members] if own else [[r for r in members if str(r["model"]) == n] for n in names]
        for part in parts:
            model = str(part[0]["model"]) if len({r["model"] for r in part}) == 1 else ""
            is_chance = (method, model) == CHANCE
            for version, own_rows in enumerate(_versions(part)):
                note = ", ".join(filter(None, (setting, EARLIER if version else "")))
                lines.append(Line(method, model, note, source, _cells(own_rows), is_chance))
    return sorted(lines, key=lambda line: line.is_chance)


def _versions(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows by version of the model, the newest of each data set first."""
    dates: dict[str, dict[tuple[str, str], str]] = {}
    for row in rows:
        of_dataset = dates.setdefault(str(row["dataset"]), {})
        date = str(row.get("date") or "")
        of_dataset[_version(row)] = max(date, of_dataset.get(_version(row), ""))
    ordered = {
        dataset: sorted(found, key=lambda one: found[one], reverse=True)
        for dataset, found in dates.items()
    }
    by_age: dict[int, list[Row]] = {}
    for row in rows:
        by_age.setdefault(ordered[str(row["dataset"])].index(_version(row)), []).append(row)
    return [by_age[age] for age in sorted(by_age)]


def _version(row: Row) -> tuple[str, str]:
    """Revision of the model, and the setting with its templates."""
    return str(row.get("revision") or ""), str(row["setting"] or "")


def _cells(rows: Sequence[Row]) -> dict[str, Cell]:
    by_dataset: dict[str, list[Row]] = {}
    for row in rows:
        by_dataset.setdefault(str(row["dataset"]), []).append(row)
    return {dataset: _cell(members) for dataset, members in by_dataset.items()}


def _cell(rows: Sequence[Row]) -> Cell:
    accuracies = [float(row["accuracy"]) for row in rows]
    limits = [rows[0].get(name) for name in ("ci_low", "ci_high")]
    low, high = (float(v) if len(rows) == 1 and v not in (None, "") else None for v in limits)
    return Cell(accuracies, low, high, [str(r["fingerprint"]) for r in rows if r["fingerprint"]])


def _with_best(lines: Sequence[Line]) -> list[Line]:
    """Mark the best measured and the best published figure of each data set."""
    best: dict[tuple[str, bool], float] = {}
    for line in lines:
        for dataset, cell in line.cells.items():
            if not line.is_chance:
                key = dataset, line.is_measured
                best[key] = max(best.get(key, 0.0), cell.accuracy)
    return [
        Line(
            *(line.method, line.model, line.setting, line.source),
            {
                name: Cell(
                    *(cell.accuracies, cell.low, cell.high, cell.fingerprints),
                    is_best=not line.is_chance and cell.accuracy == best[name, line.is_measured],
                )
                for name, cell in line.cells.items()
            },
            line.is_chance,
        )
        for line in lines
    ]
