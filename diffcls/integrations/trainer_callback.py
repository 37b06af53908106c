"""Zero-shot accuracy as a callback of transformers' ``Trainer``."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from diffcls.integrations.model_sources import pipeline_and_parts
from diffcls.integrations.zero_shot_accuracy import ZeroShotAccuracy


class ZeroShotTrainerCallback(TrainerCallback):
    """A `ZeroShotAccuracy` for transformers' ``Trainer``.

    Results are logged to the loggers of `accuracy`, and are entries of ``state.log_history``.

    Args:
        accuracy: what to measure, how often, and where to log it; steps are optimiser steps.
        pipeline: see `diffcls.integrations.model_sources.pipeline_and_parts`.
    """

    def __init__(self, accuracy: ZeroShotAccuracy, pipeline: Any = None) -> None:
        self.accuracy, self.pipeline = accuracy, pipeline

    def on_step_end(self, args: Any, state: Any, control: Any, **arguments: Any) -> None:
        """Measure on the main process if the step is due."""
        if not state.is_world_process_zero or not self.accuracy.is_due(state.global_step):
            return
        pipeline, parts = pipeline_and_parts(self.pipeline, arguments.get("model"))
        result = self.accuracy.measure(pipeline, state.global_step, **parts)
        entry = {**result.values(self.accuracy.prefix), "step": state.global_step}
        state.log_history.append(entry)

    def on_train_end(self, args: Any, state: Any, control: Any, **arguments: Any) -> None:
        """Finish the trackers that were started."""
        self.accuracy.close()
