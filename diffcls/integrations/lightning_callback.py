"""Zero-shot accuracy as a callback of Lightning's ``Trainer``."""

from __future__ import annotations

from typing import Any

from diffcls.integrations.model_sources import pipeline_and_parts
from diffcls.integrations.zero_shot_accuracy import ZeroShotAccuracy
from diffcls.support.errors import UsageError

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError:
        raise UsageError(
            "the Lightning callback needs the package lightning",
            given="it is not installed",
            todo="pip install lightning",
        ) from None


class ZeroShotLightningCallback(Callback):
    """A `ZeroShotAccuracy` for Lightning's ``Trainer``.

    Results are logged to the trainer's loggers and to those of `accuracy`, and are in
    ``trainer.callback_metrics``, so that ``ModelCheckpoint(monitor="zero_shot/accuracy")`` works.

    Args:
        accuracy: what to measure and how often; steps are the trainer's ``global_step``.
        pipeline: see `diffcls.integrations.model_sources.pipeline_and_parts`.
    """

    def __init__(self, accuracy: ZeroShotAccuracy, pipeline: Any = None) -> None:
        self.accuracy, self.pipeline = accuracy, pipeline

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        """Measure on the main process if the step is due."""
        step = trainer.global_step
        # with gradient accumulation several batches are of one step, the first of them of step 0
        if not trainer.is_global_zero or step == 0 or not self.accuracy.is_due(step):
            return
        pipeline, parts = pipeline_and_parts(self.pipeline, pl_module)
        result = self.accuracy.measure(pipeline, step, **parts)
        values = result.values(self.accuracy.prefix)
        for logger in trainer.loggers:
            logger.log_metrics(values, step)
        # the loggers have them: Lightning's own would leave out steps between its intervals
        pl_module.log_dict(values, logger=False, rank_zero_only=True, batch_size=1)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Finish the trackers that were started."""
        self.accuracy.close()
