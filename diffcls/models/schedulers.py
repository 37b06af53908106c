"""diffusers schedulers that are saved with models trained by this package."""

from __future__ import annotations

from typing import Any


def scheduler_of(**config: Any) -> Any:
    """Scheduler with the model's training settings, for sampling with diffusers' pipelines.

    Args:
        config: settings of a ``DDPMScheduler``. A rectified flow has fixed levels, so that only
            ``num_train_timesteps`` is used.
    """
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    if config["prediction_type"] != "flow_prediction":
        return DDPMScheduler(**config)
    # the flow-matching schedulers lack methods that StableDiffusionPipeline needs
    return DPMSolverMultistepScheduler(
        num_train_timesteps=config["num_train_timesteps"],
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=1.0,
    )
