"""Results in the schema of CLIP_benchmark (LAION): rows written as such, and such files read.

A result is one JSON object with ``dataset``, ``model``, ``pretrained``, ``task``, ``metrics`` and
``language``; ``clip_benchmark build`` turns a folder of them into a CSV, which is read as well.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.data.dataset_facts import FACTS
from diffcls.runs.row import COLUMNS, Row
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.paths import expand
from diffcls.support.tables import read_csv

DATASETS: Mapping[str, tuple[str, ...]] = {
    "cifar10": ("vtab/cifar10", "cifar10"),
    "fashion_mnist": ("fashion_mnist",),
    "fgvc_aircraft": ("fgvc_aircraft",),
    "flowers102": ("vtab/flowers", "flowers"),
    "food101": ("food101",),
    "imagenet": ("imagenet1k",),
    "mnist": ("mnist",),
    "objectnet": ("objectnet",),
    "pets": ("vtab/pets", "pets"),
    "stl10": ("stl10",),
}
"""Data set -> its ids in CLIP_benchmark; results are written with the first one."""
ZERO_SHOT, LINEAR_PROBE, SUPERVISED = (
    "zeroshot_classification",
    "linear_probe",
    "supervised_classification",
)
PREFIX_OF_TASK = {ZERO_SHOT: "", SUPERVISED: "", LINEAR_PROBE: "lp_"}
"""Task -> the prefix of its metrics' names. The supervised one is not of CLIP_benchmark."""
WITHOUT_LABELS = frozenset({"zero-shot", "unknown", "hybrid"})
PROBES = frozenset({"features", "sd-features"})
KEPT = ("method", "search", "setting", "supervision", "n_asked", "n_scored", "seed", "fingerprint")
"""Columns that a written result has beside CLIP_benchmark's own keys."""
IDENTITY = ("dataset", "method", "model", "search", "setting", "supervision", "seed")
FIGURES = ("ci_low", "ci_high", "ece", "evaluations_per_image", "seconds_per_image")
"""Columns that a written result has beside CLIP_benchmark's own metrics."""


def result_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A measured row as a result of CLIP_benchmark.

    Args:
        row: values by the leaderboard's columns, see `diffcls.runs.row.values_of`.

    Returns:
        Its keys, and those of `KEPT`. ``model`` and ``pretrained`` are the parts of a CLIP model's
        ``ARCH/TAG``; else the model and its revision. ``acc5`` is null below five classes.
    """
    model, pretrained = str(row["model"]), row["revision"] or ""
    if row["method"] == "clip" and "/" in model:
        model, _, pretrained = model.partition("/")
    task = ZERO_SHOT if row["supervision"] in WITHOUT_LABELS else SUPERVISED
    if row["supervision"] == "labels" and row["method"] in PROBES:
        task = LINEAR_PROBE
    top5 = 1.0 if row["n_classes"] == 5 and row["accuracy"] is not None else row["top5"]
    metrics = {
        "acc1": row["accuracy"],
        "acc5": top5,
        "mean_per_class_recall": row["mean_per_class"],
    }
    ids = DATASETS.get(row["dataset"], (row["dataset"],))
    return {
        "dataset": ids[0],
        "model": model,
        "pretrained": pretrained,
        "task": task,
        "metrics": {
            **{PREFIX_OF_TASK[task] + name: value for name, value in metrics.items()},
            **{name: row[name] for name in FIGURES},
        },
        "language": "en",
        **{name: row[name] for name in KEPT},
    }


@dataclass(frozen=True)
class Imported:
    """What a file or folder of results holds.

    Args:
        rows: rows of source ``published``: they were measured elsewhere, by another program.
        skipped: for each kind of result that is no row, why, with the number of them.
    """

    rows: tuple[Row, ...]
    skipped: Mapping[str, int]


def read_results(path: str | os.PathLike[str]) -> Imported:
    """Read a folder of JSON results, one such file, or the CSV of ``clip_benchmark build``.

    The same result twice counts once. Results of other tasks, and of data sets that are not in
    `DATASETS`, are counted in ``skipped``.

    Raises:
        UsageError: for a path that does not exist, or without a result.
        RecordError: for a file that is no result, an accuracy outside [0, 1], and two results of
            one model, data set, task and language that differ.
    """
    root = Path(expand(os.fspath(path)))
    if not root.exists():
        raise UsageError("--clip-benchmark does not exist", given=os.fspath(path))
    files = sorted(p for p in root.rglob("*") if p.suffix in (".json", ".csv") and p.is_file())
    rows: dict[tuple[Any, ...], tuple[Row, str]] = {}
    skipped: dict[str, int] = {}
    for file in files if root.is_dir() else [root]:
        for place, result in _results(file):
            row = _row(place, result, skipped)
            if row is None:
                continue
            key = tuple(row.get(name) for name in IDENTITY)
            known = rows.setdefault(key, (row, place))[0]
            if {**known, "command": ""} != {**row, "command": ""}:
                raise RecordError(
                    f"two results of {row['model']} on {row['dataset']} differ",
                    given=f"{rows[key][1]} and {place}",
                    todo="remove one of them",
                )
    if not rows and not skipped:
        raise UsageError(
            "--clip-benchmark holds no results",
            given=os.fspath(path),
            allowed="CLIP_benchmark's JSON files, a folder of them, or the CSV of its build",
        )
    return Imported(tuple(row for row, _ in rows.values()), skipped)


def _results(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The results in a file, with their places; metrics stand beside the other keys."""
    try:
        if file.suffix == ".csv":
            lines = read_csv(file)
            for number, cells in enumerate(lines[1:], start=2):
                if len(cells) != len(lines[0]):
                    raise ValueError(f"row {number} has {len(cells)} cells of {len(lines[0])}")
                yield f"{file}, row {number}", dict(zip(lines[0], cells, strict=True))
            return
        body = json.loads(file.read_text(encoding="utf-8"))
        for result in body if isinstance(body, list) else [body]:
            if not isinstance(result, dict) or not isinstance(result.get("metrics"), dict):
                raise ValueError("it is no object with metrics")
            yield str(file), {**result["metrics"], **result}
    except (OSError, UnicodeError, csv.Error, ValueError, RecursionError) as error:
        raise RecordError(
            f"no result of CLIP_benchmark ({' '.join(str(error).split())})",
            given=str(file),
            todo="remove that file, or name the files that are results",
        ) from error


