"""Averaged weights (EMA) of a training, in place of the trained ones while a block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from diffcls.models.pipeline_view import unwrapped
from diffcls.support.errors import UsageError

OF_DIFFUSERS = ("store", "copy_to", "restore", "shadow_params")


@contextmanager
def averaged(ema: Any, network: Any) -> Iterator[None]:
    """Context in which a network has its averaged weights; afterwards its own, to the bit.

    Args:
        ema: diffusers' ``EMAModel`` of the network; or a context manager that puts the averaged
            weights in place, or a function that returns one; None: the weights stay.
        network: the trained network.

    Raises:
        UsageError: for another object, or an average of other weights than the network's.
    """
    if ema is None:
        yield
    elif all(hasattr(ema, name) for name in OF_DIFFUSERS):
        with _of_diffusers(ema, network):
            yield
    elif isinstance(ema, AbstractContextManager):
        with ema:
            yield
    elif callable(ema) and isinstance(context := ema(), AbstractContextManager):
        with context:
            yield
    else:
        raise UsageError(
            "ema cannot be used",
            given=type(ema).__name__,
            allowed="diffusers' EMAModel, a context manager, or a function that returns one",
        )


@contextmanager
def _of_diffusers(ema: Any, network: Any) -> Iterator[None]:
    parameters = _averaged_parameters(ema, unwrapped(network))
    stored = getattr(ema, "temp_stored_params", None)  # of its owner's own `store`
    ema.store(parameters)
    try:
        ema.copy_to(parameters)
        yield
    finally:
        ema.restore(parameters)
        ema.temp_stored_params = stored


def _averaged_parameters(ema: Any, network: Any) -> list[Any]:
    """The network's parameters that are averaged: all, or those that are trained.

    `EMAModel` pairs them by order, and leaves the rest out without a word.
    """
    shapes = [tuple(average.shape) for average in ema.shadow_params]
    every = list(network.parameters())
    for parameters in (every, [p for p in every if p.requires_grad]):
        if [tuple(parameter.shape) for parameter in parameters] == shapes:
            return parameters
    raise UsageError(
        "ema averages other weights than those of the network",
        given=f"{len(shapes)} averages",
        allowed=f"the {len(every)} parameters of {type(network).__name__}, or its trained ones",
        todo="give a context manager that puts the averaged weights in place",
    )
