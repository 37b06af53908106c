"""Where a trainer's callback finds the pipeline that is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffcls.integrations.pipelines import NAMES
from diffcls.models.pipeline_view import unwrapped
from diffcls.support.errors import UsageError

PIPELINE_NAMES = ("pipeline", "pipe")


def pipeline_and_parts(source: Any, model: Any) -> tuple[Any, dict[str, Any]]:
    """The arguments of `ZeroShotAccuracy` for the model of a trainer.

    Args:
        source: a pipeline; parts by name; or a function of the trainer's model that returns either.
            None: the model's attributes ``pipeline`` or ``pipe``, or its parts ``unet``, ``vae``,
            ``text_encoder``, ``tokenizer``, ``scheduler`` and so on.
        model: the trainer's model.

    Raises:
        UsageError: for a model without these attributes.
    """
    if source is None:
        return _of_attributes(unwrapped(model))
    if callable(source) and not hasattr(source, "components"):
        source = source(model)
    if isinstance(source, Mapping):
        return None, dict(source)
    return source, {}


def _of_attributes(model: Any) -> tuple[Any, dict[str, Any]]:
    for name in PIPELINE_NAMES:
        if hasattr(model, name):
            return getattr(model, name), {}
    parts = {name: getattr(model, name) for name in NAMES if hasattr(model, name)}
    if parts:
        return None, {name: part for name, part in parts.items() if part is not None}
    raise UsageError(
        "the trained model has no pipeline",
        given=type(model).__name__,
        allowed=f"attributes {', '.join(PIPELINE_NAMES)}, or {', '.join(NAMES)}",
        todo="give pipeline=, a pipeline or a function of the model that returns one",
    )
