"""Stored predictions of every search on every image: results/reference/speed_answers/*.json.

They keep all benchmarks in the report when only one is measured again, and allow other comparisons
(of two searches, or on a part of the images) without a run. One file per benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.points import Point
from diffcls.support.errors import RecordError
from diffcls.support.files import locked, write_text

FOLDER = "speed_answers"


@dataclass(frozen=True)
class Answers:
    """All points of one benchmark.

    Args:
        environment: device and versions of the measurement.
        points: one point per search and setting.
    """

    environment: str
    points: tuple[Point, ...]


def save(answers: Answers, output: Path) -> None:
    """Write the file of a benchmark.

    Args:
        answers: points of one benchmark.
        output: folder of the results.
    """
    labels: dict[str, int] = {}
    for point in answers.points:
        labels |= {i: point.labels[i] for i in point.predicted}
    benchmark = answers.points[0].benchmark
    head = {
        "benchmark": benchmark,
        "where": answers.environment,
        "image_ids": list(labels),
        "labels": list(labels.values()),
    }
    lines = [
        json.dumps(_row(point, list(labels)), separators=(",", ":")) for point in answers.points
    ]
    # one line per search keeps diffs of the file readable
    text = json.dumps(head)[:-1] + ', "points": [\n' + ",\n".join(lines) + "\n]}\n"
    with locked(_path(benchmark, output)) as target:
        write_text(target, text)


def read(benchmark: str, output: Path) -> Answers | None:
    """The stored answers of a benchmark, see `save`; None if there are none.

    Raises:
        RecordError: for a file that `save` did not write.
    """
    path = _path(benchmark, output)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        image_ids = content["image_ids"]
        labels = dict(zip(image_ids, content["labels"], strict=True))
        points = [_point(benchmark, row, image_ids, labels) for row in content["points"]]
        return Answers(content["where"], tuple(points))
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(
            "file of search answers cannot be read",
            given=str(path),
            todo="move it aside, then measure again: "
            f"python -m benchmarks.run searches --only {benchmark}",
        ) from error


def _path(benchmark: str, output: Path) -> Path:
    return output / FOLDER / f"{benchmark.replace('/', '-')}.json"


def _row(point: Point, image_ids: Sequence[str]) -> dict[str, Any]:
    return {
        "search": point.search,
        "setting": point.setting,
        "evaluations_per_image": point.evaluations_per_image,
        "images_per_second": point.images_per_second,
        "clear": point.clear,
        "predicted": [point.predicted.get(i) for i in image_ids],
        "screened": [point.screened.get(i) for i in image_ids] if point.screened else [],
    }


def _point(
    benchmark: str, row: dict[str, Any], image_ids: Sequence[str], labels: dict[str, int]
) -> Point:
    predicted = _known(image_ids, row["predicted"])
    return Point(
        benchmark,
        row["search"],
        row["setting"],
        predicted=predicted,
        labels={i: labels[i] for i in predicted},
        evaluations_per_image=row["evaluations_per_image"],
        images_per_second=row["images_per_second"],
        screened=_known(image_ids, row["screened"]) if row["screened"] else {},
        clear=row["clear"],
    )


def _known(image_ids: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    pairs = zip(image_ids, values, strict=True)
    return {image: value for image, value in pairs if value is not None}
