"""Recipe of a training: that of its data set, with the given options applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from diffcls.support.errors import UsageError, unknown_name
from diffcls.training import recipe_table
from diffcls.training.kinds import KINDS
from diffcls.training.recipes import Optimisation, Recipe

OBJECTIVES = {
    "epsilon": "epsilon",
    "v_prediction": "v_prediction",
    "sample": "sample",
    "flow": "flow_prediction",
}
# option -> field of the recipe, or of its config, that it replaces
RECIPE_FIELDS = {
    "images": "images",
    "batch_size": "batch",
    "learning_rate": "learning_rate",
    "objective": "prediction_type",
    "loss_weighting": "loss_weighting",
    "noise_schedule": "noise_schedule",
    "levels": "levels",
    "learned_variance": "learned_variance",
    "conditional": "conditional",
    "lead": "model",
}


def recipe_of(kind: str, dataset: str, name: str | None = None) -> Optimisation:
    """Recipe of a data set, or the fallback of its kind of model.

    Args:
        kind: kind of model, a key of `KINDS`.
        dataset: full name of the data set.
        name: the recipe's name behind the data set's, such as "long"; None: the data set's own.

    Raises:
        UsageError: for a name that the data set has no recipe of, or a data set that a kind of
            model cannot be trained on.
    """
    table = KINDS[kind].recipes
    if name and f"{dataset}-{name}" not in table:
        known = [row.removeprefix(f"{dataset}-") for row in table if row.startswith(f"{dataset}-")]
        if not known:
            raise UsageError(
                f"--model {kind} has one recipe of {dataset}", given=name, todo="omit --recipe"
            )
        raise unknown_name(f"recipe of {dataset}", name, known)
    if dataset not in table and not KINDS[kind].fallback:
        raise UsageError(
            f"--model {kind} needs pairs of images with an instruction",
            given=dataset,
            allowed=table,
        )
    fallback = getattr(recipe_table, KINDS[kind].fallback, None)
    recipe: Optimisation = table.get(f"{dataset}-{name}" if name else dataset, fallback)
    return recipe


def apply_options(recipe: Optimisation, options: Mapping[str, Any]) -> Optimisation:
    """The recipe with the given options in place of its own values.

    Args:
        recipe: the recipe.
        options: values of `diffcls.training.options.TrainingOptions` by name.

    Raises:
        UsageError: for an option that the recipe does not have, an unknown objective or an unknown
            weighting.
    """
    changes: dict[str, Any] = {}
    config_changes: dict[str, Any] = {}
    known = {field.name for field in dataclasses.fields(recipe)}
    config = getattr(recipe, "config", None)
    for option, field in RECIPE_FIELDS.items():
        value = options[option]
        if value is None:
            continue
        if option == "objective":
            if value not in OBJECTIVES:
                raise unknown_name("objective", value, OBJECTIVES)
            value = OBJECTIVES[value]
        if option == "loss_weighting" and field in known:
            from diffcls.training.losses import check_weighting

            check_weighting(value)
        if field in known:
            changes[field] = value
        elif hasattr(config, field):
            config_changes[field] = value
        else:
            raise UsageError(
                f"--{option.replace('_', '-')} does not apply to this kind of model",
                given=f"--model {options['model']}",
                todo=f"remove --{option.replace('_', '-')}",
            )
    if "images" in changes and isinstance(recipe, Recipe) and not options["init"]:
        changes |= recipe.divided(changes["images"])
    if config is not None and config_changes:
        changes["config"] = dataclasses.replace(config, **config_changes)
    return dataclasses.replace(recipe, **changes)
