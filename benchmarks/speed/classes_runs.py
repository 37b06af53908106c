"""Long runs of the scaling benchmark: the evaluate command, whose records make them resumable.

Each run has a folder of its own, ``growth_runs/classes-K-SEARCH``, with its records and, for a
search that is fitted, its fit. A fit that is carried over was made on classes that the run does not
have: those of the data set in `SearchRun.fitted_on`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.core.compare import records_of
from benchmarks.core.processes import output_of
from benchmarks.speed.classes_answers import Answers
from diffcls.data.scenes.tasks import TEST_IMAGES
from diffcls.support.cache import read_arrays
from diffcls.support.errors import RecordError
from diffcls.support.invariants import known

FOLDER = "growth_runs"
CANDIDATES = 10
"""Maximum length of the shortlist of a screen, the default of all searches with one."""


@dataclass(frozen=True)
class SearchRun:
    """A row of the benchmark.

    Args:
        search: value of ``--search``.
        has_screen: whether the search makes a shortlist.
        fitted_on: data set on whose classes its fit is made, if not on those of the run; the fit
            is then carried over, and the row is only of numbers of classes that it has not.
        most_classes: with larger numbers of classes there is no such row; nor with those that
            need no screen.
    """

    search: str
    has_screen: bool = True
    fitted_on: str | None = None
    most_classes: int | None = None

    def is_for(self, classes: int) -> bool:
        """Whether the row exists for a number of classes."""
        if self.most_classes is None:
            return True
        return CANDIDATES < classes <= self.most_classes


SEARCH_RUNS: Mapping[str, SearchRun] = {
    "racing": SearchRun("racing", has_screen=False),
    "gradient": SearchRun("gradient"),
    "learned": SearchRun("learned"),
    "learned, carried over": SearchRun("learned", fitted_on="scenes:300-1000", most_classes=300),
}
"""Name of a row -> its run. Racing comes first: all others are compared with it."""


def long_run(classes: int, name: str, images: int, output: Path) -> Answers:
    """The answers of a row; a stopped run resumes.

    Args:
        classes: number of classes.
        name: name of the row.
        images: number of images.
        output: folder of the results.
    """
    run, dataset = SEARCH_RUNS[name], f"scenes:{classes}"
    folder = run_folder(classes, name, output)
    arguments = ["--dataset", dataset, "--search", run.search]
    if images < TEST_IMAGES:
        arguments += ["--limit", str(images)]
    if run.fitted_on is not None:
        arguments += ["--fit", str(_fit_on(run, output))]
    row = _evaluate(arguments, folder)
    records = records_of(folder, row["fingerprint"])
    if len(records) != images:
        raise RecordError(
            "images were not scored",
            given=f"{images - len(records)} of {images} in {folder}",
            todo="read the reasons in its records",
        )
    ids = tuple(sorted(records, key=_position))
    fit = fit_of(folder)
    return Answers(
        classes=classes,
        search=name,
        image_ids=ids,
        labels=tuple(records[i].label for i in ids),
        predicted=tuple(int(records[i].ranking[0]) for i in ids),
        evaluations=tuple(records[i].evaluations for i in ids),
        fit=None if fit is None else row["setting"],
        fit_evaluations=0 if fit is None else int(read_arrays(fit, "fit")["evaluations"]),
        raced=_shortlists(records, ids, classes) if run.has_screen else None,
    )


def run_folder(classes: int, name: str, output: Path) -> Path:
    """Folder of the records and fits of a row."""
    return output / FOLDER / f"classes-{classes}-{name.replace(', ', '-').replace(' ', '-')}"


def fit_of(folder: Path, kind: str = "learned-screen") -> Path | None:
    """The fit of a row's run; None without one.

    Args:
        folder: folder of the run.
        kind: ``learned-screen``, or ``learned-prediction``: the part before the calibration.

    Raises:
        RecordError: for several, of which one is of an earlier version.
    """
    found = sorted((folder / "fits").glob(f"{kind}-*.npz"))
    if len(found) > 1:
        raise RecordError(
            "more than one fit in the folder of a run",
            given=" ".join(map(str, found)),
            todo="delete the older ones, or measure again with --again",
        )
    return found[0] if found else None


def forget(classes: int, name: str, output: Path) -> None:
    """Delete the records and the fit of a row's earlier run, so that it is made again."""
    shutil.rmtree(run_folder(classes, name, output), ignore_errors=True)


def _fit_on(run: SearchRun, output: Path) -> Path:
    """The fit on other classes, made by an evaluation of one image of theirs.

    Its calibration is that of its own classes, and is not carried over.
    """
    fitted_on = known(run.fitted_on)
    folder = output / FOLDER / f"fit-{fitted_on.partition(':')[2]}"
    found = fit_of(folder, "learned-prediction")
    if found is None:
        _evaluate(["--dataset", fitted_on, "--search", run.search, "--limit", "1"], folder)
        found = fit_of(folder, "learned-prediction")
    return known(found)


def _evaluate(arguments: list[str], folder: Path) -> dict[str, Any]:
    command = ["-m", "diffcls.evaluate", *arguments, "--output-dir", str(folder)]
    row: dict[str, Any] = json.loads(output_of([*command, "--threads", "1", "--json"]))[0]
    return row


def _position(image_id: str) -> int:
    return int(image_id.rpartition("/")[2])


def _shortlists(
    records: Mapping[str, Any], ids: tuple[str, ...], classes: int
) -> tuple[tuple[int, ...], ...]:
    """(n,) the first classes of each ranking, as many as may enter the race.

    Most of them raced; a class that was screened out may come before one that raced, as its deficit
    to the leader was smaller in the screening.
    """
    size = min(CANDIDATES, classes)
    return tuple(tuple(sorted(int(k) for k in records[i].ranking[:size])) for i in ids)
