"""Options ``--control`` and ``--control-model``: classification given a map of each image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.classifiers.options import ClassifierOptions
from diffcls.data.control_maps import ControlMaps, Pixels, parse
from diffcls.models.model_argument import Model
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.models.denoiser import Denoiser

EXCLUDED = ("offload", "device_map", "quantize", "compile", "class_bias", "combine")
"""Options that a model with a ControlNet does not have."""


def control_model_of(options: ClassifierOptions, model: Model) -> str:
    """Name of the ControlNet: the value of ``--control-model``, or the bundled one of the model.

    Raises:
        UsageError: if there is neither.
    """
    from diffcls.models import control_files

    if options.control_model is not None:
        return options.control_model
    bundled = control_files.default_for(model)
    if bundled is None:
        raise UsageError(
            "--control needs a ControlNet of the model",
            given=f"{model}, which no bundled one was trained with",
            todo="choose one with --control-model PATH|ID",
        )
    return bundled


def control_config(options: ClassifierOptions, model: Model) -> Path | None:
    """The folder with the config of the ControlNet, without its weights; None without `--control`.

    Raises:
        UsageError, ModelError: see `control_model_of` and `diffcls.models.control_files.find`.
    """
    from diffcls.models import control_files

    if options.control is None:
        return None
    return control_files.config_folder(control_model_of(options, model))


def check_control(options: ClassifierOptions, model: Model) -> None:
    """Check both options without opening a model or contacting the Hub.

    Raises:
        UsageError: for an unknown control or ControlNet, one without the other, or an option that
            a model with a ControlNet does not have.
    """
    from diffcls.models import control_files

    if options.control is None:
        if options.control_model is not None:
            raise UsageError(
                "--control-model needs --control", options.control_model, todo="add --control KIND"
            )
        return
    parse(options.control)
    control_files.check_family(model)
    control_files.check_name(control_model_of(options, model))
    for name in EXCLUDED:
        value = getattr(options, name)
        if value not in (None, False, "none"):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"--control and {flag} exclude each other", given=value, todo="remove one"
            )
    if options.search == "learned":
        raise UsageError(
            "--search learned is fitted without maps, and --control needs one of each image",
            todo="choose another search, such as racing",
        )


def with_control(options: ClassifierOptions, model: Model, denoiser: Denoiser) -> Denoiser:
    """The model with its ControlNet if ``--control`` is given, else the model itself.

    Raises:
        UsageError, ModelError: see `diffcls.models.control.steered`.
    """
    from diffcls.models.control import steered

    if options.control is None:
        return denoiser
    return steered(denoiser, control_model_of(options, model))


def use_maps(options: ClassifierOptions, method: DiffusionMethod) -> None:
    """Give a method the maps of its images, if ``--control`` is given."""
    if options.control is not None:
        give_maps(method, options.control)


def give_maps(method: DiffusionMethod, control: str) -> None:
    """Give a method the maps that the text of ``--control`` names."""
    from torch import from_numpy

    from diffcls.models.control import encoded

    maps = parse(control)

    def map_of(image_id: str, pixels: Pixels) -> Tensor:
        one = from_numpy(maps.of(image_id, pixels, method.interpolation))
        return encoded(method.denoiser, one[None])[0]

    method.map_of = map_of


def recorded(options: ClassifierOptions, model: Model) -> str:
    """What a run's specification says of the control, as JSON; empty without one."""
    from diffcls.models import control_files

    if options.control is None:
        return ""
    maps: ControlMaps = parse(options.control)
    files = control_files.find(control_model_of(options, model))
    facts = {"kind": maps.kind, "model": files.name, "revision": files.revision}
    if maps.revision:
        facts["maps"] = maps.revision
    return json.dumps(facts, sort_keys=True)
