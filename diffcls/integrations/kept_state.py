"""State of a training that a measurement in its midst leaves as it was, to the bit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffcls.models.evaluation_state import evaluating


@contextmanager
def training_state_kept() -> Iterator[None]:
    """Context of a measurement; afterwards, on an exception too, the process is as before.

    That is: the random generators of python, numpy and torch on every device, automatic mixed
    precision, and accelerate's global state. Of the rest, such as torch's threads and backends, a
    measurement changes nothing; nor of models, see `diffcls.models.in_memory.denoiser_of`.
    """
    with _accelerate_kept(), evaluating():
        yield


def is_main_process() -> bool:
    """Whether this is the main one of the data-parallel processes, or the only one.

    Neither accelerate's nor torch's state is set up to find out.
    """
    state = _shared_states().get("PartialState")
    if state is not None and "process_index" in state._shared_state:
        return int(state._shared_state["process_index"]) == 0
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()) == 0
    return os.environ.get("RANK", "0").strip() in ("", "0")


def _shared_states() -> dict[str, Any]:
    """accelerate's classes with global state, if it is in use."""
    module = sys.modules.get("accelerate.state")
    names = ("PartialState", "AcceleratorState", "GradientState")
    return {} if module is None else {name: getattr(module, name) for name in names}


@contextmanager
def _accelerate_kept() -> Iterator[None]:
    before = {name: dict(kind._shared_state) for name, kind in _shared_states().items()}
    try:
        yield
    finally:
        for name, kind in _shared_states().items():
            values = before.get(name, {})
            if kind._shared_state != values:
                kind._shared_state.clear()  # in place: all instances share it
                kind._shared_state.update(values)
