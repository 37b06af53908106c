"""Schedulers that are saved with models: sampling with diffusers' pipelines."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffcls.diffusion.parameterization import parameterization_of
from diffcls.diffusion.schedule import NoiseSchedule, is_flow
from diffcls.models.schedulers import scheduler_of
from diffcls.training.pixel_losses import build_unet, row_of, scheduler_config
from diffcls.training.recipes import PixelRecipe

RECIPE = PixelRecipe(image_size=8, channels=1, widths=(16, 16), conditional=False)
X0 = 0.4
"""The one image of a data set."""


@pytest.mark.parametrize("objective", ["epsilon", "v_prediction", "sample", "flow_prediction"])
def test_the_pipeline_of_diffusers_samples_the_data_of_an_exact_network(objective: str) -> None:
    from diffusers import DDPMPipeline

    recipe = replace(RECIPE, prediction_type=objective)
    scheduler = scheduler_of(**scheduler_config(recipe))
    config = scheduler.config
    schedule = NoiseSchedule.from_diffusers(config)
    row = parameterization_of(config, type(scheduler).__name__)
    assert row is row_of(recipe) and is_flow(config) == (objective == "flow_prediction")

    def exact(x_t: Any, timestep: Any, **_: Any) -> Any:
        """Exact for data of the one image X0: the noise is the rest of x_t."""
        level = int(np.abs(schedule.timesteps - float(timestep)).argmin())
        alpha, sigma = schedule.alpha[level], schedule.sigma[level]
        x0 = torch.full_like(x_t, X0)
        return SimpleNamespace(sample=row.target(x0, (x_t - alpha * x0) / sigma, alpha, sigma))

    pipeline = DDPMPipeline(build_unet(recipe, 0), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.forward = exact
    drawn = pipeline(
        batch_size=2,
        num_inference_steps=50,
        output_type="np",
        generator=torch.Generator().manual_seed(0),
    )
    # the pipeline returns [−1, 1] as [0, 1]
    np.testing.assert_allclose(2 * drawn.images - 1, X0, atol=0.02)
