"""Argument ``control`` of a classifier: a map of each image, that a ControlNet reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffcls.data.control_maps import GIVEN, parse
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from diffcls.models.denoiser import Denoiser

ARGUMENTS = ("control", "control_model")


def control_of(model: str, other: dict[str, Any]) -> dict[str, str]:
    """The arguments ``control`` and ``control_model``, complete and checked; empty without them.

    Args:
        model: name of the model.
        other: further arguments, from which both are removed.

    Raises:
        UsageError: for an unknown kind or ControlNet, or one without the other.
    """
    from diffcls.models import control_files

    kind, net = (other.pop(name, None) for name in ARGUMENTS)
    if kind is None and net is None:
        return {}
    if not isinstance(kind, str) or parse(kind).kind == GIVEN:
        raise UsageError(
            "control names the edges that are computed of each image",
            given=kind,
            allowed="canny or soft; given maps: python -m diffcls.evaluate --control maps:DIR",
        )
    control_files.check_family(model)
    net = net or control_files.default_for(model)
    if net is None:
        raise UsageError(
            "control needs a ControlNet of the model",
            given=f"{model}, which no bundled one was trained with",
            todo="give control_model=PATH or an id of the Hub",
        )
    control_files.check_name(str(net))
    return {"control": kind, "control_model": str(net)}


def steered(denoiser: Denoiser, given: Mapping[str, str]) -> Denoiser:
    """A model with the ControlNet of `control_of`, or the model itself."""
    if not given:
        return denoiser
    from diffcls.models import control

    return control.steered(denoiser, given["control_model"])


def check_without(control: str | None, what: str) -> None:
    """Refuse what a classifier cannot do while it is given a map of each image.

    Args:
        control: the classifier's argument ``control``.
        what: name of what was asked for, in the plural.

    Raises:
        UsageError: with a control.
    """
    if control is not None:
        raise UsageError(
            f"{what} need a classifier without `control`, whose maps they do not compute",
            given=control,
            todo="ask the same classifier without `control`",
        )
