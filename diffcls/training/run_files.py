"""Files of a training: the name of its folder, its stored recipe, and its curve."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from diffcls.support.errors import RecordError, UsageError
from diffcls.support.stored_json import parse_json
from diffcls.training.recipes import Optimisation, read_recipe

WORK = "training"
"""Folder in that of the model: checkpoints to resume from, curves and snapshots."""
SNAPSHOTS = "snapshots"
"""Folder in that of the training: the model at each point of the curve."""
RECIPE = "recipe.json"
"""File in the folder of the training that says what decides the weights."""

DATA, LEAD = "data_revision", "trained_with_revision"
"""Entries of ``recipe.json``: revisions of a person's own data, and of the model of ``--lead``."""
CHANGED = {
    DATA: "--dataset: the images are not those that the begun training has",
    LEAD: "--lead: the model's weights are not those that the begun training has",
}
"""Entry that alone differs from a begun training -> what is wrong."""


def check_begun(path: Path, kind: type[Optimisation], plan: dict[str, Any]) -> None:
    """Compare what decides the weights with what a begun training stored, if there is one.

    Args:
        path: its ``recipe.json``.
        kind: class of the recipe.
        plan: what decides the weights, in plain JSON types. Revisions are compared where both have
            them: older versions stored none, and data are read last.

    Raises:
        UsageError: for another recipe, other data or another model of ``--lead``.
        RecordError: see `read_begun`.
    """
    if not path.exists():
        return
    begun = read_begun(path, kind)
    unknown = {name for name in (DATA, LEAD) if not (name in begun and name in plan)}
    changed = sorted(k for k in {*begun, *plan} - unknown if begun.get(k) != plan.get(k))
    if not changed:
        return
    alone = CHANGED.get(changed[0]) if len(changed) == 1 else None
    raise UsageError(
        alone or "the output folder contains a training with another recipe",
        given={k: plan.get(k) for k in changed},
        allowed=f"{ {k: begun.get(k) for k in changed} }",
        todo=f"resume with {'those' if alone else 'that recipe'}, or choose another --output-dir",
    )


def read_begun(path: Path, kind: type[Optimisation]) -> dict[str, Any]:
    """What decides the weights of a begun training, from its ``recipe.json``.

    Args:
        path: the file.
        kind: class of the recipe; fields that an older version does not name had their defaults.

    Raises:
        RecordError: for a file that cannot be read, or is no recipe.
    """
    try:
        begun = parse_json(path.read_bytes())
        if type(begun) is not dict:
            raise ValueError("not an object")
        known = dataclasses.asdict(read_recipe(kind, begun))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecordError(
            f"the recipe of the begun training cannot be read ({error})",
            given=str(path),
            todo="move the model's folder away, then rerun the same command",
        ) from error
    whole: dict[str, Any] = begun | json.loads(json.dumps(known))
    return whole


def read_curve(path: Path) -> list[dict[str, float]]:
    """Points of a curve; a resumed training may have written a step twice, the last one counts.

    Raises:
        RecordError: for a file that cannot be read, or a line that is no point.
    """
    points: dict[float, dict[str, float]] = {}
    try:
        for line in path.read_bytes().splitlines():
            point = parse_json(line)
            points[point["step"]] = point
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordError(
            f"a point of the curve cannot be read ({error})",
            given=str(path),
            todo="delete its line, then rerun the same command",
        ) from error
    return [points[step] for step in sorted(points)]
