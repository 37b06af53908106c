"""Options of fidelity measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from diffcls.generation import samplers
from diffcls.generation.options import WorkerOptions
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.options import MAX_COUNT, MAX_STEPS, MAX_WEIGHT, within
from diffcls.support.paths import UserPath

METRICS = ("FID", "IS", "KID", "precision", "recall")
OF_THE_MODEL = ("model", "guidance", "sampler", "steps", "seed", "executor")
"""Options of the generating model."""
MIN_IMAGES = 10
"""Minimum number of real and of generated images."""


@dataclass(frozen=True, kw_only=True)
class FidelityOptions(WorkerOptions):
    """Options of `measure_fidelity`, in addition to those of `WorkerOptions`.

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
    count: int | None = within(MIN_IMAGES, MAX_COUNT)
    metrics: Sequence[str] | None = None
    extractor: UserPath | None = None
    guidance: Sequence[float] = within(0, MAX_WEIGHT, (2.0,), whole=False)
    sampler: str = samplers.DEFAULT
    steps: int = within(1, MAX_STEPS, 25)
    cache_dir: UserPath | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.metrics or ():
            if name not in METRICS:
                raise unknown_name("metric", name, METRICS)
        samplers.check_name(self.sampler)
        if self.generated is not None and self.real is None and self.dataset is None:
            what = "--generated needs real images"
            raise UsageError(what, str(self.generated), todo="add --real DIR or --dataset NAME")

    def unused(self) -> dict[str, str]:
        """Each option that has no effect, given the others -> why."""
        reasons = super().unused()
        if self.generated is not None:
            without_model = "has no effect with --generated, which replaces the model"
            reasons |= dict.fromkeys(OF_THE_MODEL, without_model)
        # a data set beside --real gives the names of the classes: those of its test split
        if self.real is not None and (self.dataset is None or self.generated is None):
            reasons["split"] = "has no effect with --real, which replaces the split"
        if self.real is not None and self.generated is not None and self.dataset is None:
            why = "has no effect without --dataset"
            reasons |= dict.fromkeys(("data_root", "streaming"), why)
        return reasons
