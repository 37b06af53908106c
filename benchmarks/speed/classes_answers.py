"""Stored answers of the scaling benchmark: results/reference/growth_answers.

``classes-K-SEARCH.json`` has the predictions of one search among K classes, ``times.json`` the rows
of the short runs that measure time and memory. A stopped benchmark resumes from them, one search is
measured again without the others, and searches are compared without a run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffcls.support.errors import RecordError
from diffcls.support.files import locked, write_text
from diffcls.support.stored_json import parse_json

FOLDER = "growth_answers"
TIMES = "times.json"


@dataclass(frozen=True)
class Answers:
    """Answers of one search on n images among K classes.

    Args:
        classes: K.
        search: row of the benchmark.
        image_ids: (n,) in the order of the data set.
        labels, predicted, evaluations: (n,) class indices, and evaluations of each image.
        fit: name of the fit, if the search has one.
        fit_evaluations: evaluations that the fit took in all.
        raced: (n,) the first classes of each ranking, as many as may enter the race; None without a
            screen.
    """

    classes: int
    search: str
    image_ids: tuple[str, ...]
    labels: tuple[int, ...]
    predicted: tuple[int, ...]
    evaluations: tuple[int, ...]
    fit: str | None = None
    fit_evaluations: int = 0
    raced: tuple[tuple[int, ...], ...] | None = None

    @property
    def correct(self) -> list[bool]:
        """(n,) whether each prediction is the label."""
        return [k == label for k, label in zip(self.predicted, self.labels, strict=True)]

    def recall(self, race: Answers) -> float:
        """Share of the images on which racing's prediction is in `raced`; 1 without a screen."""
        if self.raced is None:
            return 1.0
        kept = [k in raced for k, raced in zip(race.predicted, self.raced, strict=True)]
        return sum(kept) / len(kept)


def save(answers: Answers, output: Path) -> None:
    """Write the file of one search among K classes; a field per line."""
    fields = {name: value for name, value in asdict(answers).items() if value is not None}
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}"
        for name, value in fields.items()
    ]
    with locked(_path(answers.classes, answers.search, output)) as target:
        write_text(target, "{\n" + ",\n".join(lines) + "\n}\n")


def read(classes: int, search: str, output: Path) -> Answers | None:
    """The stored answers of one search among K classes; None if there are none.

    Raises:
        RecordError: for a file that `save` did not write.
    """
    path = _path(classes, search, output)
    if not path.exists():
        return None
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        tuples: dict[str, Any] = {
            k: _tuple(v) if isinstance(v, list) else v for k, v in content.items()
        }
        answers = Answers(**tuples)
        lists = (answers.labels, answers.predicted, answers.evaluations)
        if set(map(len, lists)) != {len(answers.image_ids)}:
            raise ValueError("lists of different lengths")
    except (ValueError, TypeError, AttributeError) as error:
        raise _unreadable(path) from error
    return answers


def read_all(output: Path, searches: Sequence[str]) -> list[Answers]:
    """All stored answers of some searches, by the number of classes."""
    counts = set()
    for path in (output / FOLDER).glob("classes-*-*.json"):
        counts.add(int(path.name.split("-")[1]))
    stored = [read(count, search, output) for count in sorted(counts) for search in searches]
    return [answers for answers in stored if answers is not None]


def save_times(key: str, row: Mapping[str, Any], output: Path) -> None:
    """Store a row of a short run."""
    with locked(output / FOLDER / TIMES) as target:
        rows = {**read_times(output), key: dict(row)}
        lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in rows.items()]
        write_text(target, "{\n" + ",\n".join(lines) + "\n}\n")


def read_times(output: Path) -> dict[str, dict[str, Any]]:
    """Key -> row of all short runs.

    Raises:
        RecordError: for a file that `save_times` did not write.
    """
    path = output / FOLDER / TIMES
    if not path.exists():
        return {}
    try:
        rows: dict[str, dict[str, Any]] = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unreadable(path) from error
    return rows


def _path(classes: int, search: str, output: Path) -> Path:
    name = search.replace(", ", "-").replace(" ", "-")
    return output / FOLDER / f"classes-{classes}-{name}.json"


def _tuple(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(tuple(v) if isinstance(v, list) else v for v in values)


def _unreadable(path: Path) -> RecordError:
    return RecordError(
        "file of growth answers cannot be read",
        given=str(path),
        todo="move it aside, then measure again: python -m benchmarks.run classes",
    )