def _row(place: str, result: Mapping[str, Any], skipped: dict[str, int]) -> Row | None:
    texts = {name: result.get(name) for name in ("dataset", "model", "task")}
    for name, text in texts.items():
        if not isinstance(text, str) or not text:
            raise RecordError(f"result lacks {name}", given=place, todo="correct or remove it")
    given = str(texts["dataset"]).removeprefix("wds/")
    names = [name for name, ids in DATASETS.items() if given in ids]
    task = str(texts["task"])
    reason = ""
    if task not in PREFIX_OF_TASK:
        reason = f"task {task}"
    elif not names:
        reason = f"data set {given}"
    if reason:
        skipped[reason] = skipped.get(reason, 0) + 1
        return None
    prefix = PREFIX_OF_TASK[task]
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= _identity(result, task)
    row |= {
        "dataset": names[0],
        "split": "test",
        "n_classes": FACTS[names[0]].classes,
        "source": "published",
        "accuracy": _fraction(place, result, f"{prefix}acc1"),
        "top5": _fraction(place, result, f"{prefix}acc5", optional=True),
        "mean_per_class": _fraction(place, result, f"{prefix}mean_per_class_recall", optional=True),
        "status": "complete",
        "command": f"read from {place.replace(os.sep, '/').rpartition('/')[2]}",
    }
    for name in ("ci_low", "ci_high", "ece"):
        row[name] = _fraction(place, result, name, optional=True)
    return row  # type: ignore[return-value]


def _identity(result: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Model, method and training data; a result that diffcls wrote has its own."""
    pretrained = str(result.get("pretrained") or "")
    language = str(result.get("language") or "en")
    if result.get("fingerprint"):
        row = {name: str(result.get(name) or "") or None for name in KEPT if name[:2] != "n_"}
        named = f"{result['model']}/{pretrained}" if row["method"] == "clip" else result["model"]
        return {**row, "fingerprint": None, "model": named, "revision": pretrained or None}
    setting = "linear probe" if task == LINEAR_PROBE else "CLIP_benchmark"
    return {
        "method": "clip",
        "model": "/".join(filter(None, (str(result["model"]), pretrained))),
        "setting": setting if language == "en" else f"{setting}, {language}",
        "supervision": "zero-shot" if task == ZERO_SHOT else "labels",
    }


def _fraction(
    place: str, result: Mapping[str, Any], name: str, optional: bool = False
) -> float | None:
    value = result.get(name)
    try:
        number = math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        number = math.inf
    if math.isnan(number) and optional:
        return None
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise RecordError(
            f"{name} is no fraction",
            given=f"{value!r:.40} in {place}",
            allowed="a number from 0 to 1, not a percentage",
            todo="correct or remove that result",
        )
    return number


def skipped_text(skipped: Mapping[str, int]) -> str:
    """One line for all results that were skipped, by kind."""
    kinds = ", ".join(f"{kind} ({n})" for kind, n in sorted(skipped.items()))
    return f"skipped {sum(skipped.values())} results that are no rows here: {kinds}"


def results_of(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The results of several rows, in their order."""
    return [result_of(row) for row in rows]
