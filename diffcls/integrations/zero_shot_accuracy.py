"""Zero-shot accuracy of a diffusion model while it is trained, in any PyTorch loop."""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffcls.data.dataset import Dataset
from diffcls.data.prompts import PromptSet
from diffcls.diffusion.timestep_allocation import EVEN, read_allocation
from diffcls.integrations.averaged_weights import averaged
from diffcls.integrations.kept_state import is_main_process, training_state_kept
from diffcls.integrations.pipelines import has_names, network_of, pipeline_of
from diffcls.integrations.result import ZeroShotResult
from diffcls.integrations.samples import Prompts, sample_of
from diffcls.integrations.trackers import Logger, close_all, logger_of
from diffcls.metrics.statistics import wilson_interval
from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_COUNT, MAX_ROWS, MAX_SEED, check_values, within
from diffcls.support.paths import expand
from diffcls.training.validation import CURVE_DRAWS, Validation

logger = logging.getLogger(__name__)

MAX_SECONDS = 1e9


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """Settings of `ZeroShotAccuracy` that have limits."""

    every: int = within(1, MAX_COUNT)
    images: int = within(1, MAX_COUNT)
    draws: int = within(1, MAX_COUNT)
    time_limit: float | None = within(0, MAX_SECONDS, whole=False, is_open=True)
    seed: int = within(0, MAX_SEED)
    batch_size: int = within(1, MAX_ROWS)
    split: str = ""

    def __post_init__(self) -> None:
        check_values(self)


