"""Text defaults: what a pipeline adds to every prompt unless it is called with something else."""

from __future__ import annotations

import inspect
from typing import Any

from diffcls.models.family_table import FAMILY_TABLE
from diffcls.support.hashing import canonical_json

CLEANING = "clean_caption"


def text_defaults(family: str) -> dict[str, Any]:
    """Parameter of the pipeline's ``__call__`` -> its default, of those that shape the prompt.

    Sana's instruction, for one, is a default of ``__call__`` and not of ``encode_prompt``, and
    changes every encoding. Captions are cleaned only where the libraries for it are installed.

    Args:
        family: name of the pipeline's class.
    """
    names = FAMILY_TABLE[family].text_defaults
    if not names:
        return {}
    import diffusers

    parameters = inspect.signature(getattr(diffusers, family).__call__).parameters
    defaults = {name: parameters[name].default for name in names}
    if defaults.get(CLEANING):
        defaults[CLEANING] = cleans_captions()
    return defaults


def cleans_captions() -> bool:
    """Whether diffusers' pipelines can clean captions: else they write them in lower case only."""
    from diffusers.utils import is_bs4_available, is_ftfy_available

    return bool(is_bs4_available() and is_ftfy_available())


def recorded(family: str) -> str:
    """The text defaults as JSON for a run's specification; empty where there are none."""
    defaults = text_defaults(family) if family in FAMILY_TABLE else {}
    return canonical_json(defaults) if defaults else ""


def recorded_of(denoiser: Any) -> str:
    """`recorded` of a loaded model; empty for one that is no pipeline of diffusers."""
    return recorded(type(getattr(denoiser, "pipeline", None)).__name__)
