"""results/speed_answers/*.json: what every search said of every image, a file a benchmark.

They make a report of all benchmarks where only one was measured anew, and let whoever has another
question than ours (two searches, a part of the images) answer it without a run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.report import Point
from diffcls.support.errors import RecordError
from diffcls.support.files import locked, write_text

FOLDER = "speed_answers"


@dataclass(frozen=True)
class Answers:
    """All points of one benchmark.

    Args:
        where: device and versions that they were measured on.
        points: a search with a setting each.
    """

    where: str
    points: tuple[Point, ...]


def keep(found: Answers, output: Path) -> None:
    """Write the file of a benchmark.

    Args:
        found: of one benchmark.
        output: the folder of the results.
    """
    labels: dict[str, int] = {}
    for point in found.points:
        labels |= {i: point.labels[i] for i in point.predicted}
    benchmark = found.points[0].benchmark
    head = {
        "benchmark": benchmark,
        "where": found.where,
        "image_ids": list(labels),
        "labels": list(labels.values()),
    }
    lines = [json.dumps(_row(point, list(labels)), separators=(",", ":")) for point in found.points]
    # a line a search, so that a difference between two versions of the file can be read
    text = json.dumps(head)[:-1] + ', "points": [\n' + ",\n".join(lines) + "\n]}\n"
    with locked(_path(benchmark, output)) as target:
        write_text(target, text)


def read(benchmark: str, output: Path) -> Answers | None:
    """What `keep` wrote; None where nothing was kept.

    Raises:
        RecordError: for a file that `keep` did not write.
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
            "not a file of answers",
            given=str(path),
            todo=f"move it away, then python -m benchmarks.speed.searches --only {benchmark}",
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
