"""Options of the comparison of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffcls.generation.fidelity_options import MIN_IMAGES
from diffcls.support.environment import MAX_THREADS
from diffcls.support.errors import unknown_name
from diffcls.support.options import MAX_COUNT, MAX_ROWS, MAX_SEED, check_values, within
from diffcls.support.paths import UserPath, expand_fields
from diffcls.training.validation import CURVE_DRAWS, CURVE_IMAGES

CLASSIFICATION: Mapping[str, str | None] = {
    "accuracy": None,
    "relations": "scenes/relations",
    "counting": "scenes/counting",
}
"""Metric that is an accuracy -> its data set; None: the data set of the comparison."""
METRICS = (*CLASSIFICATION, "bits_per_dim", "FID")


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """Options of `compare_checkpoints` and flags of ``python -m diffcls.checkpoints``.

    The defaults are the settings of a training's curve.

    Args:
        checkpoints: see `diffcls.evaluation.checkpoint_files.find_checkpoints`.
        dataset: name of the data set; None: the one in the models' cards.
        data_root: folder of local data.
        split: split of the data set.
        limit: number of images, a stratified sample.
        draws: maximum draws per class, with racing.
        seed: seed of the noise; None: that of the training where all models share one, else 0.
        metrics: names in `METRICS`.
        count: generated images of FID; None: see `diffcls.generation.fidelity_options`.
        extractor: feature extractor of FID, see there.
        device, batch_size, threads: as the flags of ``python -m diffcls.evaluate``.
        dtype: precision of the networks; that of a training's curve is float32.
        output_dir: folder of the runs, which are resumed and reused.

    Raises:
        UsageError: for an unknown metric, a number out of range, or an option without effect.
    """

    checkpoints: Sequence[UserPath]
    dataset: UserPath | None = None
    data_root: UserPath | None = None
    split: str = "validation"
    limit: int = within(1, MAX_COUNT, CURVE_IMAGES)
    draws: int = within(1, MAX_COUNT, CURVE_DRAWS)
    seed: int | None = within(0, MAX_SEED)
    metrics: Sequence[str] = ("accuracy",)
    count: int | None = within(MIN_IMAGES, MAX_COUNT)
    extractor: UserPath | None = None
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int | None = within(1, MAX_ROWS)
    threads: int | None = within(1, MAX_THREADS)
    output_dir: UserPath = "results/checkpoints"
    quiet: bool = False

    def __post_init__(self) -> None:
        metrics = [name.replace("-", "_") for name in self.metrics]
        for name in metrics:
            if name not in METRICS:
                raise unknown_name("metric", name, METRICS)
        object.__setattr__(self, "metrics", tuple(dict.fromkeys(metrics)))
        expand_fields(self)
        check_values(self)

    def unused(self) -> dict[str, str]:
        """Each option that has no effect, given the others -> why."""
        why = "is of --metrics FID"
        reasons = {} if "FID" in self.metrics else dict.fromkeys(("count", "extractor"), why)
        return reasons
