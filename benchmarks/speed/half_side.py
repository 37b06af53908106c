"""Screening at half the image's side: does the winner of the race stay among the best classes?

An evaluation at half the side counts as a quarter of one. At equal cost, all classes are ranked by
a few draws at the full side, or by four times as many at half of it.
"""

from __future__ import annotations

from typing import Any

from benchmarks.speed.throughput import plan_of
from diffcls.data.option_use import root_for

DRAWS = 2
"""Draws of each class at the full side."""
IMAGES = {"digits": 40, "cifar10": 40, "scenes/attributes": 16}
SHORTLISTS = {10: (2, 3, 5), 96: (10, 20, 40)}
"""Number of classes -> sizes of the shortlist."""


def half_side(dataset: str, data_root: str | None) -> list[dict[str, Any]]:
    """Recall of racing's winner in shortlists from full and from half sides; none for others."""
    if dataset not in IMAGES:
        return []
    common: dict[str, Any] = {
        "dataset": dataset,
        "data_root": root_for(dataset, data_root),
        "limit": IMAGES[dataset],
        "quiet": True,
        "check_model": False,
        "batch_size": 64,
    }
    race = plan_of(**common)
    winners = {name: ranking[0] for name, ranking in _rankings(race).items()}
    side, classes = race.built.img_size, len(race.built.prompts.class_names)
    rows = []
    for measure, size, draws in (
        ("full side", side, DRAWS),
        ("half the side", side // 2, 4 * DRAWS),
    ):
        rankings = _rankings(plan_of(**common, search="exhaustive", draws=draws, img_size=size))
        places = [rankings[name].index(winner) for name, winner in winners.items()]
        row = {"part": "half_side", "subject": dataset, "measure": measure, "images": len(places)}
        for shortlist in SHORTLISTS[classes]:
            inside = sum(place < shortlist for place in places)
            rows.append({**row, "shortlist": shortlist, "recall": inside / len(places)})
    return rows


def _rankings(plan: Any) -> dict[str, list[int]]:
    """Image id -> classes, best first."""
    answers = plan.built.method.classify(plan.dataset.items)
    return {answer.image_id: [int(k) for k in answer.ranking] for answer in answers}
