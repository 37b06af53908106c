"""Memory of an evaluation's model: its forecast, and the text of a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffcls.classifiers import METHODS
from diffcls.classifiers.model_memory import forecast_of
from diffcls.classifiers.model_options import batch_size, model_of
from diffcls.data import catalog
from diffcls.evaluation.options import EvaluationOptions

if TYPE_CHECKING:
    from diffcls.models.forecast import Forecast


def memory_of(method: str, options: EvaluationOptions, prompts: int) -> Forecast | None:
    """The forecast of a method's diffusion model; None for other models, and those in memory.

    Raises:
        UsageError, ModelError: see `diffcls.classifiers.model_memory.forecast_of`.
    """
    if "offload" not in METHODS.load(method).reads:
        return None
    model = model_of(options, catalog.find(options.dataset))
    return forecast_of(options, model, batch_size(options.batch_size), prompts)


def describe_memory(forecast: Forecast) -> str:
    """The forecast as tables under one line that says of what, and what the device has free."""
    from diffcls.models.device_memory import free_memory
    from diffcls.models.forecast import readable

    work = forecast.workload
    dtype = str(work.dtype).removeprefix("torch.")
    free = free_memory(work.device, all_gpus=work.options.device_map is not None)
    has = "" if free is None else f", {readable(free)} free"
    return (
        f"memory forecast, {forecast.img_size} px, {dtype} on {work.device}{has}\n\n"
        f"{forecast.table()}\n"
    )
