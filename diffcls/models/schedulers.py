"""The diffusers scheduler that is saved with a model trained here."""

from __future__ import annotations

from typing import Any


def scheduler_of(**config: Any) -> Any:
    """A scheduler that says how the model was trained, and that diffusers' own pipelines draw with.

    Args:
        config: of a ``DDPMScheduler``; of a flow, whose levels are its own, only
            ``num_train_timesteps`` is taken.
    """
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    if config["prediction_type"] != "flow_prediction":
        return DDPMScheduler(**config)
    # the flow-matching schedulers lack what StableDiffusionPipeline asks of one
    return DPMSolverMultistepScheduler(
        num_train_timesteps=config["num_train_timesteps"],
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=1.0,
    )
