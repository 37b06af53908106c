"""Pipelines of a training loop: as they are, or put together from their parts."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from diffcls.data.class_names import normalise
from diffcls.models.family_table import FAMILY_TABLE, NETWORKS, network_part, optional_parts
from diffcls.models.pipeline_view import unwrapped
from diffcls.models.quiet import quiet
from diffcls.support.errors import UsageError, unknown_name

NAMES = tuple(sorted({name for family in FAMILY_TABLE.values() for name in family.parts}))
"""Names of the parts of all families."""


def pipeline_of(pipeline: Any, parts: Mapping[str, Any]) -> Any:
    """A pipeline of given parts, which are not changed.

    Args:
        pipeline: a diffusers pipeline, or None.
        parts: its parts by name, such as ``unet``, ``vae``, ``text_encoder``, ``tokenizer`` and
            ``scheduler``; with a pipeline, they go before its own.

    Returns:
        `pipeline` itself where no part is given.

    Raises:
        UsageError: for neither, an unknown name, or parts that make no supported pipeline.
    """
    for name in parts:
        if name not in NAMES:
            raise unknown_name("part of a pipeline", name, NAMES)
    if not parts:
        if pipeline is None:
            raise UsageError(
                "no model given",
                given=None,
                allowed="a diffusers pipeline, or its parts by name: " + ", ".join(NAMES),
                todo="call it as callback(pipeline, step)",
            )
        return pipeline
    own = {} if pipeline is None else dict(pipeline.components)
    known = {name: part for name, part in own.items() if name in NAMES and part is not None}
    whole = {**known, **{name: unwrapped(part) for name, part in parts.items()}}
    assembled = _assembled(_family_of(whole), whole)
    if hasattr(pipeline, "labels"):  # names of classes are no part
        assembled.labels = pipeline.labels
    return assembled


def network_of(pipeline: Any) -> Any:
    """The trained network of a pipeline, without data parallel or compiling wrappers."""
    parts = [getattr(pipeline, name, None) for name in NETWORKS]
    return unwrapped(next((part for part in parts if part is not None), None))


def has_names(pipeline: Any, class_names: Sequence[str]) -> bool:
    """Whether a class-conditional pipeline names its classes, and these are among them.

    Args:
        pipeline: a diffusers pipeline, such as DiT's, which has ``labels``, name -> class id.
        class_names: names of a data set.
    """
    own = getattr(pipeline, "labels", None)
    known = {normalise(name) for name in own} if isinstance(own, Mapping) else set()
    return bool(known) and known.issuperset(map(normalise, class_names))


def _family_of(parts: Mapping[str, Any]) -> str:
    """The family with these parts; of several, the one that uses the most of them."""
    fitting = []
    for family, row in FAMILY_TABLE.items():
        expected = row.parts
        network = network_part(family)
        required = expected.keys() - optional_parts(family)
        if required <= parts.keys() and all(
            re.fullmatch(expected[name][1], type(parts[name]).__name__)
            for name in (network, "text_encoder")
            if name in required
        ):
            fitting.append((len(expected.keys() & parts.keys()), family))
    if not fitting:
        given = {name: type(part).__name__ for name, part in parts.items()}
        raise UsageError(
            "the parts make no pipeline of a supported family",
            given=given,
            allowed="unet, vae, text_encoder, tokenizer and scheduler of a Stable Diffusion, or "
            "all parts of another family",
            todo="add the missing parts, or give the whole pipeline",
        )
    most = max(count for count, _ in fitting)
    return next(family for count, family in fitting if count == most)


def _assembled(family: str, parts: Mapping[str, Any]) -> Any:
    import diffusers

    kind = getattr(diffusers, family)
    accepted = inspect.signature(kind.__init__).parameters
    arguments: dict[str, Any] = {
        name: None
        for name, parameter in accepted.items()
        if name != "self" and parameter.default is parameter.empty
    }
    arguments |= {name: part for name, part in parts.items() if name in accepted}
    # a pipeline may correct the configs of these in place
    for name in ("scheduler", *NETWORKS):
        if name in arguments:
            arguments[name] = copy.copy(arguments[name])
    if "requires_safety_checker" in accepted:
        arguments["requires_safety_checker"] = False
    with quiet():
        return kind(**arguments)
