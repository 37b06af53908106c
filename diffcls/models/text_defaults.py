"""Text defaults: what a pipeline adds to every prompt unless it is called with something else."""

from __future__ import annotations

import inspect
from typing import Any

from diffcls.models.family_table import FAMILY_TABLE
from diffcls.support.hashing import canonical_json

CLEANING = "clean_caption"


def text_defaults(family: str, pipeline: Any = None) -> dict[str, Any]:
    """What shapes every prompt, by name: the `text_defaults` of the family, with their values.

    Sana's instruction, for one, is a default of ``__call__`` and not of ``encode_prompt``, and
    changes every encoding. For a default of None, such as that of Lumina's system prompt, and
    where ``__call__`` has no such parameter, the pipeline uses its own attribute of that name.
    Captions are cleaned only where the libraries for it are installed.

    Args:
        family: name of the pipeline's class.
        pipeline: the loaded pipeline, whose attributes may have been changed.
    """
    names = FAMILY_TABLE[family].text_defaults
    if not names:
        return {}
    import diffusers

    kind = getattr(diffusers, family)
    parameters = inspect.signature(kind.__call__).parameters
    defaults = {n: parameters[n].default if n in parameters else None for n in names}
    of_pipeline = [name for name, default in defaults.items() if default is None]
    if of_pipeline:
        pipeline = _without_parts(kind) if pipeline is None else pipeline
        defaults |= {name: getattr(pipeline, name) for name in of_pipeline}
    if defaults.get(CLEANING):
        defaults[CLEANING] = cleans_captions()
    return defaults


def _without_parts(kind: Any) -> Any:
    """A pipeline of a class without its parts."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return kind(**{p.name: None for p in parameters if p.default is p.empty})


def cleans_captions() -> bool:
    """Whether diffusers' pipelines can clean captions: else they write them in lower case only."""
    from diffusers.utils import is_bs4_available, is_ftfy_available

    return bool(is_bs4_available() and is_ftfy_available())


def recorded(family: str, pipeline: Any = None) -> str:
    """The text defaults as JSON for a run's specification; empty where there are none."""
    defaults = text_defaults(family, pipeline) if family in FAMILY_TABLE else {}
    return canonical_json(defaults) if defaults else ""


def recorded_of(denoiser: Any) -> str:
    """`recorded` of a loaded model; empty for one that is no pipeline of diffusers."""
    pipeline = getattr(denoiser, "pipeline", None)
    return recorded(type(pipeline).__name__, pipeline)
