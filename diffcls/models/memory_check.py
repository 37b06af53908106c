"""Memory check: a model that cannot fit its device is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from diffcls.models import single_file
from diffcls.models.device_memory import free_memory
from diffcls.models.forecast import Forecast, Workload, forecast, readable
from diffcls.models.loading import find
from diffcls.models.memory_options import Quantisation
from diffcls.models.model_index import ModelIndex, read_index
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    import torch

Change = tuple[str, Workload]
"""Flags, and the workload that they give."""


def index_of(name: str, model_config: str | None = None) -> ModelIndex:
    """The index of a model, of which no weights are downloaded or read.

    Args:
        name: see `diffcls.models.loading.find`.
        model_config: for a single file: the name or folder of the model that completes it.

    Raises:
        UsageError, ModelError: see `diffcls.models.loading.find`.
    """
    path = find(name, weights=False).path
    if path.is_file():
        path = find(model_config or single_file.completed_by(path), weights=False).path
    return read_index(path)


def check_memory(of: Forecast) -> None:
    """Refuse a model that needs more memory than its device has free.

    On an accelerator the batch size is halved where memory does not suffice, so there the forecast
    of one row counts.

    Args:
        of: forecast of the model.

    Raises:
        UsageError: with the flags by which it would fit.
    """
    free = free_memory(of.workload.device)
    if free is None:
        return
    least = of
    if of.workload.device != "cpu" and of.workload.batch_size > 1:
        least = forecast(of.index, replace(of.workload, batch_size=1))
    if least.peak.size <= free:
        return
    peak = least.peak
    raise UsageError(
        f"--model does not fit on {of.workload.device}: {peak.name} needs {readable(peak.size)}, "
        f"and {readable(free)} are free",
        todo=remedies(of.index, least.workload, free),
    )


def remedies(index: ModelIndex, work: Workload, free: int) -> str:
    """The flags by which a model would fit, each with the memory that it then needs.

    Single flags where one suffices, else the first combination that does.
    """
    fitting = []
    for flags, changed in _changes(work):
        size = forecast(index, changed).peak.size
        if size <= free:
            fitting.append(f"{flags} ({readable(size)})")
    if fitting:
        return f"add {', or '.join(fitting)}; --no-check-memory tries it nevertheless"
    given: list[str] = []
    size = forecast(index, work).peak.size
    for flags, changed in _cumulative(work):
        given.append(flags)
        size = forecast(index, changed).peak.size
        if size <= free:
            return f"add {' '.join(given)} ({readable(size)})"
    with_flags = f" for {' '.join(given)}" if given else ""
    return f"choose a device with {readable(size)} free{with_flags}, or a smaller model"


def _changes(work: Workload) -> Iterator[Change]:
    """Single changes, from those that leave the numbers as they are to those that do not."""
    options, on_cpu = work.options, work.device == "cpu"
    for rows in _smaller(work.batch_size):
        yield f"--batch-size {rows}", replace(work, batch_size=rows)
    if not options.vae_slicing:
        yield "--vae-slicing", replace(work, options=replace(options, vae_slicing=True))
    by_library = options.quantise is not None or options.device_map is not None
    if options.offload == "none" and not on_cpu and not by_library:
        yield "--offload encoders", replace(work, options=replace(options, offload="encoders"))
    if options.offload != "sequential" and not on_cpu and not by_library:
        yield "--offload sequential", replace(work, options=replace(options, offload="sequential"))
    if work.dtype.itemsize > 2:
        yield "--dtype bfloat16", replace(work, dtype=_half())
    if options.offload == "none" and not by_library:
        for text in ("text:8bit", "text:4bit", "all:8bit", "all:4bit"):
            parts, bits = text.split(":")
            quantise = Quantisation(parts, int(bits[0]))
            changed = replace(work, options=replace(options, quantise=quantise))
            yield f"--quantize {text}", changed


def _cumulative(work: Workload) -> Iterator[Change]:
    """Changes one upon the other, each of which is worth most of its kind."""
    on_cpu = work.device == "cpu"
    by_library = work.options.quantise is not None or work.options.device_map is not None
    if work.dtype.itemsize > 2:
        work = replace(work, dtype=_half())
        yield "--dtype bfloat16", work
    if not work.options.vae_slicing:
        work = replace(work, options=replace(work.options, vae_slicing=True))
        yield "--vae-slicing", work
    if on_cpu and work.batch_size > 1:
        for rows in (4, 1):
            if rows < work.batch_size:
                work = replace(work, batch_size=rows)
        yield f"--batch-size {work.batch_size}", work
    if by_library:
        return
    if not on_cpu and work.options.offload != "sequential":
        work = replace(work, options=replace(work.options, offload="sequential"))
        yield "--offload sequential", work
    elif on_cpu:
        work = replace(work, options=replace(work.options, quantise=Quantisation("all", 4)))
        yield "--quantize all:4bit", work


def _smaller(rows: int) -> Sequence[int]:
    """A quarter of the rows, and a single one."""
    return sorted({max(1, rows // 4), 1} - {rows}, reverse=True)


def _half() -> torch.dtype:
    import torch

    return torch.bfloat16