class ZeroShotAccuracy:
    """Callback that measures zero-shot accuracy with a 95 % interval during a training.

    ::

        accuracy = ZeroShotAccuracy(every=500, dataset="cifar10", loggers=["tensorboard"])
        for step in range(1, steps + 1):
            ...  # an optimiser step
            accuracy(pipeline, step)

    The training ends as it would without it, to the bit: weights, gradients, train mode and dropout
    of every module, random generators, automatic mixed precision and accelerate's state stay. With
    data parallel training the main process measures, and the others wait at their next exchange of
    gradients: keep `time_limit` below the time-out of the process group.

    Args:
        every: steps between two measurements, at the multiples of it.
        dataset: name of a data set, whose prompts are used; or own images, a list or data set of
            ``(image, label)`` or ``{"image": …, "label": …}``, with `prompts`. A fixed sample is
            read when the callback is made.
        images: number of images, a fixed sample.
        prompts: see `diffcls.integrations.samples.sample_of`.
        time_limit: seconds that a measurement may take: no further image is begun for which they
            do not suffice. `ZeroShotResult.n_scored` counts the images of the accuracy.
        split, data_root: of a named data set.
        draws: maximum draws per class; racing decides which are evaluated.
        seed: seed of the noise, which is the same at every measurement.
        batch_size: rows of a forward pass.
        dtype: precision of the network, such as ``torch.bfloat16``; None: that of its weights.
        img_size: side of the images in pixels; None: that of the model's training.
        allocation: distribution of the draws over timesteps, see ``--allocation`` of evaluate.
        loggers: ``tensorboard``, ``wandb``, ``mlflow``, an ``accelerate.tracking.GeneralTracker``,
            or functions of (values by name, step) such as ``accelerator.log``.
        project: project or experiment of a logger that is named.
        log_dir: folder of TensorBoard's files.
        prefix: first part of the logged names: ``PREFIX/accuracy``, ``PREFIX/ci_low``,
            ``PREFIX/ci_high``, ``PREFIX/images``, ``PREFIX/seconds``.
        ema: averaged weights to measure, see `diffcls.integrations.averaged_weights.averaged`.

    Attributes:
        history: all results, in order.

    Raises:
        UsageError: for a setting out of range, unknown names, or prompts that do not fit.
        DataError: for images that cannot be read.
    """

    def __init__(
        self,
        *,
        every: int = 1000,
        dataset: Any,
        images: int = 256,
        prompts: Prompts | None = None,
        time_limit: float | None = None,
        split: str = "validation",
        data_root: str | None = None,
        draws: int = CURVE_DRAWS,
        seed: int = 0,
        batch_size: int = 64,
        dtype: Any = None,
        img_size: int | None = None,
        allocation: str = EVEN,
        loggers: Sequence[Any] = (),
        project: str = "zero_shot",
        log_dir: str = "runs",
        prefix: str = "zero_shot",
        ema: Any = None,
    ) -> None:
        self.settings = _Settings(
            every=every,
            images=images,
            draws=draws,
            time_limit=time_limit,
            seed=seed,
            batch_size=batch_size,
            split=split,
        )
        self.every, self.time_limit = every, time_limit
        self.dtype, self.img_size, self.ema, self.prefix = dtype, img_size, ema, prefix
        self.allocation = read_allocation(allocation)
        given = [loggers] if isinstance(loggers, str) else loggers
        self.loggers: list[Logger] = [logger_of(one, project, expand(log_dir)) for one in given]
        with training_state_kept():  # a data set of the user may draw random numbers
            root = None if data_root is None else expand(str(data_root))
            self.data: Dataset
            self.prompts: PromptSet
            self.data, self.prompts = sample_of(
                expand(dataset) if isinstance(dataset, str) else dataset,
                prompts,
                images,
                split,
                root,
            )
        self.history: list[ZeroShotResult] = []

    def __call__(
        self, pipeline: Any = None, step: int | None = None, *, ema: Any = None, **parts: Any
    ) -> ZeroShotResult | None:
        """Measure if the step is due, log and return the result; else None.

        Args:
            pipeline: a diffusers pipeline that holds the trained network.
            step: the training's step; measured are multiples of `every`, each once.
            ema: as in the class, for this call.
            parts: instead of, or in place of, the pipeline's own: ``unet`` or ``transformer``,
                ``vae``, ``text_encoder``, ``tokenizer``, ``scheduler`` and so on.

        Returns:
            The result on the main process; None on others, and where no measurement is due.

        Raises:
            UsageError, ModelError: for a model that is not supported. The training's state is kept.
        """
        if not self.is_due(step) or not is_main_process():
            return None
        return self.measure(pipeline, step, ema=ema, **parts)

    def is_due(self, step: int | None) -> bool:
        """Whether the step is a multiple of `every` that was not the last one measured.

        Raises:
            UsageError: for anything but a whole number.
        """
        number = _whole(step)
        measured = self.history[-1].step if self.history else None
        return number % self.every == 0 and number != measured

    def measure(
        self, pipeline: Any = None, step: int | None = None, *, ema: Any = None, **parts: Any
    ) -> ZeroShotResult:
        """Measure now, log and return the result; see `__call__`."""
        number = _whole(step)
        with training_state_kept():
            result = self._measured(pipeline, number, self.ema if ema is None else ema, parts)
            self.history.append(result)
            if result.accuracy is None or result.time_limited or result.n_failed:
                logger.warning("%s", result)
            for log in self.loggers:
                log(result.values(self.prefix), result.step)
        return result

    def close(self) -> None:
        """Finish the trackers that the callback started; it may be used again."""
        with training_state_kept():
            close_all(self.loggers)

    def __enter__(self) -> ZeroShotAccuracy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _measured(
        self, pipeline: Any, step: int, ema: Any, parts: dict[str, Any]
    ) -> ZeroShotResult:
        began = time.monotonic()
        whole = pipeline_of(pipeline, parts)
        with averaged(ema, network_of(whole)):
            result = self._validation(whole, began)
        scored = len(result.labels)
        accuracy = result.accuracy if scored else None
        interval: tuple[float | None, float | None] = (None, None)
        if accuracy is not None:
            interval = wilson_interval(round(accuracy * scored), scored)
        return ZeroShotResult(
            step=step,
            accuracy=accuracy,
            ci_low=interval[0],
            ci_high=interval[1],
            n_asked=result.asked,
            n_scored=scored,
            n_failed=result.failed,
            dataset=self.data.name,
            split=self.data.split,
            evaluations_per_image=result.evaluations,
            seconds=time.monotonic() - began,
        )

    def _validation(self, pipeline: Any, began: float) -> Validation:
        from diffcls.classifiers.validation import validate
        from diffcls.data.class_ids import class_prompts
        from diffcls.models.in_memory import denoiser_of
        from diffcls.search.racing import Racing

        is_text = getattr(pipeline, "text_encoder", None) is not None
        own = has_names(pipeline, self.data.class_names)
        labels = () if is_text or own else self.data.class_names
        denoiser = denoiser_of(
            pipeline, dtype=self.dtype, img_size=self.img_size, labels=labels, identify=False
        )
        denoiser.card = replace(denoiser.card, allocation=self.allocation)
        prompts = self.prompts
        if denoiser.labels is not None:
            prompts = class_prompts(self.data.class_names, denoiser.labels)
        remaining = None
        if self.time_limit is not None:
            remaining = self.time_limit - (time.monotonic() - began)
        return validate(
            denoiser,
            self.data,
            prompts,
            Racing(self.settings.draws),
            self.settings.seed,
            self.settings.batch_size,
            remaining,
        )


def _whole(step: Any) -> int:
    try:
        return operator.index(step)
    except TypeError:
        todo = "call it as callback(pipeline, step)"
        raise UsageError("step is no whole number", given=step, todo=todo) from None
