"""Check of ``--executor``: what can run in workers on Ray, and what can be sent to them."""

from __future__ import annotations

from diffcls.models.model_argument import Model, is_name, shown
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.workers.requests import EXECUTORS, WorkerRequest


def check_executor(
    executor: str, workers: int | None, address: str | None, device: str, model: Model
) -> None:
    """Refuse an unknown executor, a missing Ray, and a model that cannot be sent to workers.

    Args:
        executor: a name in `EXECUTORS`.
        workers, address, device: see `diffcls.support.workers.requests.WorkerRequest`.
        model: the model, None for a default.

    Raises:
        UsageError: see above.
    """
    if executor not in EXECUTORS:
        raise unknown_name("executor", executor, EXECUTORS)
    if executor == "serial":
        return
    if model is not None and not is_name(model):
        raise UsageError(
            f"--executor {executor} cannot send a model in memory to its workers",
            given=shown(model),
            allowed="a name, folder or Hub id",
            todo="save the pipeline with save_pretrained, and give its folder",
        )
    WorkerRequest(workers, address, device).check()
