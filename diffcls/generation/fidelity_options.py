"""Options of fidelity measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from diffcls.generation import samplers
from diffcls.generation.options import ModelOptions, check_minimum
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.paths import UserPath

METRICS = ("FID", "IS", "KID", "precision", "recall")
MIN_IMAGES = 10
"""Minimum number of real and of generated images."""


@dataclass(frozen=True, kw_only=True)
class FidelityOptions(ModelOptions):
    """Options of `measure_fidelity`, in addition to those of `ModelOptions`.

    Args:
        real: folder of real images; None: those of a split of `dataset`.
        generated: folder of generated images; None: `model` generates them.
        split: split of the data set.
        count: number of real and of generated images, 10 or more; the maximum of a folder.
            None: all of a folder; of a split, at most `max_default_count`; from a model, as many
            as there are real ones.
        metrics: names in `METRICS`; None: all, without IS if the extractor has no classes.
        extractor: feature extractor: ``inception`` or a CLIP. None: the published Inception if its
            weights are installed, or else the CLIP of the data set.
        guidance: weights of classifier-free guidance, each measured on its own.
        sampler: a name in `diffcls.generation.samplers.SAMPLERS`.
        steps: number of sampling steps.
        cache_dir: folder for features of real images; None: they are not stored.

    Raises:
        UsageError: for a name or number that is not allowed, or options without effect.
    """

    max_default_count: ClassVar[int] = 2000

    real: UserPath | Path | None = None
    generated: UserPath | Path | None = None
    split: str = "test"
    count: int | None = None
    metrics: Sequence[str] | None = None
    extractor: UserPath | None = None
    guidance: Sequence[float] = (2.0,)
    sampler: str = samplers.DEFAULT
    steps: int = 25
    cache_dir: UserPath | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.metrics or ():
            if name not in METRICS:
                raise unknown_name("metric", name, METRICS)
        samplers.check_name(self.sampler)
        check_minimum(self, count=MIN_IMAGES, steps=1)
        for value in self.guidance:
            if not 0 <= value < math.inf:
                raise UsageError("--guidance out of range", value, "0 or more, finite")
        if self.generated is not None:
            self._check_unused()

    def _check_unused(self) -> None:
        names = ("model", "guidance", "sampler", "steps", "seed")
        fields = type(self).__dataclass_fields__
        changed = [name for name in names if _differs(getattr(self, name), fields[name].default)]
        unused = " ".join(f"--{name}" for name in changed)
        if unused:
            what = "options have no effect with --generated, which replaces the model"
            raise UsageError(what, given=unused, todo="remove them")
        if self.real is None and self.dataset is None:
            what = "--generated needs real images"
            raise UsageError(what, str(self.generated), todo="add --real DIR or --dataset NAME")


def _differs(value: Any, default: Any) -> bool:
    return list(value) != list(default) if isinstance(default, tuple) else value != default
